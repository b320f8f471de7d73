//! Devices without an Ethernet header: a TUN device whose other end is this test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    network::{Family, Member},
    privileges,
    probe::Port,
    tun::TunDevice,
    wait::{self, PATIENCE},
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use super::{interface, on, status, wait_alarm, wait_attached};
use crate::{
    config::{Config, FREE, HTTPS, KNOCK_PORT, UDP, listen, web},
    stage::Stage,
    trial,
};

const V4: (IpAddr, IpAddr) = (IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)));
const V6: (IpAddr, IpAddr) = (
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 2)),
);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::on("p2_a_tun_device_is_judged", || granting("\"eth0\", \"tun0\""), listed),
        trial::on("p2_a_tun_device_that_appears_is_judged", || granting("\"eth0\", \"tun*\""), appears),
        trial::on("p2_a_tun_device_in_driver_mode_is_judged_all_the_same", driver, listed),
        trial::on("p2_a_tun_device_that_is_not_listed_is_an_alarm", || on("\"eth0\""), unlisted),
        trial::on("p2_a_tap_device_is_judged_by_the_ethernet_program", || on("\"eth0\", \"tap0\""), tap),
    ]
}

fn driver() -> Config {
    Config { listen: listen("\"eth0\", \"tun0\"", "driver"), ..granting("") }
}

/// A grant outlives a look at each port by each family.
fn granting(interfaces: &str) -> Config {
    Config { services: vec![web(&format!("{}s", 2 * wait::slowness()))], ..on(interfaces) }
}

fn create(stage: &Stage) -> Result<TunDevice> {
    TunDevice::create(&stage.net.host, "tun0")
}

fn bring_up(stage: &Stage) -> Result<()> {
    stage.net.host.ip(&format!("addr add {}/24 dev tun0\naddr add {}/64 dev tun0 nodad\nlink set tun0 up", V4.0, V6.0))
}

/// What the peer of the TUN device finds at the protected ports.
fn found(tun: &TunDevice, (host, peer): (IpAddr, IpAddr)) -> Result<(Port, Port)> {
    Ok((tun.tcp(peer, SocketAddr::new(host, HTTPS))?, tun.udp(peer, SocketAddr::new(host, UDP), b"anybody?")?))
}

fn listed(stage: &mut Stage) -> Result<()> {
    let tun = create(stage)?;
    bring_up(stage)?;
    for ends in [V4, V6] {
        let open = found(&tun, ends)?;
        ensure!(open == (Port::Open, Port::Open), "without jpatd: {open:?}");
    }
    stage.start(&[])?;
    expect_judged(stage, &tun)?;
    stage.end(Signal::SIGKILL)?;
    for ends in [V4, V6] {
        let closed = found(&tun, ends)?;
        ensure!(closed == (Port::Silent, Port::Silent), "after the controller's death: {closed:?}");
    }
    // The pinned link of such a device is taken over by the same program.
    stage.start(&[])?;
    expect_judged(stage, &tun)
}

fn appears(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let tun = create(stage)?;
    wait_attached(stage, "tun0")?;
    bring_up(stage)?;
    expect_judged(stage, &tun)
}

fn expect_judged(stage: &Stage, tun: &TunDevice) -> Result<()> {
    let shown = status(stage)?;
    let shown = interface(&shown, "tun0").context("tun0 is not in status")?;
    ensure!(shown["program"] == "jpat_l3" && shown["attach"] == "generic", "{shown}");
    for ends @ (host, peer) in [V4, V6] {
        for _ in 0..2 {
            let closed = found(tun, ends)?;
            ensure!(closed == (Port::Silent, Port::Silent), "{host}: {closed:?}");
        }
        let free = tun.tcp(peer, SocketAddr::new(host, FREE))?;
        ensure!(free == Port::Open, "tcp/{FREE} on {host}: {free:?}");
        let before = stage.metrics()?;
        let knock = tun.udp(peer, SocketAddr::new(host, KNOCK_PORT), stage.token()?.as_bytes())?;
        ensure!(knock == Port::Silent, "a knock was answered");
        wait::for_true("the knock to be granted", PATIENCE, || {
            Ok(stage.metrics()?.knocks("granted") > before.knocks("granted"))
        })?;
        let open = found(tun, ends)?;
        ensure!(open == (Port::Open, Port::Open), "{host} after a knock: {open:?}");
        wait::for_true("the end of the grant", PATIENCE, || Ok(found(tun, ends)? == (Port::Silent, Port::Silent)))?;
    }
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)
}

fn unlisted(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let tun = create(stage)?;
    bring_up(stage)?;
    let alarm = wait_alarm(stage, "tun0", true)?;
    ensure!(alarm.contains("tun0 (tun tunnel) is up and not protected"), "{alarm}");
    ensure!(alarm.contains("remedy: list \"tun0\" in listen.interfaces"), "{alarm}");
    let open = found(&tun, V4)?;
    ensure!(open == (Port::Open, Port::Open), "the alarm is for nothing: {open:?}");
    drop(tun);
    wait_alarm(stage, "tun0", false).map(drop)
}

fn tap(stage: &mut Stage) -> Result<()> {
    stage.net.host.ip("tuntap add tap0 mode tap\nlink set tap0 up")?;
    stage.start(&[])?;
    let shown = status(stage)?;
    let shown = interface(&shown, "tap0").context("tap0 is not in status")?;
    ensure!(shown["program"] == privileges::ethernet_program(), "{shown}");
    Ok(())
}
