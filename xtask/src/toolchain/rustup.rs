//! A pinned Rust by rustup, with `core` built from rust-src. Needs no root; what it downloads stays in `target/ebpf`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{Route, Toolchain, directory, record};
use crate::{cargo, output};

/// Never a floating channel: its LLVM would move away from the linker's.
const CHANNEL: &str = "1.95.0";

/// The user's own toolchain when it has rust-src, else the one an earlier run brought.
pub(super) fn installed() -> Option<Toolchain> {
    at(rustup()).or_else(|| at(private()))
}

pub(super) fn install() -> Result<Toolchain> {
    ensure!(cargo::ask(rustup().arg("--version")).is_some(), "there is no rustup");
    let home = directory().join("rustup");
    output::step(format_args!(
        "eBPF: downloads Rust {CHANNEL} with rust-src and clippy into {}, 130 MB to download, 660 MB on disk, about 1 minute",
        home.display()
    ));
    let mut command = private();
    command.args(["toolchain", "install", CHANNEL, "--profile", "minimal", "--no-self-update"]);
    cargo::succeed(command.args(["-c", "rust-src", "-c", "clippy"]))?;
    at(private()).context("what rustup brought has no rust-src or no LLVM of its own")
}

fn rustup() -> Command {
    let mut command = cargo::foreign(Path::new("rustup"));
    command.env("RUSTUP_AUTO_INSTALL", "0");
    command
}

/// rustup with a home of its own, so that the user's toolchains stay as they are.
fn private() -> Command {
    let mut command = rustup();
    command.env("RUSTUP_HOME", directory().join("rustup"));
    command
}

fn at(mut rustup: Command) -> Option<Toolchain> {
    let rustc = PathBuf::from(cargo::ask(rustup.args(["which", "--toolchain", CHANNEL, "rustc"]))?.trim());
    let sysroot = rustc.parent()?.parent()?.to_path_buf();
    let source = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
    let toolchain = Toolchain {
        route: Route::Rustup,
        cargo: rustc.with_file_name("cargo"),
        build_std: true,
        llvm: llvm(&sysroot.join("lib"))?,
        version: record::version(&rustc)?,
        rustc,
    };
    (source.exists() && toolchain.still_works()).then_some(toolchain)
}

/// The LLVM inside a Rust toolchain: `libLLVM.so.22.1-rust-1.95.0-stable`.
fn llvm(lib: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(lib).ok()?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.find(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"libLLVM.so.22")))
}

pub(super) fn by_hand() -> String {
    format!(
        "    rustup toolchain install {CHANNEL} --profile minimal -c rust-src -c clippy    # rustup: https://rustup.rs\n"
    )
}
