//! Exit, kill, restart, detach: promise P4, and P3 without a controller.

use std::{os::unix::process::ExitStatusExt, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    binaries,
    cgroup::Cgroup,
    leftovers::remove_tree,
    network::{Family, Member},
    probe::{self, Leak, Port},
    process::Process,
    wait,
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    config::{Config, DB, HTTPS, METRICS, UDP, db, web},
    stage::{Stage, address},
    traffic::{self, Traffic},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::on("p3_a_grant_ends_with_the_controller_killed", seconds, killed),
        trial::on("p4_no_packet_leaks_while_controllers_die_and_come_back", minutes, no_leak),
        trial::on("p4_sigterm_leaves_enforcement_in_place", minutes, terminated),
        trial::on("p4_a_hundred_kills_leak_nothing_and_lose_nothing", traffic::config, kills),
        trial::on("p4_a_hundred_replacements_leak_nothing_and_lose_nothing", traffic::config, replacements),
        trial::on("p4_a_stopped_controller_cuts_no_flow_and_prolongs_no_grant", seconds, stopped),
        trial::needing("p4_an_out_of_memory_kill_opens_and_cuts_nothing", bounded, traffic::config, out_of_memory),
        trial::on("p4_a_second_controller_on_the_same_pins_is_refused", minutes, second),
        trial::on("p4_a_second_controller_on_the_same_state_is_refused", minutes, second_on_state),
        trial::on("p4_detach_removes_everything", minutes, detach),
        trial::on("p4_detach_on_exit_removes_everything", minutes, detach_on_exit),
        trial::on("p4_a_missing_interface_is_refused_and_opens_nothing", minutes, failed_restart),
    ]
}

fn seconds() -> Config {
    Config { services: vec![web("3s"), db("3s")], ..Config::default() }
}

fn minutes() -> Config {
    Config { services: vec![web("60s"), db("60s")], ..Config::default() }
}

fn killed(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let (sent, granted) = stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    stage.end(Signal::SIGKILL)?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent).context("stranger, controller dead")?;
    wait::until(sent.after(Duration::from_millis(2_600)));
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open).context("before the end, controller dead")?;
    wait::until(granted.after(Duration::from_millis(3_010)));
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent).context("after the end, controller dead")?;
    // Nobody is there to take a knock, and nobody answers one.
    stage.send(Member::Client, Family::V4, stage.token()?.as_bytes())?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent).context("a knock without a controller")?;
    // The counters are pinned too: it was the program that ended the grant.
    stage.start(&[])?;
    let ended = stage.metrics()?.packets("grant_ended");
    ensure!(ended >= 2.0, "two packets came after the end, {ended} were counted as such");
    Ok(())
}

fn no_leak(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    let leak = Leak::watch(&stage.net.stranger, address(Family::V4, UDP))?;
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL] {
        stage.end(signal)?;
        stage.expect_udp(Member::Client, Family::V4, UDP, Port::Open).context("a live grant, controller dead")?;
        stage.start(&[])?;
        stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open).context("a live grant after the restart")?;
    }
    let (asked, answered) = leak.finish()?;
    ensure!(asked > 50, "the prober asked only {asked} times");
    ensure!(answered == 0, "{answered} of {asked} packets leaked");
    // The adopted grant is known to the new controller: it can take it back.
    let grants = stage.admin_ok(&["grants", "list"])?;
    ensure!(grants.contains(&Member::Client.address(Family::V4).to_string()), "{grants}");
    stage.admin_ok(&["grants", "flush"])?;
    stage.expect_udp(Member::Client, Family::V4, UDP, Port::Silent)?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    stage.expect_udp(Member::Client, Family::V4, UDP, Port::Open)
}

fn kills(stage: &mut Stage) -> Result<()> {
    restarts(stage, Signal::SIGKILL)
}

/// What a package manager does: the program is put in the place of the one before, over the same maps.
fn replacements(stage: &mut Stage) -> Result<()> {
    restarts(stage, Signal::SIGTERM)
}

fn restarts(stage: &mut Stage, signal: Signal) -> Result<()> {
    stage.start(&[])?;
    let traffic = Traffic::start(stage)?;
    for number in 1..=traffic::cycles(100)? {
        stage.end(signal)?;
        stage.start(&[]).with_context(|| format!("restart {number}"))?;
    }
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open).context("the client's other service")?;
    traffic.finish(stage)
}

fn bounded() -> Result<Cgroup> {
    Cgroup::with_memory(&format!("jpat-{}-memory", std::process::id()))
}

