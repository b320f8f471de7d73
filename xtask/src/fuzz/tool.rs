//! cargo-fuzz, and how it is called.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::directory;
use crate::{cargo, output};

const VERSION: &str = "0.13.2";

/// cargo-fuzz, installed under `target/fuzz`.
pub(super) struct Tool {
    program: PathBuf,
    sanitizer: &'static str,
}

impl Tool {
    /// Installs it where it is missing.
    pub(super) fn bring() -> Result<Self> {
        let root = directory().join("tools");
        let program = root.join("bin/cargo-fuzz");
        let version = cargo::ask(Command::new(&program).arg("--version"));
        if version.is_none_or(|version| version.trim() != format!("cargo-fuzz {VERSION}")) {
            output::step(format_args!("installs cargo-fuzz {VERSION} into target/fuzz (once, about a minute)"));
            let mut command = cargo::cargo();
            command.args(["install", "cargo-fuzz", "--version", VERSION, "--locked", "--debug", "--force", "--root"]);
            cargo::succeed(command.arg(&root).arg("--target-dir").arg(directory().join("tools-build")))?;
        }
        // What is searched has the versions of the workspace; cargo adds what libFuzzer needs.
        let (from, to) = (cargo::root().join("Cargo.lock"), fuzz_directory().join("Cargo.lock"));
        fs::copy(&from, &to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        Ok(Self { program, sanitizer: sanitizer() })
    }

    /// Builds a target, instrumented.
    pub(super) fn build(&self, target: &str) -> Result<()> {
        output::step(format_args!("builds `{target}`, instrumented (the first time everything: some minutes)"));
        cargo::succeed(self.command("build").arg(target))
    }

    /// `cargo fuzz VERB` with what every call needs; the target and its own arguments are to follow.
    pub(super) fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(cargo::root()).arg(verb).arg("--fuzz-dir").arg(fuzz_directory());
        command.arg("--target-dir").arg(directory().join("build")).args(["--sanitizer", self.sanitizer]);
        // Instrumentation is what the stable compiler hides.
        command.env("RUSTC_BOOTSTRAP", "1");
        command
    }
}

/// Not every distribution's compiler has the run-time library of the address sanitizer. Without it, Rust's own checks are left.
fn sanitizer() -> &'static str {
    let libraries = cargo::ask(Command::new("rustc").args(["--print", "target-libdir"]));
    let entries = libraries.and_then(|directory| fs::read_dir(Path::new(directory.trim())).ok());
    let mut names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
    if names.any(|name| name.to_string_lossy().ends_with("rt.asan.a")) {
        return "address";
    }
    output::step("this compiler has no address sanitizer: searches without it");
    "none"
}

fn fuzz_directory() -> PathBuf {
    cargo::root().join("tests/fuzz/libfuzzer")
}
