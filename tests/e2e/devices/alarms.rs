//! Ways past the program that nobody closed: told by `check`, `status`, the log and the metrics.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    network::{Family, Member},
    privileges,
    process::{Ended, Process},
    wait::{self, PATIENCE},
};
use libtest_mimic::Trial;

use super::{alarms, expect_closed, expect_open, expect_opened_by_a_knock, interface, on, status, wait_alarm};
use crate::{
    config::{Config, listen},
    stage::Stage,
    trial,
};

/// Inside of the VXLAN.
const INNER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::on("p2_a_vxlan_that_is_not_listed_is_an_alarm_everywhere", || on("\"eth0\""), unlisted),
        trial::on("p2_what_comes_out_of_a_listed_vxlan_is_judged", || on("\"eth0\", \"vx0\""), listed),
        trial::on("p2_dropped_tunnels_are_no_alarm", || drops("\"eth0\""), dropped),
        trial::needing(
            "p2_ipsec_is_an_alarm_unless_it_is_dropped",
            privileges::ipsec,
            || on("\"eth0\""),
            |stage, ()| ipsec(stage),
        ),
        trial::on("p2_what_lies_above_an_attached_device_is_judged_below", || on("\"eth0\""), above),
        trial::on("p2_the_attach_mode_and_why_are_told", || on("\"eth0\", \"vx0\""), modes),
    ]
}

fn drops(interfaces: &str) -> Config {
    Config { listen: listen(interfaces, "auto") + "tunnels = \"drop\"\n", ..Config::default() }
}

/// A VXLAN between host and stranger on this UDP port.
fn vxlan(stage: &Stage, port: u16) -> Result<()> {
    let ends = [
        (&stage.net.host, Member::Host, Member::Stranger, 1),
        (&stage.net.stranger, Member::Stranger, Member::Host, 2),
    ];
    for (ns, own, peer, number) in ends {
        let (own, peer) = (own.address(Family::V4), peer.address(Family::V4));
        ns.ip(&format!(
            "link add name vx0 type vxlan id 7 local {own} remote {peer} dstport {port}\n\
             addr add 198.51.100.{number}/24 dev vx0\nlink set vx0 up"
        ))?;
    }
    Ok(())
}

fn check(stage: &Stage) -> Result<String> {
    let Ended { status, output } = Process::run(&stage.net.host, "jpatd check", stage.jpatd("check")?)?;
    ensure!(status.success(), "{status}: {output}");
    Ok(output)
}

fn unlisted(stage: &mut Stage) -> Result<()> {
    vxlan(stage, 4789)?;
    let said = check(stage)?;
    let what = "vx0 (vxlan tunnel) is up and not protected";
    ensure!(said.contains(what) && said.contains("list \"vx0\" in listen.interfaces, or set listen.tunnels"), "{said}");
    stage.start(&[])?;
    expect_open(stage, INNER).context("the alarm is for nothing")?;
    wait_alarm(stage, what, true)?;
    ensure!(stage.output().contains(what), "{}", stage.output());
    ensure!(stage.metrics()?.sum("jpat_devices", &[("state", "exposed")]) == 1.0, "it is not in the metrics");
    let text = stage.admin_ok(&["status"])?;
    ensure!(text.contains(&format!("ALARM       {what}")), "{text}");
    ensure!(stage.http_status("/readyz")? == 200, "what is not listed says nothing about readiness");
    stage.net.host.ip("link del vx0")?;
    wait_alarm(stage, "vx0", false).map(drop)
}

fn listed(stage: &mut Stage) -> Result<()> {
    vxlan(stage, 4789)?;
    expect_open(stage, INNER)?;
    stage.start(&[])?;
    expect_closed(stage, INNER)?;
    expect_opened_by_a_knock(stage, INNER)?;
    let shown = status(stage)?;
    ensure!(alarms(&shown, "vx0").is_empty(), "{shown}");
    ensure!(!check(stage)?.contains("vx0"), "check is not content");
    Ok(())
}

fn dropped(stage: &mut Stage) -> Result<()> {
    vxlan(stage, 4789)?;
    ensure!(!check(stage)?.contains("vx0"), "check is not content");
    stage.start(&[])?;
    let packets = stage.metrics()?.packets("tunnel");
    for _ in 0..2 {
        let found = super::tcp(stage, INNER.into(), crate::config::FREE)?;
        ensure!(found != jpat_tests::probe::Port::Open, "the tunnel works: {found:?}");
    }
    ensure!(stage.metrics()?.packets("tunnel") > packets, "nothing was dropped as a tunnel");
    ensure!(alarms(&status(stage)?, "vx0").is_empty(), "dropped and an alarm");
    // On a port of its own nobody takes it for a tunnel.
    stage.net.host.ip("link del vx0")?;
    stage.net.stranger.ip("link del vx0")?;
    vxlan(stage, 5000)?;
    let alarm = wait_alarm(stage, "vx0", true)?;
    ensure!(!alarm.contains("listen.tunnels"), "{alarm}");
    expect_open(stage, INNER).context("the alarm is for nothing")
}

