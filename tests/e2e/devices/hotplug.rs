//! Devices that come and go while `jpatd` runs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    network::{Family, Member},
    privileges,
    probe::{self, Leak, Port},
    wait::{self, PATIENCE},
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use super::{
    WINDOW, bring_up, expect_closed, expect_open, expect_opened_by_a_knock, host, interface, link, on, pin_name, pins,
    status, tell, wait_attached, watch_window,
};
use crate::{
    config::{HTTPS, UDP},
    stage::{Stage, address},
    trial,
};

/// Far less than the time between two looks that nothing prompts.
const SOON: Duration = Duration::from_millis(100);
/// Devices that come and go in one trial.
const ROUNDS: usize = 25;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::on("p2_a_device_that_appears_is_attached_before_it_is_up", || on("\"eth0\", \"new*\""), appears),
        trial::on("p2_a_device_that_comes_up_at_once_is_closed_in_time", || on("\"eth0\", \"new*\""), comes_up_at_once),
        trial::on("p2_several_devices_are_attached_by_name_and_glob", || on("\"eth0\", \"one\", \"t?o\""), several),
        trial::on("p2_a_named_device_that_is_missing_is_attached_when_it_comes", || on("\"eth0\", \"later\""), missing),
        trial::on(
            "p4_devices_that_come_while_nobody_runs_are_attached_at_the_start",
            || on("\"eth0\", \"new*\""),
            restart,
        ),
        trial::on("p4_what_is_left_of_a_device_that_went_is_removed", || on("\"eth0\", \"new*\""), goes),
        trial::on("p8_nothing_new_is_pinned_in_an_unconfirmed_trial", || on("\"eth0\", \"new*\""), in_a_trial),
        trial::needing(
            "p2_external_takes_a_bond_that_appears",
            bonds,
            || on("\"eth0\", \"external\""),
            |stage, ()| bond(stage),
        ),
    ]
}

fn appears(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let mut windows = Vec::new();
    for _ in 0..ROUNDS {
        let window = std::thread::scope(|scope| {
            let watch = scope.spawn(|| watch_window(stage, "new0"));
            let added = link(stage, "new0");
            let window = watch.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            added.and(window)
        })?;
        windows.push(window);
        stage.net.host.ip("link del new0")?;
        wait::for_true("new0 to be forgotten", PATIENCE, || Ok(interface(&status(stage)?, "new0").is_none()))?;
    }
    windows.sort();
    tell(&format!(
        "from a device's appearance to its program, {ROUNDS} devices: median {:?}, maximum {:?}",
        windows[ROUNDS / 2],
        windows[ROUNDS - 1]
    ));
    ensure!(windows[ROUNDS / 2] < SOON && windows[ROUNDS - 1] < WINDOW, "{windows:?}");
    link(stage, "new0")?;
    wait_attached(stage, "new0")?;
    bring_up(stage, "new0", 1)?;
    expect_closed(stage, host(1))?;
    expect_opened_by_a_knock(stage, host(1))?;
    expect_closed(stage, Member::Host.address(Family::V4))
}

/// The device arrives from another namespace, already up, and the stranger at its other end asks without a pause for
/// an address that the host has long had.
fn comes_up_at_once(stage: &mut Stage) -> Result<()> {
    const HARDWARE: &str = "02:00:00:00:00:07";
    const ROUNDS: usize = 10;
    stage.start(&[])?;
    let host = Member::Host.address(Family::V4);
    let (mut windows, mut asked, mut answered) = (Vec::new(), 0, 0);
    for _ in 0..ROUNDS {
        stage.net.stranger.ip(&format!(
            "link add name new0 address {HARDWARE} type veth peer name far0\nlink set far0 up\n\
             route add {host}/32 dev far0 src {}\nneigh add {host} lladdr {HARDWARE} dev far0",
            Member::Stranger.address(Family::V4)
        ))?;
        let leak = Leak::watch(&stage.net.stranger, address(Family::V4, UDP))?;
        let window = std::thread::scope(|scope| {
            let watch = scope.spawn(|| watch_window(stage, "new0"));
            let moved = stage.net.stranger.ip(&format!("link set dev new0 up netns {}", stage.net.host.name()));
            let window = watch.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            moved.and(window)
        });
        // What is asked from here on goes through the program.
        let dropped = stage.metrics()?.packets("no_grant");
        let judged =
            wait::for_true("a packet to be judged", PATIENCE, || Ok(stage.metrics()?.packets("no_grant") > dropped));
        let (asks, answers) = leak.finish()?;
        judged?;
        windows.push(window?);
        asked += asks;
        answered += answers;
        stage.net.stranger.ip("link del far0")?;
        wait::for_true("new0 to be forgotten", PATIENCE, || Ok(interface(&status(stage)?, "new0").is_none()))?;
    }
    windows.sort();
    tell(&format!(
        "{ROUNDS} devices that came up as they appeared: program after {:?} at the median, {:?} at most; {answered} of {asked} packets of a stranger were answered",
        windows[ROUNDS / 2],
        windows[ROUNDS - 1],
    ));
    ensure!(windows[ROUNDS / 2] < SOON && windows[ROUNDS - 1] < WINDOW, "{windows:?}");
    Ok(())
}

