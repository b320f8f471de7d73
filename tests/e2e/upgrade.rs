//! Upgrades from the layout before: promise P4 while program, maps and pins change.

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    earlier,
    network::{Family, Member},
    probe::Port,
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
    vec![trial::on("p4_a_hundred_upgrades_leak_nothing_and_lose_nothing", traffic::config, upgrades)]
}

fn upgrades(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let traffic = Traffic::start(stage)?;
    let drops = stage.metrics()?.packets("no_grant");
    for number in 1..=traffic::cycles(100)? {
        stage.end(Signal::SIGTERM)?;
        earlier::go_back(&stage.pins, &PORTS).with_context(|| format!("way back {number}"))?;
        ensure!(!earlier::now(&stage.pins).exists() && earlier::before(&stage.pins).exists());
        stage.start(&[]).with_context(|| format!("upgrade {number}"))?;
        ensure!(earlier::now(&stage.pins).exists() && !earlier::before(&stage.pins).exists());
    }
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open).context("the client's other service")?;
    traffic.finish(stage)?;
    ensure!(stage.metrics()?.packets("no_grant") > drops, "the counters began anew");
    let grants = stage.admin_ok(&["grants", "list"])?;
    ensure!(grants.contains(&Member::Client.address(Family::V4).to_string()), "{grants}");
    stage.admin_ok(&["grants", "flush"])?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent).context("after a flush")
}
