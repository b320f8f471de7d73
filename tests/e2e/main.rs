//! End-to-end tests: `jpatd` for real on the protected host's veth, real services behind it, a client and a stranger.
//! Each trial has its own namespaces, so that several run at a time; each is named after the promise it checks.
#![forbid(unsafe_code)]

mod access;
mod addresses;
mod audit_mode;
mod bad_input;
mod commands;
mod config;
mod devices;
mod degraded;
mod disk;
mod evasion;
mod first_run;
mod flows;
mod harness;
mod issuers;
mod lifecycle;
mod overrun;
mod policy;
mod reload;
mod robust;
mod safeguards;
mod sealed;
mod sessions;
mod stage;
mod time;
mod traffic;
mod trial;
mod trial_run;
mod upgrade;

use std::process::ExitCode;

use jpat_tests::{leftovers, signals::Signals};
use libtest_mimic::{Arguments, Trial};

use crate::stage::Stage;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of a trial is waiting for a grant to end.
    arguments.test_threads.get_or_insert(2);
    // Without this an interrupted run is cleared by the next one.
    let _signals = Signals::catch(|| {
        let _resisting = leftovers::clear_own_run();
        std::process::exit(130);
    });
    let shared = bad_input::Shared::default();
    let evasion = evasion::Shared::default();
    let trials: Vec<Trial> = [
        harness::trials(),
        access::trials(),
        addresses::trials(),
        devices::trials(),
        policy::trials(),
        issuers::trials(),
        lifecycle::trials(),
        overrun::trials(),
        sessions::trials(),
        time::trials(),
        upgrade::trials(),
        flows::trials(),
        reload::trials(),
        audit_mode::trials(),
        trial_run::trials(),
        degraded::trials(),
        disk::trials(),
        safeguards::trials(),
        robust::trials(),
        first_run::trials(),
        commands::trials(),
        sealed::trials(),
        bad_input::trials(&shared),
        evasion::trials(&evasion),
    ]
    .into_iter()
    .flatten()
    .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    shared.end();
    evasion.end();
    conclusion.exit_code()
}
