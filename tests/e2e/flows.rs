//! Connections that outlive their grant: adopted when enforcement begins, removed when they are over, bounded, and ended
//! by whatever revokes. Nobody but the adopted and the granted gets in.

mod adoption;
mod limits;

use std::{net::TcpStream, time::Duration};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    network::{Family, Member},
    packet, probe,
    probe::Port,
    wait::{self, PATIENCE},
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    config::{Config, DB, HTTPS, db, web},
    stage::{Stage, address},
    trial,
};

/// Answers in the namespaces take well under a millisecond; a segment that was dropped is sent again after 200.
pub(crate) const ANSWER: Duration = Duration::from_millis(1500);
/// A connection that is dead does not answer within this.
pub(crate) const DEAD: Duration = Duration::from_millis(400);

pub(crate) fn trials() -> Vec<Trial> {
    let flows = vec![
        trial::on("p3_idle_and_old_flows_end", idle_and_old, ends),
        trial::on("p3_flows_that_outlived_their_grant_are_revoked", || services("keep", "1s"), outlived),
        trial::on("p3_rules_that_change_end_flows", || services("keep", "1s"), rules_change),
        trial::on("p4_a_flow_goes_on_through_kill_and_restart_after_its_grant", || services("keep", "1s"), restart),
        trial::on("p4_a_forged_fin_ends_no_connection", || services("keep", "1s"), forged),
    ];
    [flows, adoption::trials(), limits::trials()].into_iter().flatten().collect()
}

fn both(sessions: &str, ttl: &str) -> Vec<String> {
    [web(ttl), db(ttl)].map(|service| format!("{service}sessions = \"{sessions}\"\n")).into()
}

pub(crate) fn services(sessions: &str, ttl: &str) -> Config {
    Config { services: both(sessions, ttl), ..Config::default() }
}

pub(crate) fn expect_flows(stage: &Stage, expected: u64) -> Result<()> {
    let mut last = 0.0;
    wait::for_true("the flows to be seen", PATIENCE, || {
        last = stage.metrics()?.sum("jpat_flows", &[]);
        Ok(last == expected as f64)
    })
    .with_context(|| format!("there are {last} flows, not {expected}"))
}

fn list(stage: &Stage) -> Result<Value> {
    Ok(serde_json::from_str(&stage.admin_ok(&["grants", "list", "-o", "json"])?)?)
}

fn idle_and_old() -> Config {
    let service = |service: String, more: &str| format!("{service}sessions = \"keep\"\n{more}\n");
    let (idle, old) = (service(db("1s"), "flow_idle = \"2s\""), service(web("1s"), "flow_max = \"3s\""));
    Config { services: vec![idle, old], ..Config::default() }
}

fn ends(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let token = stage.key.token(&stage.claims_with(json!({ "roles": ["dba", "commerce-listings-admin"] })))?;
    stage.knock(Member::Client, Family::V6, &token, "granted")?;
    let client = &stage.net.client;
    let mut idle = probe::connect(client, address(Family::V6, DB))?;
    let opened = wait::now();
    let old = probe::connect(client, address(Family::V6, HTTPS))?;
    ensure!(probe::echo(&mut idle, ANSWER)?, "under its grant");
    wait::until(opened.after(Duration::from_millis(1_500)));
    ensure!(probe::echo(&mut idle, ANSWER)?, "its grant has ended, and it is not idle");
    let last = wait::now();
    expect_flows(stage, 2)?;
    wait::until(last.after(Duration::from_millis(2_050)));
    ensure!(!probe::echo(&mut idle, DEAD)?, "it was idle for longer than flow_idle");
    wait::until(opened.after(Duration::from_millis(3_050)));
    expect_flows(stage, 0)?;
    let before = stage.metrics()?.packets("no_grant");
    old.set_nonblocking(true)?;
    std::io::Write::write_all(&mut &old, b"x")?;
    wait::for_true("a segment of the old connection to be dropped", PATIENCE, || {
        Ok(stage.metrics()?.packets("no_grant") > before)
    })
}

/// A connection that answers after its grant has ended.
pub(crate) fn outliving(stage: &Stage) -> Result<TcpStream> {
    let token = stage.key.token(&stage.claims_with(json!({ "roles": ["dba"] })))?;
    let (_, granted) = stage.knock(Member::Client, Family::V4, &token, "granted")?;
    let mut stream = probe::connect(&stage.net.client, address(Family::V4, DB))?;
    wait::until(granted.after(Duration::from_millis(1_100)));
    stage.expect_tcp(Member::Client, Family::V4, DB, Port::Silent).context("its grant has ended")?;
    ensure!(probe::echo(&mut stream, ANSWER)?, "it outlives its grant");
    expect_flows(stage, 1)?;
    Ok(stream)
}

