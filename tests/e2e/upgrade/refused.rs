//! What cannot be taken over is refused with the remedy, and enforcement goes on as it was.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    earlier::{self, Layout},
    network::{Family, Member},
    probe::Port,
    process::Process,
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::{
    config::{DB, HTTPS},
    stage::Stage,
    traffic::{self, PORTS, Traffic},
    trial,
};

pub(super) fn trials_from(layout: Layout) -> Vec<Trial> {
    vec![super::trial("p4_damaged_pins_of_an_older_version_are_refused", layout, damaged_older)]
}

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial::on("p4_pins_of_a_newer_version_are_refused", traffic::config, newer),
        trial::on("p4_pins_of_an_unknown_version_are_refused", traffic::config, unknown),
        trial::on("p4_damaged_pins_are_refused", traffic::config, damaged),
        trial::on("p4_a_program_that_cannot_be_loaded_leaves_the_old_one_at_work", traffic::config, no_privilege),
        trial::on("p4_a_link_that_cannot_be_taken_over_leaves_the_old_rules_in_force", traffic::config, broken_link),
    ]
}

fn newer(stage: &mut Stage) -> Result<()> {
    with_traffic(stage, |stage| {
        let (now, newer) = (earlier::now(&stage.pins), stage.pins.join("abi4"));
        fs::rename(&now, &newer)?;
        refused(stage, &["of a newer version of JPAT (layout 4; this one has 3)", "remedy: run that version"])?;
        ensure!(!now.exists(), "something was pinned beside it");
        Ok(fs::rename(&newer, &now)?)
    })
}

fn unknown(stage: &mut Stage) -> Result<()> {
    with_traffic(stage, |stage| {
        let (now, unknown) = (earlier::now(&stage.pins), stage.pins.join("abi0"));
        fs::rename(&now, &unknown)?;
        refused(stage, &["of layout 0, which this version cannot take over", "remedy: upgrade by way of"])?;
        Ok(fs::rename(&unknown, &now)?)
    })
}

fn damaged_older(stage: &mut Stage, layout: Layout) -> Result<()> {
    with_traffic(stage, |stage| {
        layout.go_back(&stage.pins, &PORTS)?;
        let old = layout.before(&stage.pins);
        without(stage, &old.join("COUNTERS"), |stage| refused(stage, &["COUNTERS", "missing", "remedy:"]))?;
        without(stage, &old.join("SERVICES"), |stage| {
            // Its place is taken by another map.
            fs::rename(old.join("PORTS"), old.join("SERVICES"))?;
            refused(stage, &["has another layout", "remedy:"])?;
            Ok(fs::rename(old.join("SERVICES"), old.join("PORTS"))?)
        })
    })
}

fn damaged(stage: &mut Stage) -> Result<()> {
    with_traffic(stage, |stage| {
        let now = earlier::now(&stage.pins);
        for name in ["HOSTS", "GRANTS", "SETTINGS"] {
            without(stage, &now.join(name), |stage| refused(stage, &[name, "missing", "remedy:"]))?;
        }
        // A map that a later build of the same layout would have.
        let more = now.join("FLOWS_TOO");
        aya::maps::MapData::from_pin(now.join("FLOWS"))?.pin(&more)?;
        refused(stage, &["FLOWS_TOO", "another layout"])?;
        Ok(fs::remove_file(&more)?)
    })
}

fn no_privilege(stage: &mut Stage) -> Result<()> {
    with_traffic(stage, |stage| {
        let command = stage.jpatd("run")?;
        let mut bare = std::process::Command::new("setpriv");
        bare.args(["--bounding-set=-all", "--inh-caps=-all", "--"]).arg(command.get_program()).args(command.get_args());
        let ended = Process::run(&stage.net.host, "jpatd", bare)?;
        ensure!(ended.status.code() == Some(1), "{}: {}", ended.status, ended.output);
        ensure!(ended.output.contains("does not let this process load BPF programs"), "{}", ended.output);
        Ok(())
    })
}

fn broken_link(stage: &mut Stage) -> Result<()> {
    with_traffic(stage, |stage| {
        let good = fs::read_to_string(stage.path("jpat.toml"))?;
        fs::write(stage.path("jpat.toml"), good.replace(&format!("tcp/{HTTPS}"), "tcp/8444"))?;
        let now = earlier::now(&stage.pins);
        let link = earlier::links(&now)?.pop().context("no link")?;
        without(stage, &link, |stage| {
            // A pin that is no link at all has its name.
            fs::rename(now.join("FLOWS_CLOSED"), &link)?;
            let spare = aya::maps::MapData::from_pin(&link)?;
            spare.pin(now.join("FLOWS_CLOSED"))?;
            refused(stage, &["eth0"])?;
            Ok(fs::remove_file(&link)?)
        })?;
        stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent).context("the port of the old rules")?;
        Ok(fs::write(stage.path("jpat.toml"), good)?)
    })
}

/// Starts, kills, and lets `work` try what is refused; then a start succeeds. Meanwhile nothing leaks and nothing is lost.
fn with_traffic(stage: &mut Stage, work: impl FnOnce(&mut Stage) -> Result<()>) -> Result<()> {
    stage.start(&[])?;
    let traffic = Traffic::start(stage)?;
    stage.end(Signal::SIGKILL)?;
    work(stage)?;
    stage.start(&[]).context("after it was put right")?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)?;
    traffic.finish(stage)
}

/// A start fails and says this; who could reach what still can, and nobody else.
fn refused(stage: &mut Stage, says: &[&str]) -> Result<()> {
    let ended = Process::run(&stage.net.host, "jpatd", stage.jpatd("run")?)?;
    ensure!(ended.status.code() == Some(1), "{}: {}", ended.status, ended.output);
    for part in says {
        ensure!(ended.output.contains(part), "it does not say {part:?}: {}", ended.output);
    }
    for port in [HTTPS, DB] {
        stage.expect_tcp(Member::Stranger, Family::V4, port, Port::Silent)?;
        stage.expect_tcp(Member::Client, Family::V4, port, Port::Open)?;
    }
    Ok(())
}

/// Does `work` while a pin lies elsewhere.
fn without(stage: &mut Stage, pin: &Path, work: impl FnOnce(&mut Stage) -> Result<()>) -> Result<()> {
    let aside = stage.pins.join("aside");
    fs::rename(pin, &aside)?;
    work(stage)?;
    Ok(fs::rename(&aside, pin)?)
}
