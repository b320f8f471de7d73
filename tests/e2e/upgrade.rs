//! Upgrades from the layouts before: promise P4 while program, maps and pins change.

mod interrupted;
mod refused;

use anyhow::{Context, Result, ensure};
use jpat_common::settings::Protocol;
use jpat_tests::{
    earlier::{self, Layout},
    network::{Family, Member},
    probe::{self, Port},
    wait,
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::{
    config::{DB, HTTPS},
    flows,
    stage::Stage,
    traffic::{self, PORTS, Traffic},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![trial::needing(
        "p4_a_flow_without_a_grant_goes_on_through_upgrades_from_layout_2",
        || Layout::V2.loads(),
        || flows::services("keep", "1s"),
        |stage, ()| flows_go_on(stage),
    )];
    for layout in Layout::ALL {
        trials.extend([
            trial("p4_a_hundred_upgrades_leak_nothing_and_lose_nothing", layout, upgrades),
            trial("p4_an_upgrade_killed_at_any_moment_leaks_nothing_and_loses_nothing", layout, killed),
        ]);
        trials.extend(interrupted::trials(layout));
        trials.extend(refused::trials_from(layout));
    }
    trials.extend(refused::trials());
    trials
}

/// A trial that goes back to a layout.
fn trial(name: &str, layout: Layout, body: impl FnOnce(&mut Stage, Layout) -> Result<()> + Send + 'static) -> Trial {
    let name = format!("{name}_from_layout_{}", layout.number());
    trial::needing(name, move || layout.loads(), traffic::config, move |stage, ()| body(stage, layout))
}

/// A connection whose grant has ended, and another client that never had one.
fn flows_go_on(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let mut stream = flows::outliving(stage)?;
    for number in 1..=3 {
        stage.end(if number == 2 { Signal::SIGTERM } else { Signal::SIGKILL })?;
        Layout::V2.go_back(&stage.pins, &[(Protocol::Tcp, DB), (Protocol::Tcp, HTTPS)])?;
        ensure!(probe::echo(&mut stream, flows::ANSWER)?, "under the program of layout 2");
        stage.start(&[]).with_context(|| format!("upgrade {number}"))?;
        ensure!(probe::echo(&mut stream, flows::ANSWER)?, "after upgrade {number}");
        flows::expect_flows(stage, 1)?;
        stage.expect_tcp(Member::Client, Family::V4, DB, Port::Silent).context("its grant has ended")?;
        stage.expect_tcp(Member::Stranger, Family::V4, DB, Port::Silent).context("no grant, no flow")?;
    }
    // Who holds it is known still.
    stage.admin_ok(&["grants", "revoke", "--service", "db"])?;
    ensure!(!probe::echo(&mut stream, flows::DEAD)?, "it outlives a revoke");
    Ok(())
}

fn upgrades(stage: &mut Stage, layout: Layout) -> Result<()> {
    stage.start(&[])?;
    let traffic = Traffic::start(stage)?;
    for number in 1..=traffic::cycles(100)? {
        let drops = stage.metrics()?.packets("no_grant");
        stage.end(Signal::SIGTERM)?;
        layout.go_back(&stage.pins, &PORTS).with_context(|| format!("way back {number}"))?;
        stage.start(&[]).with_context(|| format!("upgrade {number}"))?;
        is_upgraded(stage, layout)?;
        ensure!(stage.metrics()?.packets("no_grant") >= drops, "the counters began anew");
    }
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open).context("the client's other service")?;
    traffic.finish(stage)?;
    stage.admin_ok(&["grants", "flush"])?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent).context("after a flush")
}

/// A crash loop during an upgrade: each start lives a little longer than the one before.
fn killed(stage: &mut Stage, layout: Layout) -> Result<()> {
    stage.start(&[])?;
    let traffic = Traffic::start(stage)?;
    stage.end(Signal::SIGKILL)?;
    layout.go_back(&stage.pins, &PORTS)?;
    let begin = wait::now();
    stage.start(&[])?;
    let longest = begin.until(wait::now()) * 3 / 2;
    stage.end(Signal::SIGKILL)?;
    let (lives, mut finished) = (traffic::cycles(60)?, 0);
    for life in 0..lives {
        if !layout.before(&stage.pins).exists() {
            layout.go_back(&stage.pins, &PORTS)?;
        }
        stage.launch(&[])?;
        std::thread::sleep(longest * life / lives);
        stage.end(Signal::SIGKILL)?;
        finished += u32::from(!layout.before(&stage.pins).exists());
    }
    ensure!((1..lives).contains(&finished), "{finished} of {lives} lives were long enough");
    stage.start(&[])?;
    is_upgraded(stage, layout)?;
    traffic.finish(stage)
}

/// The new layout is pinned, nothing is left of the old one, and the client's grants are known.
fn is_upgraded(stage: &Stage, layout: Layout) -> Result<()> {
    let (new, old) = (earlier::now(&stage.pins), layout.before(&stage.pins));
    ensure!(!earlier::links(&new)?.is_empty() && !old.exists(), "{} is still there", old.display());
    let grants = stage.admin_ok(&["grants", "list"])?;
    ensure!(grants.contains(&Member::Client.address(Family::V4).to_string()), "{grants}");
    Ok(())
}
