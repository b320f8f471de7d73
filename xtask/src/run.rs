//! `cargo xtask run`.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt,
    path::{Path, PathBuf, absolute},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};

use crate::{cargo, elevate, output, toolchain};

/// Runs JPAT: the lab in network namespaces, or with --config the controller on this host.
///
/// The lab has a client, a stranger and a protected host, an issuer and a demo service. It touches
/// no interface of this host, prints what to type, and clears up on Ctrl-C. It needs root (sudo)
/// for the namespaces and the XDP program.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Play the lab's story once, as a check, and end: exit code 1 if any step was not as it should be.
    #[arg(long, conflicts_with = "config")]
    once: bool,
    /// Run `jpatd run --config FILE` on this host, built with optimisations.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Passed on to the lab or to `jpatd run`.
    #[arg(last = true)]
    args: Vec<OsString>,
}

pub(crate) fn run(options: Options) -> Result<ExitCode> {
    toolchain::ensure(None)?;
    match options.config {
        Some(config) => host(&config, options.args),
        None => lab(options.once, options.args),
    }
}

fn lab(once: bool, args: Vec<OsString>) -> Result<ExitCode> {
    let built = cargo::executables(&["build", "--package=jpat-userspace", "--package=jpat-tests", "--bins"])?;
    let find = |name| built.get(name).with_context(|| format!("cargo did not build `{name}`"));
    let variables = [("JPATD", find("jpatd")?.as_os_str()), ("JPAT", find("jpat")?.as_os_str())];
    let once = once.then(|| OsString::from("--once"));
    become_raised(find("lab")?, &variables, once.into_iter().chain(args).collect())
}

fn host(config: &Path, args: Vec<OsString>) -> Result<ExitCode> {
    let config = absolute(config).with_context(|| format!("cannot resolve {}", config.display()))?;
    let built = cargo::executables(&["build", "--release", "--package=jpat-userspace", "--bin=jpatd"])?;
    let jpatd = built.get("jpatd").context("cargo did not build `jpatd`")?;
    let fixed = ["run".into(), "--config".into(), config.into_os_string()];
    become_raised(jpatd, &[], fixed.into_iter().chain(args).collect())
}

/// Replaces xtask by the raised program, so that Ctrl-C and other signals reach it and the shell waits for its clean-up.
pub(crate) fn become_raised(program: &Path, variables: &[(&str, &OsStr)], args: Vec<OsString>) -> Result<ExitCode> {
    let Some(means) = elevate::means() else {
        let line = elevate::by_hand(program, variables, &args);
        bail!("this needs root, and sudo cannot give it here; as a user who may:\n    {line}");
    };
    let mut command = elevate::command(means, program, variables);
    output::step(cargo::show(command.args(args)));
    Err(command.exec()).with_context(|| format!("cannot start {}", cargo::show(&command)))
}