fn outlived(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    for way in [
        &["grants", "revoke", "--principal", "corp:employee:alice"][..],
        &["grants", "revoke", "--source", "192.0.2.0/24"],
        &["grants", "revoke", "--service", "db"],
    ] {
        let mut stream = outliving(stage)?;
        wait::for_true("the ended grant to be listed", PATIENCE, || {
            let list = list(stage)?;
            let entry = &list["outlived"][0];
            Ok(entry["principal"] == "corp:employee:alice" && entry["flows"] == 1 && entry["seconds_left"] == 0)
        })?;
        let shown = stage.admin_ok(&["grants", "list"])?;
        ensure!(shown.contains("ended") && shown.contains("FLOWS"), "{shown}");
        let other = stage.admin_ok(&["grants", "revoke", "--principal", "corp:employee:bob"])?;
        ensure!(other.contains("nothing matched") && probe::echo(&mut stream, ANSWER)?, "somebody else: {other}");
        let told = stage.admin_ok(way)?;
        ensure!(told.contains("0 grants revoked, 1 flow ended"), "{way:?}: {told}");
        ensure!(!probe::echo(&mut stream, DEAD)?, "{way:?}: it goes on");
        expect_flows(stage, 0)?;
        let audit = std::fs::read_to_string(stage.path(stage.config.audit))?;
        ensure!(audit.lines().last().is_some_and(|line| line.contains("\"revoked\"")), "{audit}");
    }
    Ok(())
}

fn rules_change(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let deny = "[[deny]]\nname = \"left\"\nwhen = '''claims.sub == \"employee:alice\"'''\n";
    let narrowed = [web("1s"), db("1s").replace("\"dba\"", "\"other\"")].map(|s| s + "sessions = \"keep\"\n");
    for (what, services, rest) in [
        ("a deny rule", both("keep", "1s"), deny),
        ("a narrower allow", narrowed.into(), ""),
        ("sessions that are cut", both("cut", "1s"), ""),
        ("no such service", vec![both("keep", "1s")[0].clone()], ""),
    ] {
        stage.config.services = both("keep", "1s");
        stage.config.rest = String::new();
        stage.write_config()?;
        stage.admin_ok(&["reload"])?;
        let mut stream = outliving(stage)?;
        stage.admin_ok(&["reload"])?;
        ensure!(probe::echo(&mut stream, ANSWER)?, "{what}: a reload that changes nothing");
        stage.config.services = services;
        stage.config.rest = rest.to_owned();
        stage.write_config()?;
        stage.admin_ok(&["reload"])?;
        if what == "no such service" {
            // Its port is unprotected now.
            expect_flows(stage, 0)?;
            continue;
        }
        ensure!(!probe::echo(&mut stream, DEAD)?, "{what}: it goes on");
        expect_flows(stage, 0)?;
        // What ended does not come back.
        stage.config.services = both("keep", "1s");
        stage.config.rest = String::new();
        stage.write_config()?;
        stage.admin_ok(&["reload"])?;
        ensure!(!probe::echo(&mut stream, DEAD)?, "{what}: it came back");
    }
    // Nor where the next reload follows at once.
    stage.config.services = both("keep", "1s");
    stage.write_config()?;
    stage.admin_ok(&["reload"])?;
    let mut stream = outliving(stage)?;
    for sessions in ["cut", "keep"] {
        stage.config.services = both(sessions, "1s");
        stage.write_config()?;
        stage.admin_ok(&["reload"])?;
    }
    ensure!(!probe::echo(&mut stream, DEAD)?, "cut for a moment, and it came back");
    Ok(())
}

fn restart(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let mut stream = outliving(stage)?;
    for _ in 0..3 {
        stage.end(Signal::SIGKILL)?;
        ensure!(probe::echo(&mut stream, ANSWER)?, "the controller is dead");
        stage.start(&[])?;
        ensure!(probe::echo(&mut stream, ANSWER)?, "after the restart");
        expect_flows(stage, 1)?;
    }
    let told = stage.admin_ok(&["grants", "revoke", "--principal", "adopted"])?;
    ensure!(told.contains("1 flow ended"), "{told}");
    ensure!(!probe::echo(&mut stream, DEAD)?, "it goes on");
    // Under the next grant its segments would make it a flow again.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    drop(stream);
    // Where rules changed while nobody ran, what they let in ends.
    let mut stream = outliving(stage)?;
    stage.end(Signal::SIGKILL)?;
    stage.config.services = [web("1s"), db("1s").replace("\"dba\"", "\"other\"")].into();
    stage.write_config()?;
    stage.start(&[])?;
    ensure!(!probe::echo(&mut stream, DEAD)?, "its rules changed, and it goes on");
    expect_flows(stage, 0)
}

/// A segment with FIN, and one with RST, of the connection's ports and of nobody's numbers.
fn forged(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let mut stream = outliving(stage)?;
    let port = stream.local_addr()?.port().to_be_bytes();
    for flags in [0x11, 0x14] {
        let mut segment = packet::tcp(DB, flags, &[]);
        segment[..2].copy_from_slice(&port);
        let before = stage.metrics()?.packets("flow");
        stage.net.client.run(|| {
            let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
            let host = std::net::SocketAddr::new(Member::Host.address(Family::V4), 0);
            raw.send_to(&segment, &host.into())?;
            Ok(())
        })?;
        wait::for_true("the forged segment to pass the program", PATIENCE, || {
            Ok(stage.metrics()?.packets("flow") > before)
        })?;
    }
    // Longer than the sweeper gives a connection whose socket is gone.
    let until = wait::now().after(Duration::from_secs(5));
    wait::until(until);
    expect_flows(stage, 1)?;
    ensure!(probe::echo(&mut stream, ANSWER)?, "the connection was cut");
    Ok(())
}
