//! Frames of several buffers: an MTU of 9000 in the driver's hook.

use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf,
    programs::{Xdp, XdpMode},
};
use jpat_common::map_name;
use jpat_tests::{
    network::{Family, Member},
    privileges,
    probe::{self, Port},
    wire::Tap,
};
use jpat_userspace::datapath::object::OBJECT;
use libtest_mimic::Trial;
use serde_json::json;

use super::{interface, status, tell};
use crate::{
    config::{Config, DB, HTTPS, UDP, db, listen, web},
    stage::{Stage, address},
    trial,
};

const MTU: u32 = 9000;
/// One frame on this network, and more than the program has in its first buffer.
const DATAGRAM: usize = 8000;
const TRANSFER: usize = 4 << 20;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::needing(
            "p2_jumbo_frames_are_judged_in_the_driver",
            privileges::several_buffers,
            minutes,
            |stage, ()| jumbo(stage),
        ),
        trial::on("p2_jumbo_frames_are_judged_in_the_mode_that_the_kernel_has_for_them", automatic, any_mode),
    ]
}

fn minutes() -> Config {
    Config { services: vec![web("60s"), db("60s")], ..Config::default() }
}

fn automatic() -> Config {
    Config { listen: listen("\"eth0\"", "auto"), ..minutes() }
}

/// In the driver, or before Linux 5.18 in the stack, which has them in one piece.
fn any_mode(stage: &mut Stage) -> Result<()> {
    stage.net.set_mtu(MTU)?;
    stage.start(&[])?;
    let shown = status(stage)?;
    let eth0 = interface(&shown, "eth0").context("eth0 is not in status")?;
    let mode = if privileges::several_buffers().is_ok() { "driver" } else { "generic" };
    ensure!(eth0["attach"] == mode && eth0["program"] == privileges::ethernet_program(), "{eth0}");
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    for size in [10, DATAGRAM] {
        let of = |member| probe::udp_of(stage.net.of(member), address(Family::V4, UDP), size);
        let found = (of(Member::Stranger)?, of(Member::Client)?);
        ensure!(found == (Port::Silent, Port::Open), "{size} bytes: {found:?}");
    }
    Ok(())
}

fn jumbo(stage: &mut Stage) -> Result<()> {
    stage.net.set_mtu(MTU)?;
    let refused = stage.net.host.run(plain)?;
    tell(&format!("without the program for several buffers: {refused}"));
    stage.start(&[])?;
    let shown = status(stage)?;
    let eth0 = interface(&shown, "eth0").context("eth0 is not in status")?;
    ensure!(eth0["attach"] == "driver" && eth0["program"] == "jpat_frags", "{eth0}");
    for family in Family::ALL {
        for size in [10, DATAGRAM] {
            let found = probe::udp_of(&stage.net.stranger, address(family, UDP), size)?;
            ensure!(found == Port::Silent, "{size} bytes of a stranger: {found:?} over {family:?}");
        }
        stage.expect_tcp(Member::Stranger, family, HTTPS, Port::Silent)?;
        let token = stage.key.token(&stage.claims_with(json!({ "roles": ["commerce-listings-admin", "dba"] })))?;
        stage.knock(Member::Client, family, &token, "granted")?;
        let found = probe::udp_of(&stage.net.client, address(family, UDP), DATAGRAM)?;
        ensure!(found == Port::Open, "{DATAGRAM} granted bytes: {found:?} over {family:?}");
        let tap = Tap::open(&stage.net.host)?;
        let mut stream = probe::connect(&stage.net.client, address(family, DB))?;
        transfer(&mut stream)?;
        let frames = tap.drain()?;
        let large = frames.iter().filter(|frame| frame.len() > 4096).count();
        let largest = frames.iter().map(Vec::len).max().unwrap_or(0);
        tell(&format!(
            "{} over a granted port there and back, MTU {MTU}, {}: {large} of {} frames above 4 KiB, the largest {largest} bytes",
            TRANSFER,
            family.as_str(),
            frames.len()
        ));
        ensure!(large > 50, "{large} of {} frames are above 4 KiB", frames.len());
        let found = probe::udp_of(&stage.net.stranger, address(family, UDP), DATAGRAM)?;
        ensure!(found == Port::Silent, "a stranger beside a grant: {found:?}");
    }
    Ok(())
}

/// What the driver says to the program for one buffer.
fn plain() -> Result<String> {
    let mut ebpf = Ebpf::load(OBJECT)?;
    let program: &mut Xdp = ebpf.program_mut(map_name::PROGRAM).context("no program")?.try_into()?;
    program.load()?;
    match program.attach("eth0", XdpMode::Driver) {
        Ok(_) => anyhow::bail!("the driver takes the program for one buffer at an MTU of {MTU}"),
        Err(error) => Ok(format!("{:#}", anyhow::Error::from(error))),
    }
}

/// Sends bytes to an echo and requires the same back.
fn transfer(stream: &mut std::net::TcpStream) -> Result<()> {
    let sent: Vec<u8> = (0..TRANSFER).map(|at| (at % 251) as u8).collect();
    stream.set_read_timeout(Some(jpat_tests::wait::PATIENCE))?;
    let mut writer = stream.try_clone()?;
    std::thread::scope(|scope| {
        let write = scope.spawn(|| writer.write_all(&sent));
        let mut back = vec![0; TRANSFER];
        stream.read_exact(&mut back).context("the transfer stalled")?;
        write.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        ensure!(back == sent, "other bytes came back");
        Ok(())
    })
}
