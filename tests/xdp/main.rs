//! The shipped eBPF object in the kernel: the verifier takes it, and by `BPF_PROG_TEST_RUN` it does to every frame what
//! the same code does on the host.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what was measured, and why trials are ignored")]

mod abi;
mod cost;
mod filter;
mod flows;
mod frames;
mod grants;
mod kernel;
mod knocks;
mod modes;
mod programs;
#[path = "../oracle/mod.rs"]
mod oracle;

use std::process::ExitCode;

use anyhow::{Context, Result};
use aya::maps::{Array, MapData};
use jpat_tests::privileges;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::kernel::Lacks;

/// One test.
type Case = (&'static str, fn() -> Result<()>);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let missing = bpf_available().err();
    if let Some(missing) = &missing {
        eprintln!("BPF programs cannot be run here: {missing:#}");
    }
    let ignored = missing.is_some() && !privileges::required();
    let cases = [abi::CASES, flows::CASES, frames::CASES, grants::CASES, knocks::CASES, modes::CASES, programs::CASES];
    let trials = cases
        .into_iter()
        .flatten()
        .chain(filter::cases())
        .map(|(name, case)| Trial::ignorable_test(*name, move || outcome(case())).with_ignored_flag(ignored));
    let made = cost::trials().into_iter().chain(oracle::trials()).map(|trial| trial.with_ignored_flag(ignored));
    let trials = trials.chain(made).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A case that needs what this kernel has not got is skipped and says so.
fn outcome(result: Result<()>) -> Result<Completion, Failed> {
    match result {
        Ok(()) => Ok(Completion::Completed),
        Err(error) => match error.downcast_ref::<Lacks>() {
            Some(lacks) => Ok(Completion::ignored_with(lacks)),
            None => Err(format!("{error:#}").into()),
        },
    }
}

fn bpf_available() -> Result<()> {
    Array::<MapData, u32>::create(1, 0).map(drop).context("make a BPF map (as root, or with CAP_BPF and CAP_NET_ADMIN)")
}
