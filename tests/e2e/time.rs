//! Clocks that are set and machines that sleep: promise P3. The clock is everybody's, so these run one at a time and in
//! the guests of `cargo xtask vm` alone; elsewhere they are skipped by name.

use std::{thread::sleep, time::Duration};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    guest::{self, SteppedClock},
    network::{Family, Member},
    probe::Port,
    wait::{self, PATIENCE},
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    config::{Config, HTTPS, web},
    stage::Stage,
    trial,
};

const HOUR: i64 = 3_600;
/// Long enough for a step and a look before the end, on an emulated machine.
const TTL: Duration = Duration::from_secs(6);

/// Who is there when the clock is set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Controller {
    Alive,
    Dead,
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (who, controller) in [("alive", Controller::Alive), ("dead", Controller::Dead)] {
        for (direction, seconds) in [("back", -HOUR), ("forward", HOUR)] {
            trials.push(trial::in_guest(
                format!("p3_a_clock_set_{direction}_an_hour_lengthens_no_grant_with_the_controller_{who}"),
                || Config { services: vec![web("6s")], ..Config::default() },
                move |stage| no_longer(stage, seconds, controller),
            ));
        }
        trials.push(trial::in_guest(
            format!("p3_no_grant_outlives_a_suspend_with_the_controller_{who}"),
            || Config { services: vec![web("6s")], ..Config::default() },
            move |stage| asleep(stage, controller),
        ));
    }
    let minute = || Config { services: vec![web("60s")], ..Config::default() };
    trials.push(trial::in_guest("p3_a_clock_set_back_an_hour_does_not_move_a_tokens_exp", minute, exp_stays));
    trials.push(trial::in_guest("p3_a_clock_set_forward_beyond_exp_ends_a_grant", minute, exp_passed));
    trials.push(trial::in_guest("p3_a_clock_set_back_while_nobody_ran_lengthens_no_adopted_grant", minute, adopted));
    trials
}

/// The grant is there until its time to live is over by a clock that nobody can set, and no longer.
fn no_longer(stage: &mut Stage, seconds: i64, controller: Controller) -> Result<()> {
    stage.start(&[])?;
    // An `exp` that a step of an hour does not reach: only the time to live ends this grant.
    let exp = jpat_userspace::clock::now().unix.secs() + 7_200;
    let token = stage.key.token(&stage.claims_with(json!({ "exp": exp })))?;
    let (sent, granted) = stage.knock(Member::Client, Family::V4, &token, "granted")?;
    if controller == Controller::Dead {
        stage.end(Signal::SIGKILL)?;
    }
    let _clock = SteppedClock::by(seconds)?;
    ensure!(wait::now() < sent.after(TTL - Duration::from_secs(1)), "too slow to look before the end");
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open).context("before the end, after the step")?;
    wait::until(granted.after(TTL + Duration::from_millis(10)));
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent).context("after the end")
}

/// `exp` became boot time when the grant was written.
fn exp_stays(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let exp = jpat_userspace::clock::now().unix.secs() + TTL.as_secs();
    let token = stage.key.token(&stage.claims_with(json!({ "exp": exp })))?;
    let (_, granted) = stage.knock(Member::Client, Family::V4, &token, "granted")?;
    let _clock = SteppedClock::by(-HOUR)?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open).context("before exp, after the step")?;
    wait::until(granted.after(TTL + Duration::from_millis(10)));
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent).context("after exp")
}

/// A living controller reads `exp` again: the token is over now.
fn exp_passed(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)?;
    let before = wait::now();
    let _clock = SteppedClock::by(HOUR)?;
    stage.expect_tcp_soon(Member::Client, Family::V4, HTTPS, Port::Silent)?;
    ensure!(wait::now() < before.after(Duration::from_secs(50)), "the time to live may have ended it");
    Ok(())
}

/// A controller that starts under another wall clock takes the grant over with the end that it has.
fn adopted(stage: &mut Stage) -> Result<()> {
    const LEFT: Duration = Duration::from_secs(20);
    stage.start(&[])?;
    let exp = jpat_userspace::clock::now().unix.secs() + LEFT.as_secs();
    let token = stage.key.token(&stage.claims_with(json!({ "exp": exp })))?;
    let (sent, granted) = stage.knock(Member::Client, Family::V4, &token, "granted")?;
    stage.end(Signal::SIGKILL)?;
    let _clock = SteppedClock::by(-HOUR)?;
    stage.start(&[])?;
    ensure!(wait::now() < sent.after(LEFT - Duration::from_secs(2)), "too slow to look before the end");
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open).context("taken over")?;
    wait::until(granted.after(LEFT + Duration::from_millis(10)));
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent).context("after the end")
}

/// Boot time went on while everything stood still.
fn asleep(stage: &mut Stage, controller: Controller) -> Result<()> {
    stage.start(&[])?;
    let (sent, granted) = stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    if controller == Controller::Dead {
        stage.end(Signal::SIGKILL)?;
    }
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open).context("before the suspend")?;
    let slept = guest::suspend(8)?;
    ensure!(wait::now() > granted.after(TTL), "awake before the end: {slept:?}");
    // Jiffies stand still in a suspend, and the program reads its clock once in each.
    sleep(Duration::from_millis(10));
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent).context("after a suspend beyond the end")?;
    let after = wait::now();
    ensure!(after > sent.after(TTL), "boot time stood still");
    // The machine works as before: the controller that lives grants again.
    if controller == Controller::Alive {
        wait::for_true("a knock after the suspend", PATIENCE, || {
            Ok(stage.knock(Member::Client, Family::V4, &stage.token()?, "granted").is_ok())
        })?;
        stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open).context("a new grant")?;
    }
    Ok(())
}
