//! `cargo xtask bench`.

use std::{ffi::OsString, process::ExitCode};

use anyhow::{Context, Result};

use crate::{cargo, run, toolchain};

/// Measures, in network namespaces and built with optimisations: `cargo xtask bench knock`.
///
/// Needs root (sudo) for the namespaces and the XDP program.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to measure, with its options; `--help` lists them.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub(crate) fn run(options: Options) -> Result<ExitCode> {
    toolchain::ensure(None)?;
    let build = ["build", "--release", "--package=jpat-userspace", "--package=jpat-tests", "--bins"];
    let built = cargo::executables(&build)?;
    let find = |name| built.get(name).with_context(|| format!("cargo did not build `{name}`"));
    let variables = [("JPATD", find("jpatd")?.as_os_str()), ("JPAT", find("jpat")?.as_os_str())];
    run::become_raised(find("bench")?, &variables, options.args)
}
