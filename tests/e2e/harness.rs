//! Controls: the harness itself sees what it claims to see. Without them a silent port could be a broken network.

use anyhow::{Result, ensure};
use jpat_tests::{
    capture::Capture,
    earlier,
    network::{Family, Member},
    privileges,
    probe::{self, Port},
    wait,
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::{
    config::{Config, DB, FREE, HTTPS, UDP},
    stage::{Stage, address},
    traffic::{self, Traffic},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::on("control_without_jpatd_every_service_is_open", Config::default, every_service_is_open),
        trial::on("control_the_traffic_sees_an_open_moment", traffic::config, open_moment),
        trial::on("control_the_traffic_sees_a_closed_moment", traffic::config, closed_moment),
        trial::on("control_the_capture_sees_resets_and_icmp_errors", Config::default, capture_sees_answers),
    ]
}

fn every_service_is_open(stage: &mut Stage) -> Result<()> {
    privileges::check()?;
    for family in Family::ALL {
        for member in [Member::Client, Member::Stranger] {
            for port in [HTTPS, DB, FREE] {
                stage.expect_tcp(member, family, port, Port::Open)?;
            }
            stage.expect_udp(member, family, UDP, Port::Open)?;
            let page = probe::https_get(stage.net.of(member), address(family, HTTPS))?;
            let visitor = member.address(family).to_string();
            ensure!(page.as_deref().is_some_and(|page| page.contains(&visitor)), "{page:?} for {visitor}");
        }
    }
    Ok(())
}

fn open_moment(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let traffic = Traffic::start(stage)?;
    stage.end(Signal::SIGKILL)?;
    for link in earlier::links(&earlier::now(&stage.pins))? {
        std::fs::remove_file(link)?;
    }
    wait::for_true("the stranger to get an answer", wait::PATIENCE, || Ok(traffic.answers() > 0))?;
    let told = traffic.finish(stage).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(told.starts_with("leaked"), "it tells {told:?}");
    Ok(())
}

fn closed_moment(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let traffic = Traffic::start(stage)?;
    stage.admin_ok(&["grants", "flush"])?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent)?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    let told = traffic.finish(stage).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(told.starts_with("granted packets were lost"), "it tells {told:?}");
    Ok(())
}

fn capture_sees_answers(stage: &mut Stage) -> Result<()> {
    const NOBODY: u16 = 4444;
    for family in Family::ALL {
        let capture = Capture::start(&stage.net.stranger)?;
        stage.expect_tcp(Member::Stranger, family, NOBODY, Port::Refused)?;
        stage.expect_udp(Member::Stranger, family, NOBODY, Port::Refused)?;
        let answers = capture.finish(&stage.net.stranger, &[family])?;
        let protocols: Vec<u8> = answers.iter().map(|answer| answer.protocol).collect();
        let icmp = if family == Family::V4 { 1 } else { 58 };
        ensure!(protocols == [6, icmp], "expected a RST and an ICMP error, saw protocols {protocols:?}");
    }
    Ok(())
}
