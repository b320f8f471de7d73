//! Connections that stand when enforcement begins go on, and no others.

use std::{
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    network::{Family, Member},
    packet, probe,
    probe::Port,
    wait::{self, PATIENCE},
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use super::{ANSWER, DEAD, both, expect_flows, list, services};
use crate::{
    config::{Config, DB},
    stage::{Stage, address},
    trial,
};

pub(super) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial::on("p8_no_connection_is_lost_while_the_mode_is_switched", auditing, no_window),
        trial::on("p8_half_open_connections_are_adopted_for_ten_seconds", auditing, half_open),
        trial::on("p2_what_did_not_stand_is_not_adopted", || services("cut", "2s"), not_adopted),
        trial::on("p3_adopted_connections_are_revoked", Config::default, adopted_revoked),
    ];
    for sessions in ["keep", "cut"] {
        let on = |what: &str, mode: &'static str, body: fn(&mut Stage) -> Result<()>| {
            let config = move || Config { mode, services: both(sessions, "60s"), ..Config::default() };
            trial::on(format!("p8_connections_that_stand_go_on_{what}_{sessions}"), config, body)
        };
        trials.extend([
            on("at_the_first_start", "enforce", first_start),
            on("when_the_mode_is_switched", "audit", switched),
            on("when_a_reload_enforces", "audit", reloaded),
            on("when_a_restart_enforces", "audit", restarted),
        ]);
    }
    trials
}

fn auditing() -> Config {
    Config { mode: "audit", ..Config::default() }
}

/// Client and stranger, connected over both families to a host that speaks IPv6 and mapped IPv4.
fn standing(stage: &Stage) -> Result<Vec<(String, TcpStream)>> {
    let mut standing = Vec::new();
    for member in [Member::Client, Member::Stranger] {
        for family in Family::ALL {
            let stream = probe::connect(stage.net.of(member), address(family, DB))?;
            standing.push((format!("{member:?} {family:?}"), stream));
        }
    }
    Ok(standing)
}

fn answer(standing: &mut [(String, TcpStream)]) -> Result<()> {
    for (who, stream) in standing {
        ensure!(probe::echo(stream, ANSWER)?, "the connection of {who} was cut");
    }
    Ok(())
}

/// They go on, nobody else gets in, and it is told.
fn expect_adopted(stage: &mut Stage, mut standing: Vec<(String, TcpStream)>) -> Result<()> {
    answer(&mut standing)?;
    for family in Family::ALL {
        stage.expect_tcp(Member::Stranger, family, DB, Port::Silent)?;
    }
    answer(&mut standing)?;
    expect_flows(stage, 4)?;
    let list = list(stage)?;
    ensure!(list["grants"].as_array().is_some_and(Vec::is_empty), "{list}");
    let outlived = list["outlived"].as_array().context("no list")?;
    ensure!(outlived.len() == 4, "{list}");
    ensure!(outlived.iter().all(|entry| entry["principal"] == "adopted" && entry["flows"] == 1), "{list}");
    let audit = std::fs::read_to_string(stage.path(stage.config.audit))?;
    ensure!(audit.matches("\"event\":\"adopted\"").count() == 4, "{audit}");
    // They stay adopted through whatever leaves the rules as they are.
    stage.config.mode = "enforce";
    stage.write_config()?;
    stage.admin_ok(&["reload"])?;
    answer(&mut standing)?;
    stage.end(Signal::SIGKILL)?;
    stage.start(&[])?;
    answer(&mut standing)?;
    expect_flows(stage, 4)
}

fn first_start(stage: &mut Stage) -> Result<()> {
    let standing = standing(stage)?;
    stage.start(&[])?;
    expect_adopted(stage, standing)
}

fn switched(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let standing = standing(stage)?;
    stage.admin_ok(&["mode", "enforce"])?;
    expect_adopted(stage, standing)
}

fn enforce(stage: &mut Stage) -> Result<()> {
    stage.config.mode = "enforce";
    stage.write_config()
}

fn reloaded(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let standing = standing(stage)?;
    enforce(stage)?;
    stage.admin_ok(&["reload"])?;
    expect_adopted(stage, standing)
}

fn restarted(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let standing = standing(stage)?;
    stage.end(Signal::SIGKILL)?;
    enforce(stage)?;
    stage.start(&[])?;
    expect_adopted(stage, standing)
}

