//! What differs from kernel to kernel: whether the verifier takes the programs, where they attach, and whether the grant
//! map keeps what it holds. `cargo xtask vm` runs this in each kernel; it also runs on the host.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "what was measured")]

mod load;
mod lru;

use std::{process::ExitCode, sync::OnceLock};

use anyhow::Result;
use jpat_tests::{leftovers, privileges};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

fn main() -> ExitCode {
    let trials = [load::trials(), lru::trials()].into_iter().flatten().collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// How a trial ended that did not fail.
enum Outcome {
    Passed,
    /// This kernel lacks what the trial is about.
    Lacks(&'static str),
}

fn trial(name: impl Into<String>, body: impl FnOnce() -> Result<Outcome> + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || {
        if let Err(missing) = privileged() {
            if privileges::required() {
                return Err(Failed::from(format!("missing here: {missing}")));
            }
            return Ok(Completion::ignored_with(missing));
        }
        match body() {
            Ok(Outcome::Passed) => Ok(Completion::Completed),
            Ok(Outcome::Lacks(what)) => Ok(Completion::ignored_with(what)),
            Err(error) => Err(Failed::from(format!("{error:#}"))),
        }
    })
}

/// Asked once; the first to ask also clears what dead runs left.
fn privileged() -> Result<(), &'static str> {
    static CHECKED: OnceLock<Result<(), String>> = OnceLock::new();
    let checked = CHECKED.get_or_init(|| {
        privileges::check().and_then(|()| leftovers::clear_dead_runs()).map_err(|error| format!("{error:#}"))
    });
    checked.as_ref().copied().map_err(String::as_str)
}