fn out_of_memory(stage: &mut Stage, group: Cgroup) -> Result<()> {
    stage.start(&[])?;
    let traffic = Traffic::start(stage)?;
    group.take(stage.process_id()?)?;
    group.limit(64 << 10)?;
    // Whatever it does now takes memory.
    wait::for_true("the kernel to kill jpatd", wait::PATIENCE, || {
        let _answer = probe::http_get(&stage.net.host, METRICS, "/metrics");
        Ok(group.kills()? > 0)
    })?;
    let status = stage.wait_end()?;
    ensure!(status.signal() == Some(Signal::SIGKILL as i32), "{status}");
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)?;
    stage.start(&[])?;
    traffic.finish(stage)
}

fn stopped(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let both = || stage.key.token(&stage.claims_with(json!({ "roles": ["commerce-listings-admin", "dba"] })));
    let (_, granted) = stage.knock(Member::Client, Family::V4, &both()?, "granted")?;
    let mut standing = probe::connect(&stage.net.client, address(Family::V4, DB))?;
    stage.signal(Signal::SIGSTOP)?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open).context("before the end, controller stopped")?;
    wait::until(granted.after(Duration::from_millis(3_010)));
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent).context("after the end, controller stopped")?;
    wait::until(granted.after(Duration::from_millis(5_500)));
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    // A stopped controller is one: nobody takes its place meanwhile.
    let ended = Process::run(&stage.net.host, "second jpatd", stage.jpatd("run")?)?;
    ensure!(ended.status.code() == Some(1) && ended.output.contains("at work on"), "{}", ended.output);
    ensure!(probe::echo(&mut standing, probe::silence())?, "the standing connection was cut");
    stage.signal(Signal::SIGCONT)?;
    stage.knock(Member::Client, Family::V4, &both()?, "granted").context("a knock after SIGCONT")?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)?;
    ensure!(probe::echo(&mut standing, probe::silence())?, "the standing connection was cut after SIGCONT");
    Ok(())
}

fn terminated(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let status = stage.end(Signal::SIGTERM)?;
    ensure!(status.success(), "{status}");
    for family in Family::ALL {
        stage.expect_tcp(Member::Stranger, family, HTTPS, Port::Silent)?;
    }
    Ok(())
}

fn second(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let ended = Process::run(&stage.net.host, "second jpatd", stage.jpatd("run")?)?;
    ensure!(ended.status.code() == Some(1), "{}: {}", ended.status, ended.output);
    // The first goes on.
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)
}

fn second_on_state(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let other = format!("{}-other", stage.pins.display());
    let text = std::fs::read_to_string(stage.path("jpat.toml"))?;
    std::fs::write(stage.path("other.toml"), text.replace(&stage.pins.display().to_string(), &other))?;
    let mut command = Command::new(binaries::jpatd()?);
    command.arg("run").arg("--config").arg(stage.path("other.toml"));
    let ended = Process::run(&stage.net.host, "second jpatd", command)?;
    remove_tree(Path::new(&other))?;
    ensure!(ended.status.code() == Some(1) && ended.output.contains("another `state`"), "{}", ended.output);
    // Nobody holds it after a kill.
    stage.end(Signal::SIGKILL)?;
    stage.start(&[])
}

fn detach(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.end(Signal::SIGKILL)?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    let ended = Process::run(&stage.net.host, "jpatd detach", stage.jpatd("detach")?)?;
    ensure!(ended.status.success(), "{}: {}", ended.status, ended.output);
    stage.expect_tcp_soon(Member::Stranger, Family::V4, HTTPS, Port::Open)?;
    ensure!(!stage.pins.exists(), "{} is still there", stage.pins.display());
    // A start after that is a first start.
    stage.start(&[])?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)
}

fn detach_on_exit(stage: &mut Stage) -> Result<()> {
    stage.start(&["--detach-on-exit"])?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    let status = stage.end(Signal::SIGTERM)?;
    ensure!(status.success(), "{status}");
    stage.expect_tcp_soon(Member::Stranger, Family::V4, HTTPS, Port::Open)
}

fn failed_restart(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    stage.end(Signal::SIGKILL)?;
    let good = std::fs::read_to_string(stage.path("jpat.toml"))?;
    std::fs::write(stage.path("jpat.toml"), good.replace("\"eth0\"", "\"eth7\""))?;
    let ended = Process::run(&stage.net.host, "jpatd", stage.jpatd("run")?)?;
    ensure!(ended.status.code() == Some(1) && ended.output.contains("eth7"), "{}: {}", ended.status, ended.output);
    stage.expect_tcp(Member::Stranger, Family::V4, DB, Port::Silent)?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)?;
    let echo = probe::udp(&stage.net.client, address(Family::V4, UDP))?;
    ensure!(echo == Port::Open, "the live grant was cut");
    Ok(())
}
