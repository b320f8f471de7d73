//! The lab: a client, a stranger and a protected host in network namespaces, an issuer, a demo HTTPS service, and
//! `jpatd` for real in front of it. Touches no interface of this machine.
#![forbid(unsafe_code)]

mod events;
mod guide;
mod lock;
mod output;
mod stage;
mod story;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use jpat_tests::{privileges, signals::Signals};

use crate::{lock::Lock, stage::Stage};

/// Life of a grant: long enough to look at, short enough to wait for.
const TTL: Duration = Duration::from_secs(10);
/// The same with `--once`.
const TTL_ONCE: Duration = Duration::from_secs(3);

/// JPAT in network namespaces: type what it prints in a second terminal. `cargo xtask run` builds and starts it.
#[derive(Parser, Debug)]
#[command(name = "lab")]
struct Options {
    /// Play the story once, as a check, and end: exit code 1 if any step was not as it should be
    #[arg(long)]
    once: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(format_args!("lab: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "this needs root: start it with `cargo xtask run`, which elevates");
    let signals = Signals::catch(|| {})?;
    let _lock = Lock::take()?;
    stage::clear()?;
    privileges::check().context("this machine cannot run the lab")?;
    let ttl = if options.once { TTL_ONCE } else { TTL };
    let mut stage = Stage::build(ttl)?;
    let played = if options.once { story::play(&stage, &signals, ttl) } else { show(&mut stage, &signals, ttl) };
    let output = stage.jpatd_output();
    drop(stage);
    if let Err(error) = played {
        if !signals.caught() {
            output::complain(format_args!("--- jpatd wrote\n{output}---"));
        }
        return Err(error);
    }
    if !options.once {
        output::say("lab: cleaned up");
    }
    Ok(())
}

/// Prints what to type and then what happens, until a signal comes.
fn show(stage: &mut Stage, signals: &Signals, ttl: Duration) -> Result<()> {
    output::say(guide::text(stage, ttl)?);
    let mut seen = 0;
    while !signals.caught() {
        for line in stage.events_since(&mut seen) {
            output::say(events::readable(&line));
        }
        if let Some(status) = stage.jpatd_ended()? {
            bail!("jpatd ended by itself: {status}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