fn ipsec(stage: &mut Stage) -> Result<()> {
    let policy = "192.0.2.66 dst 192.0.2.1 dir in tmpl proto esp mode tunnel level use";
    stage.start(&[])?;
    ensure!(alarms(&status(stage)?, "IPsec").is_empty(), "IPsec out of nothing");
    stage.net.host.ip(&format!("xfrm policy add src {policy}"))?;
    let alarm = wait_alarm(stage, "IPsec is in use (0 states, 1 inbound policies)", true)?;
    ensure!(alarm.contains("listen.tunnels = \"drop\""), "{alarm}");
    ensure!(check(stage)?.contains("IPsec is in use"), "check does not tell");
    stage.config = drops("\"eth0\"");
    stage.write_config()?;
    stage.admin_ok(&["reload"])?;
    wait_alarm(stage, "IPsec", false)?;
    ensure!(!check(stage)?.contains("IPsec"), "check is not content");
    Ok(())
}

fn above(stage: &mut Stage) -> Result<()> {
    let inner = Ipv4Addr::new(192, 0, 2, 55);
    stage
        .net
        .host
        .ip(&format!("link add name mv0 link eth0 type macvlan\naddr add {inner}/24 dev mv0\nlink set mv0 up"))?;
    expect_open(stage, inner)?;
    stage.start(&[])?;
    expect_closed(stage, inner)?;
    expect_opened_by_a_knock(stage, inner)?;
    let shown = status(stage)?;
    ensure!(alarms(&shown, "mv0").is_empty() && !shown["not_judged"].to_string().contains("mv0"), "{shown}");
    Ok(())
}

/// A VXLAN has no hook of its own, a veth has one.
fn modes(stage: &mut Stage) -> Result<()> {
    vxlan(stage, 4789)?;
    stage.start(&[])?;
    let shown = status(stage)?;
    let (eth0, vx0) = (interface(&shown, "eth0").context("eth0")?, interface(&shown, "vx0").context("vx0")?);
    let program = privileges::ethernet_program();
    ensure!(eth0["attach"] == "driver" && eth0["program"] == program && eth0["why"].is_null(), "{eth0}");
    let why = vx0["why"].as_str().unwrap_or_default();
    ensure!(vx0["attach"] == "generic" && why.contains("Operation not supported"), "{vx0}");
    let text = stage.admin_ok(&["status"])?;
    ensure!(text.contains(&format!("interface   vx0 generic {program} (the driver's hook was refused: ")), "{text}");
    ensure!(
        stage.output().contains(&format!("attached to vx0 (generic mode, {program}): the driver's hook")),
        "{}",
        stage.output()
    );
    stage.end(nix::sys::signal::Signal::SIGTERM)?;
    let ended = Process::run(&stage.net.host, "jpatd detach", stage.jpatd("detach")?)?;
    ensure!(ended.status.success(), "{}", ended.output);
    // Who insists on the driver's hook is told that there is none.
    stage.config.listen = listen("\"eth0\", \"vx0\"", "driver");
    stage.write_config()?;
    let Ended { status, output } = Process::run(&stage.net.host, "jpatd", stage.jpatd("run")?)?;
    ensure!(
        status.code() == Some(1) && output.contains("attaching to vx0 (driver mode): Operation"),
        "{status}: {output}"
    );
    ensure!(output.contains("remedy: set listen.attach = \"auto\""), "{output}");
    wait::for_true("the end of what was attached", PATIENCE, || {
        Ok(super::device(stage, "eth0")?.is_some_and(|device| device.xdp_programs.is_empty()))
    })?;
    stage.config.listen = listen("\"eth0\", \"vx0\"", "generic");
    stage.write_config()?;
    stage.start(&[])?;
    let shown = super::status(stage)?;
    let eth0 = interface(&shown, "eth0").context("eth0")?;
    ensure!(eth0["attach"] == "generic" && eth0["why"].is_null(), "{eth0}");
    expect_closed(stage, Member::Host.address(Family::V4))?;
    expect_closed(stage, INNER)
}