fn several(stage: &mut Stage) -> Result<()> {
    for (name, number) in [("one", 1), ("two", 2), ("other", 3)] {
        link(stage, name)?;
        bring_up(stage, name, number)?;
        expect_open(stage, host(number))?;
    }
    stage.start(&[])?;
    for number in [1, 2] {
        expect_closed(stage, host(number))?;
        expect_opened_by_a_knock(stage, host(number))?;
    }
    expect_closed(stage, Member::Host.address(Family::V4))?;
    expect_open(stage, host(3)).context("a device that is not listed")?;
    let shown = status(stage)?;
    let names: Vec<_> = shown["interfaces"].as_array().into_iter().flatten().map(|at| at["name"].to_string()).collect();
    ensure!(names == ["\"eth0\"", "\"one\"", "\"two\""], "{names:?}");
    ensure!(shown["not_judged"].to_string().contains("other"), "{shown}");
    // The death of the controller opens none of them.
    stage.end(Signal::SIGKILL)?;
    for number in [1, 2] {
        expect_closed(stage, host(number))?;
    }
    stage.start(&[])?;
    for number in [1, 2] {
        expect_closed(stage, host(number))?;
    }
    Ok(())
}

fn missing(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    ensure!(stage.output().contains("there is no device `later`"), "{}", stage.output());
    let text = stage.admin_ok(&["status"])?;
    ensure!(text.contains("waiting     later: no such device yet"), "{text}");
    link(stage, "later")?;
    wait_attached(stage, "later")?;
    bring_up(stage, "later", 1)?;
    expect_closed(stage, host(1))?;
    let shown = status(stage)?;
    ensure!(shown["waiting"].as_array().is_some_and(Vec::is_empty), "{shown}");
    ensure!(interface(&shown, "later").is_some_and(|later| later["attach"] == "driver"), "{shown}");
    Ok(())
}

fn restart(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.end(Signal::SIGKILL)?;
    link(stage, "new0")?;
    bring_up(stage, "new0", 1)?;
    expect_open(stage, host(1))?;
    stage.start(&[])?;
    expect_closed(stage, host(1))?;
    stage.end(Signal::SIGKILL)?;
    expect_closed(stage, host(1))
}

fn goes(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    link(stage, "new0")?;
    let first = wait_attached(stage, "new0")?;
    wait::for_true("its pin", PATIENCE, || pinned(stage, first.index))?;
    stage.net.host.ip("link del new0")?;
    wait::for_true("the end of its pin", PATIENCE, || Ok(!pinned(stage, first.index)?))?;
    // Another one gets the number of the first, and the controller must not take it for that.
    let stranger = stage.net.stranger.name();
    let index = first.index;
    stage.net.host.ip(&format!("link add name new1 index {index} type veth peer name new1 netns {stranger}"))?;
    let second = wait_attached(stage, "new1")?;
    ensure!(second.index == index, "{second:?}");
    bring_up(stage, "new1", 1)?;
    expect_closed(stage, host(1))?;
    ensure!(stage.http_status("/readyz")? == 200, "/readyz is not content");
    Ok(())
}

fn pinned(stage: &Stage, index: u32) -> Result<bool> {
    Ok(pins(stage)?.iter().any(|pin| pin_name(pin).starts_with(&format!("link-{index}-"))))
}

fn in_a_trial(stage: &mut Stage) -> Result<()> {
    stage.start(&["--try", "60s"])?;
    link(stage, "new0")?;
    bring_up(stage, "new0", 1)?;
    let new = wait_attached(stage, "new0")?;
    expect_closed(stage, host(1))?;
    ensure!(!pinned(stage, new.index)?, "pinned in an unconfirmed trial");
    stage.end(Signal::SIGKILL)?;
    expect_open(stage, host(1)).context("the roll-back of the new device")?;
    stage.expect_tcp_soon(Member::Stranger, Family::V4, HTTPS, Port::Open)?;
    stage.start(&["--try", "60s"])?;
    stage.net.host.ip("link del new0")?;
    link(stage, "new0")?;
    bring_up(stage, "new0", 1)?;
    let new = wait_attached(stage, "new0")?;
    stage.admin_ok(&["confirm"])?;
    ensure!(pinned(stage, new.index)?, "not pinned by the confirmation");
    // Nobody follows a new address once the controller is dead.
    expect_closed(stage, host(1))?;
    stage.end(Signal::SIGKILL)?;
    expect_closed(stage, host(1))
}

fn bonds() -> Result<()> {
    privileges::device_kind("bond")
}

/// The one kind of external device that can be made.
fn bond(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.net.host.ip("link add name bond0 type bond")?;
    wait_attached(stage, "bond0")?;
    let shown = status(stage)?;
    ensure!(interface(&shown, "bond0").is_some(), "{shown}");
    let there = probe::tcp(&stage.net.stranger, (Member::Host.address(Family::V4), HTTPS).into())?;
    ensure!(there == Port::Silent, "{there:?}");
    Ok(())
}
