//! `cargo xtask lint`: what CI denies.

mod deny;

use anyhow::{Context, Result, bail};

use crate::{
    cargo, output,
    tally::Tally,
    test,
    toolchain::{self, Toolchain},
};

/// How a check ended that did not fail.
enum Outcome {
    Passed,
    /// With the reason.
    Skipped(String),
}

pub(crate) fn run(tally: &mut Tally) -> Result<()> {
    let toolchain = toolchain::ensure(None)?;
    check(tally, "fmt", || plain(&["fmt", "--all", "--check"]));
    check(tally, "clippy", || plain(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]));
    check(tally, "clippy of the client alone", || {
        plain(&["clippy", "--package=jpat-userspace", "--no-default-features", "--all-targets", "--", "-D", "warnings"])
    });
    check(tally, "the client alone has no aya", client_without_aya);
    check(tally, "clippy of the BPF program", || clippy_bpf(&toolchain));
    check(tally, "doc", doc);
    check(tally, "deny bans licenses sources", deny::offline);
    check(tally, "deny advisories", deny::advisories);
    Ok(())
}

fn check(tally: &mut Tally, name: &str, run: impl FnOnce() -> Result<Outcome>) {
    output::step(format_args!("lint: {name}"));
    match run() {
        Ok(Outcome::Passed) => tally.pass(),
        Ok(Outcome::Skipped(why)) => tally.skip(format!("{name}: {why}")),
        Err(error) => tally.fail(format!("{name}: {error:#}")),
    }
}

fn plain(args: &[&str]) -> Result<Outcome> {
    cargo::succeed(cargo::cargo().args(args))?;
    Ok(Outcome::Passed)
}

fn doc() -> Result<Outcome> {
    let mut command = cargo::cargo();
    command.args(["doc", "--workspace", "--no-deps", "--document-private-items"]);
    cargo::succeed(command.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Outcome::Passed)
}

/// A laptop that only knocks builds nothing of eBPF.
fn client_without_aya() -> Result<Outcome> {
    let mut command = cargo::cargo();
    command.args([
        "tree",
        "--package=jpat-userspace",
        "--no-default-features",
        "--edges=normal,build",
        "--prefix=none",
    ]);
    let tree = cargo::ask(&mut command).context("cargo tree failed")?;
    if !tree.starts_with("jpat-userspace ") {
        bail!("cargo tree does not show jpat-userspace");
    }
    let found: Vec<_> = tree.lines().filter(|line| line.starts_with("aya")).collect();
    if !found.is_empty() {
        bail!("`jpat-userspace --no-default-features` depends on {}", found.join(", "));
    }
    Ok(Outcome::Passed)
}

fn clippy_bpf(toolchain: &Toolchain) -> Result<Outcome> {
    let Some(clippy) = toolchain.clippy() else {
        let why = format!("{} has no clippy (on Debian: rust-web-clippy)", toolchain.version);
        if test::in_ci() {
            bail!(why);
        }
        return Ok(Outcome::Skipped(why));
    };
    // The driver itself, not `cargo clippy`: that would find the one of rustup first.
    let mut command = toolchain.bpf(&clippy, "clippy");
    command.args(["--bins", "--", "-D", "warnings"]);
    cargo::succeed(&mut command)?;
    Ok(Outcome::Passed)
}
