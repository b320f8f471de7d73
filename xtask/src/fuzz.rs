//! `cargo xtask fuzz`: libFuzzer over the targets of `tests/fuzz`, on the stable compiler.
//!
//! Everything it makes lies under `target/fuzz`: cargo-fuzz, the instrumented build, seeds, what searches found.

mod run;
mod tool;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::ValueEnum;

use self::{run::Found, tool::Tool};
use crate::{cargo, output, toolchain};

/// Searches for bytes that break what the fuzz targets assert: all of them, one after the other, or one.
///
/// The first run installs cargo-fuzz under target/fuzz and builds everything once more, instrumented:
/// some minutes. A search goes on where the last one ended. The last lines say how many inputs were
/// tried and what they reached; the exit code is 1 if any broke something, and the input is kept.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// One target alone.
    #[arg(value_enum)]
    target: Option<Target>,
    /// How long to search, each.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Afterwards replace the corpus in tests/fuzz/corpus by few inputs that reach what was reached.
    #[arg(long)]
    minimise: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    /// A frame through the program's parser, decision and filter.
    Wire,
    /// The inner message of a sealed knock, and the message of a reply.
    Sealed,
    /// A bare knock, its token, and the verifier.
    Jwt,
    /// A JWK Set, or a key in PEM.
    Jwks,
    /// A configuration and its rules.
    Config,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    toolchain::ensure(None)?;
    let tool = Tool::bring()?;
    seed()?;
    let targets = options.target.map_or_else(|| Target::value_variants().to_vec(), |target| vec![target]);
    let mut results = Vec::new();
    for target in targets {
        let name = target.name();
        tool.build(name)?;
        let found = run::search(&tool, name, options.seconds)?;
        if options.minimise && found.artefact.is_none() {
            run::minimise(&tool, name)?;
        }
        results.push((name, found));
    }
    Ok(report(&results))
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::Sealed => "sealed",
            Self::Jwt => "jwt",
            Self::Jwks => "jwks",
            Self::Config => "config",
        }
    }
}

/// Inputs to begin with: the vectors, the README's configurations, the frames of the evasion table.
fn seed() -> Result<()> {
    let seeds = directory().join("seeds");
    let mut command = cargo::cargo();
    command.args(["run", "--quiet", "--package=jpat-fuzz", "--example=seeds", "--"]).arg(&seeds);
    output::step("writes seeds");
    cargo::succeed(&mut command)
}

fn report(results: &[(&str, Found)]) -> ExitCode {
    output::line(format_args!(
        "{:8} {:>12} {:>9} {:>7} {:>9} {:>14}",
        "target", "inputs", "per s", "edges", "features", "corpus"
    ));
    for (name, found) in results {
        let Found { inputs, per_second, edges, features, corpus, .. } = found;
        output::line(format_args!("{name:8} {inputs:>12} {per_second:>9} {edges:>7} {features:>9} {corpus:>14}"));
    }
    let mut code = ExitCode::SUCCESS;
    for (name, found) in results {
        if let Some(artefact) = &found.artefact {
            output::line(format_args!(
                "{name}: FINDING, kept in {artefact}: mend it, and add it to tests/fuzz/regressions/{name}"
            ));
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// Where everything of this verb lies.
fn directory() -> PathBuf {
    cargo::root().join("target/fuzz")
}

/// Where inputs of a target are checked in: `corpus` or `regressions`. Made if it is not there.
fn checked_in(kind: &str, target: &str) -> Result<PathBuf> {
    made(cargo::root().join("tests/fuzz").join(kind).join(target))
}

/// A directory of this kind for a target under `target/fuzz`. Made if it is not there.
fn own(kind: &str, target: &str) -> Result<PathBuf> {
    made(directory().join(kind).join(target))
}

fn made(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}