/// Somebody connects all the time while enforcement begins. Whatever became a connection is one afterwards.
fn no_window(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let mut made = 0;
    for _ in 0..5 {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (told, connections) = std::sync::mpsc::channel();
        let thread = stage.net.stranger.thread("connects", move || {
            while !stopped.load(Relaxed) {
                if let Ok(stream) = TcpStream::connect_timeout(&address(Family::V4, DB), Duration::from_millis(50)) {
                    told.send(stream).context("nobody counts")?;
                }
            }
            Ok(())
        })?;
        let mut streams: Vec<_> =
            (0..20).map(|_| connections.recv().context("no connection")).collect::<Result<_>>()?;
        stage.admin_ok(&["mode", "enforce"])?;
        stop.store(true, Relaxed);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        streams.extend(connections.try_iter());
        made += streams.len();
        for mut stream in streams {
            ensure!(probe::echo(&mut stream, Duration::from_secs(4))?, "one of {made} connections was lost");
        }
        stage.expect_tcp(Member::Stranger, Family::V4, DB, Port::Silent)?;
        stage.admin_ok(&["mode", "audit"])?;
    }
    Ok(())
}

/// A SYN of an address that nobody has: the host has answered it, and waits for the client's ACK.
fn half_open(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let (nobody, host) = ([192, 0, 2, 77], [192, 0, 2, 1]);
    let mut segment = packet::tcp(DB, packet::SYN, &[]);
    let length = segment.len() as u8;
    let sum = packet::checksum(&[&nobody[..], &host, &[0, packet::TCP, 0, length], &segment].concat());
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    stage.net.stranger.run(|| {
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
        raw.set_header_included_v4(true)?;
        let datagram = packet::ipv4(nobody, host, packet::TCP, 0, &[], &segment);
        raw.send_to(&datagram, &std::net::SocketAddr::from((host, 0)).into())?;
        Ok(())
    })?;
    let found = wait::for_some("the half-open connection", PATIENCE, || {
        let sockets = stage.net.host.run(|| Ok(jpat_userspace::datapath::sock_diag::tcp()?))?;
        Ok(sockets.opening.first().copied())
    })?;
    ensure!(found.source()[12..] == nobody, "{found:?}");
    stage.admin_ok(&["mode", "enforce"])?;
    expect_flows(stage, 1)?;
    // It is as embryonic as any.
    expect_flows(stage, 0)
}

/// Enforcement stands already: a connection under a grant ends with it where sessions are cut, also after a restart.
fn not_adopted(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let token = stage.key.token(&stage.claims_with(json!({ "roles": ["dba"] })))?;
    for way in [&["mode", "enforce"][..], &["reload"], &[]] {
        let (_, granted) = stage.knock(Member::Client, Family::V4, &token, "granted")?;
        let mut stream = probe::connect(&stage.net.client, address(Family::V4, DB))?;
        ensure!(probe::echo(&mut stream, ANSWER)?, "{way:?}: under its grant");
        if way.is_empty() {
            stage.end(Signal::SIGKILL)?;
            stage.start(&[])?;
        } else {
            stage.admin_ok(way)?;
        }
        wait::until(granted.after(Duration::from_millis(2_050)));
        ensure!(!probe::echo(&mut stream, DEAD)?, "{way:?}: it was adopted");
    }
    expect_flows(stage, 0)
}

fn adopted_revoked(stage: &mut Stage) -> Result<()> {
    for way in [
        &["grants", "revoke", "--principal", "adopted"][..],
        &["grants", "revoke", "--source", "192.0.2.66"],
        &["grants", "revoke", "--service", "db"],
        &["grants", "flush"],
    ] {
        stage.config.mode = "audit";
        stage.write_config()?;
        stage.start(&[])?;
        let mut stream = probe::connect(&stage.net.stranger, address(Family::V4, DB))?;
        stage.admin_ok(&["mode", "enforce"])?;
        ensure!(probe::echo(&mut stream, ANSWER)?, "{way:?}: adopted");
        let told = stage.admin_ok(way)?;
        ensure!(told.contains("flow"), "{way:?}: {told}");
        ensure!(!probe::echo(&mut stream, DEAD)?, "{way:?}: it goes on");
        expect_flows(stage, 0)?;
        stage.end(Signal::SIGTERM)?;
    }
    Ok(())
}
