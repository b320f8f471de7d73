//! `cargo xtask bench`.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};

use crate::{
    cargo, output, run,
    toolchain::{self, Toolchain},
};

/// Measures, in network namespaces and built with optimisations: `cargo xtask bench datapath`.
///
/// Needs root (sudo) for the namespaces and the XDP program.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to measure, with its options; `--help` lists them.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub(crate) fn run(options: Options) -> Result<ExitCode> {
    let toolchain = toolchain::ensure(None)?;
    let peers = peers(&toolchain)?;
    let build = ["build", "--release", "--package=jpat-userspace", "--package=jpat-tests", "--bins"];
    let built = cargo::executables(&build)?;
    let find = |name| built.get(name).with_context(|| format!("cargo did not build `{name}`"));
    let variables = [
        ("JPATD", find("jpatd")?.as_os_str()),
        ("JPAT", find("jpat")?.as_os_str()),
        ("JPAT_BENCH_PEERS", peers.as_os_str()),
    ];
    run::become_raised(find("bench")?, &variables, options.args)
}

/// Builds the programs that JPAT's own is compared with.
fn peers(toolchain: &Toolchain) -> Result<PathBuf> {
    let mut command = toolchain.bpf(&toolchain.cargo, "build");
    command.args(["--quiet", "--locked", "--bin=jpat-bench"]);
    output::step("builds the eBPF programs to compare with");
    cargo::succeed(&mut command)?;
    Ok(toolchain::directory().join("build").join(toolchain::TARGET).join("release/jpat-bench"))
}
