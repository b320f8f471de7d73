//! `cargo xtask`: builds, checks and runs JPAT. One file per verb; everything it makes lies under `target/`.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod cargo;
mod clock;
mod elevate;
mod fuzz;
mod lint;
mod output;
mod run;
mod tally;
mod test;
mod toolchain;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, checks and runs JPAT.
///
/// Call it as yourself: it builds under your account and raises only what needs root (with sudo),
/// saying so first. On a fresh machine the first `build`, `run` or `test` brings the eBPF tool
/// chain by itself.
#[derive(Parser)]
#[command(verbatim_doc_comment, name = "cargo xtask", bin_name = "cargo xtask", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Run(run::Options),
    Test(test::Options),
    Build(build::Options),
    Bench(bench::Options),
    Fuzz(fuzz::Options),
    /// Checks format, lints, docs, licences and dependencies: the same as `test lint`.
    #[command(verbatim_doc_comment)]
    Lint,
    Toolchain(toolchain::Options),
    Vm(vm::Options),
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Run(options) => run::run(options),
        Verb::Test(options) => test::run(&options),
        Verb::Build(options) => build::run(&options),
        Verb::Bench(options) => bench::run(options),
        Verb::Fuzz(options) => fuzz::run(&options),
        Verb::Lint => test::run(&test::Options::only(test::Group::Lint)),
        Verb::Toolchain(options) => toolchain::run(&options),
        Verb::Vm(options) => vm::run(options),
    };
    result.unwrap_or_else(|error| {
        output::error(&error);
        ExitCode::FAILURE
    })
}
