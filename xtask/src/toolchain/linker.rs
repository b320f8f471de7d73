//! bpf-linker, built over the LLVM of the compiler whose bitcode it reads.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use super::{Toolchain, directory};
use crate::{cargo, output};

const VERSION: &str = "0.13.0";

/// Builds the linker unless one over the same LLVM is there.
pub(super) fn build(toolchain: &Toolchain) -> Result<()> {
    let lib = directory().join("llvm/lib");
    if fs::read_link(lib.join("libLLVM.so")).is_ok_and(|target| target == toolchain.llvm) && runs() {
        return Ok(());
    }
    link_llvm(&lib, &toolchain.llvm)?;

    output::step(format_args!("eBPF: builds bpf-linker {VERSION} into {}, about 1 minute", directory().display()));
    let mut install = cargo::cargo();
    install.args(["install", "bpf-linker", "--version", VERSION, "--locked", "--force", "--quiet"]);
    install.args(["--no-default-features", "--features", "llvm-22", "--root"]).arg(directory());
    install.env("LLVM_PREFIX", directory().join("llvm"));
    // LLVM does the work; what is compiled here only drives it.
    install.envs([("CARGO_PROFILE_RELEASE_DEBUG", "0"), ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")]);
    cargo::succeed(&mut install)?;
    ensure!(runs(), "bpf-linker was built, but does not start: {}", binary().display());
    Ok(())
}

/// Whether the linker is there and finds its LLVM.
pub(super) fn runs() -> bool {
    cargo::ask(cargo::foreign(&binary()).arg("--version")).is_some_and(|answer| answer.trim().ends_with(VERSION))
}

fn binary() -> PathBuf {
    directory().join("bin/bpf-linker")
}

/// A directory with nothing but this LLVM, under the name that the build asks for and the one that the loader asks for.
fn link_llvm(lib: &Path, llvm: &Path) -> Result<()> {
    let soname = llvm.file_name().with_context(|| format!("{} is no library", llvm.display()))?;
    if lib.exists() {
        fs::remove_dir_all(lib).with_context(|| format!("cannot clear {}", lib.display()))?;
    }
    fs::create_dir_all(lib).with_context(|| format!("cannot make {}", lib.display()))?;
    for name in ["libLLVM.so".as_ref(), soname] {
        symlink(llvm, lib.join(name))
            .with_context(|| format!("cannot link {} in {}", llvm.display(), lib.display()))?;
    }
    Ok(())
}
