//! Connections that outlive their grant: adopted when enforcement begins, removed when they are over, bounded, and ended
//! by whatever revokes. Nobody but the adopted and the granted gets in.

use std::{
    net::TcpStream,
    path::Path,
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
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    config::{Config, DB, HTTPS, db, web},
    stage::{Stage, address},
    trial,
};

/// Answers in the namespaces take well under a millisecond; a segment that was dropped is sent again after 200.
const ANSWER: Duration = Duration::from_millis(1500);
/// A connection that is dead does not answer within this.
const DEAD: Duration = Duration::from_millis(400);

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
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
    trials.extend([
        trial::on("p8_no_connection_is_lost_while_the_mode_is_switched", auditing, no_window),
        trial::on("p8_half_open_connections_are_adopted_for_ten_seconds", auditing, half_open),
        trial::on("p2_what_did_not_stand_is_not_adopted", || services("cut", "2s"), not_adopted),
        trial::on("p3_adopted_connections_are_revoked", Config::default, adopted_revoked),
        trial::on("p3_idle_and_old_flows_end", idle_and_old, ends),
        trial::on("p3_flows_that_outlived_their_grant_are_revoked", || services("keep", "1s"), outlived),
        trial::on("p3_rules_that_change_end_flows", || services("keep", "1s"), rules_change),
        trial::on("p4_a_flow_goes_on_through_kill_and_restart_after_its_grant", || services("keep", "1s"), restart),
        trial::on("p4_a_forged_fin_ends_no_connection", || services("keep", "1s"), forged),
        trial::on("flows_that_are_over_leave_the_table", || services("keep", "60s"), over),
        trial::on("p4_limits_refuse_the_next_connection_and_no_other", limited, limits),
    ]);
    trials
}

fn both(sessions: &str, ttl: &str) -> Vec<String> {
    [web(ttl), db(ttl)].map(|service| format!("{service}sessions = \"{sessions}\"\n")).into()
}

fn services(sessions: &str, ttl: &str) -> Config {
    Config { services: both(sessions, ttl), ..Config::default() }
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

fn expect_flows(stage: &Stage, expected: u64) -> Result<()> {
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
fn outliving(stage: &Stage) -> Result<TcpStream> {
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

fn over(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let token = stage.key.token(&stage.claims_with(json!({ "roles": ["dba"] })))?;
    stage.knock(Member::Client, Family::V4, &token, "granted")?;
    let streams: Vec<_> =
        (0..5).map(|_| probe::connect(&stage.net.client, address(Family::V4, DB))).collect::<Result<_>>()?;
    expect_flows(stage, 5)?;
    let shown = list(stage)?;
    ensure!(shown["grants"][0]["flows"] == 5, "{shown}");
    drop(streams);
    expect_flows(stage, 0)?;
    // A SYN that nobody confirms: its flow ends after ten seconds.
    stage.net.client.run(|| {
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
        let mut segment = packet::tcp(DB, packet::SYN, &[]);
        segment[..2].copy_from_slice(&[0xff, 0]);
        raw.send_to(&segment, &std::net::SocketAddr::new(Member::Host.address(Family::V4), 0).into())?;
        Ok(())
    })?;
    expect_flows(stage, 1)?;
    expect_flows(stage, 0)
}

fn limited() -> Config {
    let rest = "[limits]\nflows = 16\nflows_per_grant = 14\n".to_owned();
    Config { rest, services: both("keep", "60s"), ..Config::default() }
}

fn limits(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let token = stage.key.token(&stage.claims_with(json!({ "roles": ["dba"] })))?;
    let connect = |stage: &Stage, member| probe::connect(stage.net.of(member), address(Family::V4, DB));
    stage.knock(Member::Client, Family::V4, &token, "granted")?;
    let mut streams: Vec<_> = (0..12).map(|_| connect(stage, Member::Client)).collect::<Result<_>>()?;
    expect_flows(stage, 12)?;
    let quiet = stage.admin_ok(&["status"])?;
    ensure!(quiet.contains("flows       12 of 16") && !quiet.contains("ALARM       12 of 16 flows"), "{quiet}");
    streams.extend((0..2).map(|_| connect(stage, Member::Client)).collect::<Result<Vec<_>>>()?);
    expect_flows(stage, 14)?;
    let loud = stage.admin_ok(&["status"])?;
    ensure!(loud.contains("ALARM       14 of 16 flows are in use (`limits.flows`)"), "{loud}");
    let before = stage.metrics()?.packets("flows_per_grant");
    stage.expect_tcp(Member::Client, Family::V4, DB, Port::Silent).context("flows_per_grant")?;
    ensure!(stage.metrics()?.packets("flows_per_grant") > before, "not told as flows_per_grant");
    ensure!(stage.http_status("/readyz")? == 200, "the map is not full");

    let other = stage.key.token(&stage.claims_with(json!({ "roles": ["dba"], "sub": "employee:bob" })))?;
    stage.knock(Member::Stranger, Family::V4, &other, "granted")?;
    streams.extend((0..2).map(|_| connect(stage, Member::Stranger)).collect::<Result<Vec<_>>>()?);
    expect_flows(stage, 16)?;
    let before = stage.metrics()?.packets("flows_full");
    stage.expect_tcp(Member::Stranger, Family::V4, DB, Port::Silent).context("limits.flows")?;
    ensure!(stage.metrics()?.packets("flows_full") > before, "not told as flows_full");
    ensure!(stage.http_status("/readyz")? == 503, "the map is full");
    for stream in &mut streams {
        ensure!(probe::echo(stream, ANSWER)?, "a connection that stood was cut");
    }
    // Room comes back with the connections that end.
    streams.truncate(10);
    stage.expect_tcp_soon(Member::Client, Family::V4, DB, Port::Open)?;
    expect_capacity(stage.path("jpat.toml").as_path(), stage)
}

/// A pinned map keeps its size; that is said.
fn expect_capacity(config: &Path, stage: &mut Stage) -> Result<()> {
    stage.end(Signal::SIGKILL)?;
    let text = std::fs::read_to_string(config)?.replace("flows = 16", "flows = 32");
    std::fs::write(config, text)?;
    stage.start(&[])?;
    ensure!(stage.output().contains("the pinned flow map holds 16 entries, not the 32"), "{}", stage.output());
    ensure!(stage.metrics()?.sum("jpat_flows_capacity", &[]) == 16.0, "another capacity");
    Ok(())
}
