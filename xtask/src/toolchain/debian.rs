//! Debian's packages: a `core` built for the BPF target, so neither rust-src nor build-std.

use std::{ffi::OsStr, fs, path::Path};

use anyhow::{Context, Result, bail, ensure};

use super::{Route, Toolchain, record};
use crate::{cargo, elevate, output};

/// `rust-web-clippy` lints the BPF program; the other four build it.
const PACKAGES: [&str; 5] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf", "rust-web-clippy", "llvm-22-dev"];
const LLVM: &str = "/usr/lib/llvm-22/lib/libLLVM.so";
/// The oldest minor version of Rust 1 that builds the BPF crate.
const OLDEST: u32 = 95;

pub(super) fn installed() -> Option<Toolchain> {
    let rustc = Path::new("/usr/bin/rustc");
    let verbose = cargo::ask(cargo::foreign(rustc).arg("-vV"))?;
    let sysroot = cargo::ask(cargo::foreign(rustc).args(["--print", "sysroot"]))?;
    let core = Path::new(sysroot.trim()).join("lib/rustlib/bpfel-unknown-none/lib");
    let toolchain = Toolchain {
        route: Route::Debian,
        cargo: "/usr/bin/cargo".into(),
        rustc: rustc.into(),
        build_std: false,
        llvm: fs::canonicalize(LLVM).ok()?,
        version: record::version(rustc)?,
    };
    let fits = is_fit(&verbose) && core.exists();
    (fits && toolchain.still_works()).then_some(toolchain)
}

/// Whether `rustc -vV` tells of a compiler new enough and with the LLVM that bpf-linker is built over.
fn is_fit(verbose: &str) -> bool {
    let field = |name: &str| verbose.lines().find_map(|line| line.strip_prefix(name));
    let new_enough = field("release: 1.").and_then(|rest| rest.split('.').next()?.parse().ok());
    new_enough.is_some_and(|minor: u32| minor >= OLDEST) && field("LLVM version: 22.").is_some()
}

pub(super) fn install() -> Result<Toolchain> {
    let apt = Path::new("/usr/bin/apt-get");
    ensure!(apt.exists(), "there is no apt-get");
    let means = elevate::means().context("installing packages needs root, and sudo cannot give it here")?;
    let apt_get = |args: &[&str]| {
        let mut command = elevate::command(means, apt, &[("DEBIAN_FRONTEND", OsStr::new("noninteractive"))]);
        command.args(args);
        output::step(cargo::show(&command));
        cargo::succeed(&mut command)
    };

    output::step(format_args!(
        "eBPF: installs Debian packages {}: 220 MB to download, 1.2 GB on disk, about 1 minute",
        PACKAGES.join(" ")
    ));
    apt_get(&["update", "-q"])?;
    refuse_removals()?;
    apt_get(&[["install", "-q", "-y", "--no-remove", "--no-install-recommends"].as_slice(), &PACKAGES].concat())?;
    installed().context("the packages are installed, but do not fit: rustc 1.95 or newer over LLVM 22 is needed")
}

/// `rustc-web` conflicts with Debian's `rustc` and `rustup` packages: what the user has is not removed.
fn refuse_removals() -> Result<()> {
    let mut simulate = cargo::foreign(Path::new("/usr/bin/apt-get"));
    simulate.args(["-s", "install", "--no-install-recommends"]).args(PACKAGES);
    let plan =
        cargo::ask(&mut simulate).context("apt does not know these packages here (they are Debian's, 12 and newer)")?;
    let removed = removals(&plan);
    if !removed.is_empty() {
        bail!("apt would remove {}: yours to decide", removed.join(", "));
    }
    Ok(())
}

/// The packages that a plan of `apt-get -s` removes.
fn removals(plan: &str) -> Vec<&str> {
    plan.lines().filter_map(|line| line.strip_prefix("Remv ")?.split(' ').next()).collect()
}

pub(super) fn by_hand() -> String {
    format!("    sudo apt-get update\n    sudo apt-get install --no-install-recommends {}\n", PACKAGES.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_fits_from_1_95_on_over_llvm_22() {
        assert!(is_fit("rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.2\n"));
        assert!(is_fit("release: 1.95.0\nLLVM version: 22.1.8\n"));
        assert!(!is_fit("release: 1.85.0\nLLVM version: 19.1.7\n"));
        assert!(!is_fit("release: 1.98.0\nLLVM version: 23.1.0\n"));
        assert!(!is_fit(""));
    }

    #[test]
    fn a_plan_that_removes_something_names_it() {
        let plan =
            "Remv rustc [1.63.0+dfsg1-2]\nInst rustc-web (1.96.0 Debian:12.11/oldstable [amd64])\nRemv rustup [1.2]\n";
        assert_eq!(removals(plan), ["rustc", "rustup"]);
        assert!(removals("Inst llvm-22-dev (1:22.1.8 Debian [amd64])\nConf llvm-22-dev\n").is_empty());
    }
}
