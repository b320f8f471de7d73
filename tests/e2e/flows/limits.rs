//! Room for flows and grants: how it comes back, what happens without.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use jpat_common::grant::HEADROOM_PER_CPU;
use jpat_tests::{
    network::{Family, Member},
    packet, probe,
    probe::Port,
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use super::{ANSWER, both, expect_flows, list, services};
use crate::{
    config::{Config, DB},
    stage::{Stage, address},
    trial,
};

/// Live grants that fit into the smallest map that is allowed.
const FEWEST: usize = 64;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial::on("flows_that_are_over_leave_the_table", || services("keep", "60s"), over),
        trial::on("p4_limits_refuse_the_next_connection_and_no_other", limited, limits),
        trial::on("p4_grants_are_refused_before_the_map_evicts_and_told_of_before", smallest, grants),
    ]
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

fn smallest() -> Config {
    let cpus = u32::try_from(aya::util::nr_cpus().unwrap_or(1)).unwrap_or(1);
    let rest = format!("[limits]\ngrants = {}\n", cpus * HEADROOM_PER_CPU + FEWEST as u32);
    Config { rest, services: both("keep", "600s"), ..Config::default() }
}

fn grants(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let add = |stage: &Stage, number: usize| stage.admin(&["grants", "add", &format!("10.0.0.{number}"), "db"]);
    let alarm = |stage: &Stage| Ok::<_, anyhow::Error>(stage.admin_ok(&["status"])?.contains("(`limits.grants`)"));
    for number in 1..=FEWEST {
        ensure!(add(stage, number)?.status.success(), "{number} of {FEWEST}");
        if number == 51 {
            ensure!(!alarm(stage)?, "an alarm below 80 %");
        } else if number == 52 {
            ensure!(alarm(stage)?, "no alarm at 81 %");
        }
    }
    let refused = add(stage, FEWEST + 1)?;
    ensure!(refused.status.code() == Some(1) && refused.output.contains("full"), "{}", refused.output);
    // A restart finds all of them, and as little room.
    stage.end(Signal::SIGKILL)?;
    stage.start(&[])?;
    let found = list(stage)?["grants"].as_array().map_or(0, Vec::len);
    ensure!(found == FEWEST && alarm(stage)?, "{found} of {FEWEST} grants");
    ensure!(!add(stage, FEWEST + 1)?.status.success(), "one too many after the restart");
    stage.admin_ok(&["grants", "revoke", "--source", "10.0.0.1"])?;
    ensure!(add(stage, FEWEST + 1)?.status.success(), "no room after a revocation");
    Ok(())
}
