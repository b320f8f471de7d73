//! `cargo xtask test`.

use std::{
    env,
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{
    cargo,
    clock::Stopwatch,
    elevate, lint, output,
    tally::{self, Tally},
    toolchain,
};

/// Runs the checks and tests: all of them, or one group.
///
/// Groups that need root are raised with sudo; where that cannot be, they are skipped by name, or
/// fail where CI is set. The last line says how many passed, failed and were skipped; the exit
/// code is 1 if any failed.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// One group alone; all in this order if none is named.
    #[arg(value_enum)]
    group: Option<Group>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Group {
    /// Format, clippy (host and BPF), docs, licences and dependencies.
    Lint,
    /// Tests of the crates, without root.
    Unit,
    /// The XDP programs in this kernel: loaded, attached, packet by packet; the grant map under renewals (root).
    Bpf,
    /// Client, stranger and host in network namespaces (root).
    E2e,
}

impl Options {
    pub(crate) fn only(group: Group) -> Self {
        Self { group: Some(group) }
    }
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    toolchain::ensure(None)?;
    let groups = match options.group {
        Some(group) => vec![group],
        None => vec![Group::Lint, Group::Unit, Group::Bpf, Group::E2e],
    };
    let mut results = Vec::new();
    for group in groups {
        let watch = Stopwatch::start();
        let mut tally = Tally::default();
        if let Err(error) = group.run(&mut tally) {
            tally.fail(format!("{error:#}"));
        }
        output::step(format_args!("{}: {:.1} s", group.name(), watch.elapsed().as_secs_f64()));
        results.push((group.name(), tally, watch.elapsed()));
    }
    Ok(if tally::summary(results) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether nobody is there to read a skip: then what cannot run has failed.
pub(crate) fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

impl Group {
    fn name(self) -> &'static str {
        match self {
            Self::Lint => "lint",
            Self::Unit => "unit",
            Self::Bpf => "bpf",
            Self::E2e => "e2e",
        }
    }

    fn run(self, tally: &mut Tally) -> Result<()> {
        match self {
            Self::Lint => lint::run(tally),
            Self::Unit => unit(tally),
            Self::Bpf => raised("xdp", tally).and_then(|()| raised("kernel", tally)),
            Self::E2e => raised("e2e", tally),
        }
    }
}

fn unit(tally: &mut Tally) -> Result<()> {
    let client_alone = ["--package=jpat-userspace", "--no-default-features"];
    for args in [[].as_slice(), &client_alone] {
        let mut command = cargo::cargo();
        command.args(["test", "--no-fail-fast"]).args(args);
        count(&mut command, tally)?;
    }
    Ok(())
}

/// Builds as this user, runs as root.
fn raised(target: &str, tally: &mut Tally) -> Result<()> {
    let programs = cargo::executables(&["build", "--package=jpat-userspace", "--bins"])?;
    let tests = cargo::executables(&["test", "--package=jpat-tests", "--test", target, "--no-run"])?;
    let find = |built: &std::collections::BTreeMap<String, PathBuf>, name: &str| {
        built.get(name).cloned().with_context(|| format!("cargo did not build `{name}`"))
    };
    let (jpatd, jpat, test) = (find(&programs, "jpatd")?, find(&programs, "jpat")?, find(&tests, target)?);

    let Some(means) = elevate::means() else {
        let why = format!("all of `{target}`: it needs root, and sudo cannot give it here");
        if in_ci() {
            tally.fail(why)
        } else {
            tally.skip(why)
        }
        return Ok(());
    };
    let variables: [(&str, &OsStr); 2] = [("JPATD", jpatd.as_os_str()), ("JPAT", jpat.as_os_str())];
    let mut command = elevate::command(means, &test, &variables);
    command.current_dir(cargo::root().join("tests"));
    count(&mut command, tally)
}

/// Runs a command that runs tests, shows what it says and counts it.
fn count(command: &mut Command, tally: &mut Tally) -> Result<()> {
    let shown = cargo::show(command);
    output::step(&shown);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {shown}"))?;
    let stdout = child.stdout.take().context("a piped standard output is there")?;
    let mut own = Tally::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.with_context(|| format!("cannot read what {shown} says"))?;
        let line = String::from_utf8_lossy(&line);
        output::line(&line);
        own.read(&line);
    }
    let status = child.wait().with_context(|| format!("cannot wait for {shown}"))?;
    // A test binary that died, did not compile or ran nothing has no result line of its own.
    if !status.success() && own.failed() == 0 {
        own.fail(format!("{shown}: {status}"));
    } else if own.ran() == 0 {
        own.fail(format!("{shown}: ran no test"));
    }
    tally.add(own);
    Ok(())
}
