//! Upgrades from the layout before: promise P4 while program, maps and pins change.

mod interrupted;
mod refused;

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    earlier,
    network::{Family, Member},
    probe::Port,
    wait,
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::{
    config::HTTPS,
    stage::Stage,
    traffic::{self, PORTS, Traffic},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("p4_a_hundred_upgrades_leak_nothing_and_lose_nothing", upgrades),
        trial("p4_an_upgrade_killed_at_any_moment_leaks_nothing_and_loses_nothing", killed),
    ];
    trials.extend(interrupted::trials());
    trials.extend(refused::trials());
    trials
}

/// A trial that goes back to layout 1.
fn trial(name: impl Into<String>, body: impl FnOnce(&mut Stage) -> Result<()> + Send + 'static) -> Trial {
    trial::needing(name, earlier::loads, traffic::config, |stage, ()| body(stage))
}

fn upgrades(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let traffic = Traffic::start(stage)?;
    for number in 1..=traffic::cycles(100)? {
        let drops = stage.metrics()?.packets("no_grant");
        stage.end(Signal::SIGTERM)?;
        earlier::go_back(&stage.pins, &PORTS).with_context(|| format!("way back {number}"))?;
        stage.start(&[]).with_context(|| format!("upgrade {number}"))?;
        is_upgraded(stage)?;
        ensure!(stage.metrics()?.packets("no_grant") >= drops, "the counters began anew");
    }
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open).context("the client's other service")?;
    traffic.finish(stage)?;
    stage.admin_ok(&["grants", "flush"])?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent).context("after a flush")
}

/// A crash loop during an upgrade: each start lives a little longer than the one before.
fn killed(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let traffic = Traffic::start(stage)?;
    stage.end(Signal::SIGKILL)?;
    earlier::go_back(&stage.pins, &PORTS)?;
    let begin = wait::now();
    stage.start(&[])?;
    let longest = begin.until(wait::now()) * 3 / 2;
    stage.end(Signal::SIGKILL)?;
    let (lives, mut finished) = (traffic::cycles(60)?, 0);
    for life in 0..lives {
        if !earlier::before(&stage.pins).exists() {
            earlier::go_back(&stage.pins, &PORTS)?;
        }
        stage.launch(&[])?;
        std::thread::sleep(longest * life / lives);
        stage.end(Signal::SIGKILL)?;
        finished += u32::from(!earlier::before(&stage.pins).exists());
    }
    ensure!((1..lives).contains(&finished), "{finished} of {lives} lives were long enough");
    stage.start(&[])?;
    is_upgraded(stage)?;
    traffic.finish(stage)
}

/// The new layout is pinned, nothing is left of the old one, and the client's grants are known.
fn is_upgraded(stage: &Stage) -> Result<()> {
    let (new, old) = (earlier::now(&stage.pins), earlier::before(&stage.pins));
    ensure!(!earlier::links(&new)?.is_empty() && !old.exists(), "{} is still there", old.display());
    let grants = stage.admin_ok(&["grants", "list"])?;
    ensure!(grants.contains(&Member::Client.address(Family::V4).to_string()), "{grants}");
    Ok(())
}
