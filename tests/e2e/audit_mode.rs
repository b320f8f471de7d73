//! Audit mode: what would be dropped passes and is counted as such.

use anyhow::{Result, ensure};
use jpat_tests::{
    network::{Family, Member},
    probe::Port,
};
use libtest_mimic::Trial;

use crate::{
    config::{Config, HTTPS},
    stage::Stage,
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::on("p8_audit_mode_counts_and_drops_nothing", auditing, audit),
        trial::on("p8_the_mode_can_be_switched_while_it_runs", auditing, switched),
        trial::on("p8_always_allowed_sources_need_no_grant", always_allowing, always_allowed),
    ]
}

fn auditing() -> Config {
    Config { mode: "audit", ..Config::default() }
}

fn audit(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    for family in Family::ALL {
        let would_drop = [("verdict", "audit"), ("reason", "no_grant"), ("service", "web")];
        let before = stage.metrics()?;
        stage.expect_tcp(Member::Stranger, family, HTTPS, Port::Open)?;
        let after = stage.metrics()?;
        let counted = after.sum("jpat_packets_total", &would_drop) - before.sum("jpat_packets_total", &would_drop);
        ensure!(counted >= 2.0, "a SYN and an ACK would have been dropped, {counted} were counted");
        let dropped = [("verdict", "drop"), ("reason", "no_grant")];
        ensure!(after.sum("jpat_packets_total", &dropped) == 0.0, "something was dropped");
        // Knocks are taken all the same.
        stage.knock(Member::Client, family, &stage.token()?, "granted")?;
    }
    Ok(())
}

fn switched(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Open)?;
    stage.admin_ok(&["mode", "enforce"])?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    stage.admin_ok(&["mode", "audit"])?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Open)
}

fn always_allowing() -> Config {
    let rest = "[always_allow]\nsources = [\"192.0.2.64/26\", \"2001:db8::66\"]\n".to_owned();
    Config { rest, ..Config::default() }
}

fn always_allowed(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    for family in Family::ALL {
        stage.expect_tcp(Member::Stranger, family, HTTPS, Port::Open)?;
        stage.expect_tcp(Member::Client, family, HTTPS, Port::Silent)?;
    }
    Ok(())
}
