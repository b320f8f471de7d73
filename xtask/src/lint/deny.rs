//! cargo-deny: licences, banned crates, sources, advisories. `deny.toml` has the rules.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use super::Outcome;
use crate::{cargo, output};

const VERSION: &str = "0.20.2";

/// What needs nothing but the lock file and the registry's copies.
pub(super) fn offline() -> Result<Outcome> {
    cargo::succeed(deny()?.args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]))?;
    Ok(Outcome::Passed)
}

/// Known vulnerabilities; the database is fetched anew.
pub(super) fn advisories() -> Result<Outcome> {
    if cargo::succeed(deny()?.args(["fetch", "db"])).is_err() {
        return Ok(Outcome::Skipped("the advisory database cannot be fetched".to_owned()));
    }
    cargo::succeed(deny()?.args(["check", "--disable-fetch", "advisories"]))?;
    Ok(Outcome::Passed)
}

/// cargo-deny, built on first use.
fn deny() -> Result<Command> {
    let tools = cargo::root().join("target/tools");
    let binary: PathBuf = tools.join("bin/cargo-deny");
    let known = cargo::ask(Command::new(&binary).arg("--version"));
    if known.is_none_or(|answer| answer.trim() != format!("cargo-deny {VERSION}")) {
        output::step(format_args!("lint: builds cargo-deny {VERSION} into {}, about 2 minutes", tools.display()));
        let mut install = cargo::cargo();
        // Unoptimised it checks in a second and builds in a third of the time.
        install.args([
            "install",
            "cargo-deny",
            "--version",
            VERSION,
            "--locked",
            "--debug",
            "--force",
            "--quiet",
            "--root",
        ]);
        cargo::succeed(install.arg(&tools).env("CARGO_PROFILE_DEV_DEBUG", "0"))?;
    }
    let mut command = Command::new(binary);
    command.current_dir(cargo::root());
    Ok(command)
}
