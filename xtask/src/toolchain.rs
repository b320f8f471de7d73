//! `cargo xtask toolchain`: a compiler that knows the BPF target, and bpf-linker over the same LLVM.
//!
//! `jpat-userspace/build.rs` reads what is recorded here; see [`record`].

mod bpf;
mod debian;
mod linker;
mod record;
mod rustup;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::ValueEnum;

pub(crate) use bpf::TARGET;
pub(crate) use record::Toolchain;

use crate::{cargo, output};

/// Brings the eBPF tool chain, once, under target/ebpf.
///
/// `build`, `run`, `lint` and `test` do this by themselves. There are two routes: `rustup` downloads
/// a pinned Rust into target/ebpf and needs no root; `debian` installs packages (Debian 12 and newer)
/// with apt. What is already installed is taken first, then rustup is tried, then Debian. To start
/// over, remove target/ebpf.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// Take this route and no other.
    #[arg(long)]
    route: Option<Route>,
}

/// Where the compiler for the BPF target comes from.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    /// Rust 1.95.0 with rust-src by rustup; bpf-linker uses that compiler's own LLVM.
    Rustup,
    /// Debian's packages rustc-web, libstd-rust-web-dev-bpf and llvm-22-dev.
    Debian,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let toolchain = ensure(options.route)?;
    output::line(format_args!("eBPF tool chain ({}): {}", toolchain.route.name(), toolchain.version));
    Ok(ExitCode::SUCCESS)
}

/// Returns the tool chain, bringing it first where it is missing. Silent and quick when it is there.
pub(crate) fn ensure(route: Option<Route>) -> Result<Toolchain> {
    let recorded = Toolchain::recorded().filter(|known| known.still_works() && linker::runs());
    if let Some(known) = recorded
        && route.is_none_or(|route| route == known.route)
    {
        return Ok(known);
    }
    Toolchain::forget()?;
    let toolchain = match installed(route) {
        Some(found) => found,
        None => install(route)?,
    };
    linker::build(&toolchain)?;
    toolchain.record()?;
    Ok(toolchain)
}

/// `target/ebpf`: `.cargo/config.toml` names the linker in it, so it does not follow `CARGO_TARGET_DIR`.
pub(crate) fn directory() -> PathBuf {
    cargo::root().join("target/ebpf")
}

fn installed(route: Option<Route>) -> Option<Toolchain> {
    let found = match route {
        Some(Route::Debian) => debian::installed(),
        Some(Route::Rustup) => rustup::installed(),
        None => debian::installed().or_else(rustup::installed),
    };
    if let Some(found) = &found {
        output::step(format_args!("eBPF: uses {} ({})", found.rustc.display(), found.version));
    }
    found
}

fn install(route: Option<Route>) -> Result<Toolchain> {
    let order: &[Route] = match route {
        Some(Route::Rustup) => &[Route::Rustup],
        Some(Route::Debian) => &[Route::Debian],
        None => &[Route::Rustup, Route::Debian],
    };
    let mut failures = Vec::new();
    for route in order {
        let result = match route {
            Route::Rustup => rustup::install(),
            Route::Debian => debian::install(),
        };
        match result {
            Ok(toolchain) => return Ok(toolchain),
            Err(error) => {
                output::step(format_args!("eBPF: not by {}: {error:#}", route.name()));
                failures.push(route.by_hand());
            }
        }
    }
    bail!(
        "the eBPF tool chain is missing and could not be installed; by hand, then start again:\n{}",
        failures.join("or\n")
    );
}

impl Route {
    fn name(self) -> &'static str {
        match self {
            Self::Rustup => "rustup",
            Self::Debian => "debian",
        }
    }

    fn by_hand(self) -> String {
        match self {
            Self::Rustup => rustup::by_hand(),
            Self::Debian => debian::by_hand(),
        }
    }
}
