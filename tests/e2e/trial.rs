//! One trial: its stage, its body, and what is shown when it fails.

use std::sync::OnceLock;

use anyhow::Result;
use jpat_tests::{leftovers, privileges};
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

/// As [`on`], where the machine has what it needs besides.
pub(crate) fn needing(
    need: fn() -> Result<()>,
    name: impl Into<String>,
    config: impl FnOnce() -> Config + Send + 'static,
    body: impl FnOnce(&mut Stage) -> Result<()> + Send + 'static,
) -> Trial {
    ignorable(
        move || need().map_err(|missing| format!("{missing:#}")),
        name,
        move || {
            let mut stage = Stage::new(config())?;
            body(&mut stage).map_err(|error| error.context(stage.evidence()))
        },
    )
}

/// A trial that builds what it needs.
pub(crate) fn plain(name: impl Into<String>, body: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    ignorable(|| Ok(()), name, body)
}

fn ignorable(
    need: impl FnOnce() -> Result<(), String> + Send + 'static,
    name: impl Into<String>,
    body: impl FnOnce() -> Result<()> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || {
        if let Err(missing) = privileged().map_err(str::to_owned).and_then(|()| need()) {
            if privileges::required() {
                return Err(Failed::from(format!("missing here: {missing}")));
            }
            return Ok(Completion::ignored_with(missing));
        }
        match body() {
            Ok(()) => Ok(Completion::Completed),
            // The cause last: it is what one looks for.
            Err(error) => Err(Failed::from(error.chain().map(|part| format!("{part}\n")).collect::<String>())),
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
