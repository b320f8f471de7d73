//! One trial: its stage, its body, and what is shown when it fails.

use std::sync::OnceLock;

use anyhow::Result;
use jpat_tests::{guest, leftovers, privileges};
use libtest_mimic::{Completion, Failed, Trial};

use crate::{Stage, config::Config};

/// A trial on a stage of its own with this configuration; `jpatd` is not started yet.
pub(crate) fn on(
    name: impl Into<String>,
    config: impl FnOnce() -> Config + Send + 'static,
    body: impl FnOnce(&mut Stage) -> Result<()> + Send + 'static,
) -> Trial {
    plain(name, move || {
        let mut stage = Stage::new(config())?;
        body(&mut stage).map_err(|error| error.context(stage.evidence()))
    })
}

/// As [`on`], but in the guests of `cargo xtask vm` alone: it sets the clock, or suspends the machine.
pub(crate) fn in_guest(
    name: impl Into<String>,
    config: impl FnOnce() -> Config + Send + 'static,
    body: impl FnOnce(&mut Stage) -> Result<()> + Send + 'static,
) -> Trial {
    let name = name.into();
    if !guest::is_guest() {
        return Trial::ignorable_test(name, || {
            Ok(Completion::ignored_with("it sets the clock or suspends: in the guests of `cargo xtask vm` alone"))
        });
    }
    on(name, config, body)
}

/// As [`on`], where the machine has what `need` asks for: a tool, a controller, a kind of device. Elsewhere the trial is
/// skipped and says what is missing, in CI as well: the guests of `cargo xtask vm` have it.
pub(crate) fn needing<T: 'static>(
    name: impl Into<String>,
    need: impl FnOnce() -> Result<T> + Send + 'static,
    config: impl FnOnce() -> Config + Send + 'static,
    body: impl FnOnce(&mut Stage, T) -> Result<()> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || {
        if let Err(missing) = privileged() {
            return lacking(missing);
        }
        match need() {
            Err(missing) => Ok(Completion::ignored_with(format!("{missing:#}"))),
            Ok(needed) => {
                let done = Stage::new(config())
                    .and_then(|mut stage| body(&mut stage, needed).map_err(|error| error.context(stage.evidence())));
                completed(done)
            }
        }
    })
}

/// A trial that builds what it needs.
pub(crate) fn plain(name: impl Into<String>, body: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || match privileged() {
        Ok(()) => completed(body()),
        Err(missing) => lacking(missing),
    })
}

fn completed(done: Result<()>) -> Result<Completion, Failed> {
    match done {
        Ok(()) => Ok(Completion::Completed),
        // The cause last: it is what one looks for.
        Err(error) => Err(Failed::from(error.chain().map(|part| format!("{part}\n")).collect::<String>())),
    }
}

fn lacking(missing: &str) -> Result<Completion, Failed> {
    if privileges::required() {
        return Err(Failed::from(format!("missing here: {missing}")));
    }
    Ok(Completion::ignored_with(missing))
}

/// Asked once; the first to ask also clears what dead runs left.
fn privileged() -> Result<(), &'static str> {
    static CHECKED: OnceLock<Result<(), String>> = OnceLock::new();
    let checked = CHECKED.get_or_init(|| {
        privileges::check().and_then(|()| leftovers::clear_dead_runs()).map_err(|error| format!("{error:#}"))
    });
    checked.as_ref().copied().map_err(String::as_str)
}
