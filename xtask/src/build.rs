//! `cargo xtask build`.

use std::process::ExitCode;

use anyhow::Result;

use crate::{cargo, toolchain};

/// Brings the eBPF tool chain if it is not there, then calls `cargo build`.
///
/// Once the tool chain is there, a plain `cargo build` does the same.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Build with optimisations.
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    toolchain::ensure(None)?;
    let mut command = cargo::cargo();
    command.arg("build");
    if options.release {
        command.arg("--release");
    }
    cargo::succeed(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
