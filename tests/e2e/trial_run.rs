//! `--try`: nothing is pinned until it is confirmed, so that death is the roll-back.

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    network::{Family, Member},
    probe::{self, Port},
    wait,
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::{
    config::{Config, HTTPS},
    stage::{Stage, address},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::on("p8_a_trial_is_rolled_back_when_the_controller_dies", Config::default, died),
        trial::on("p8_a_trial_is_rolled_back_when_nobody_confirms", Config::default, unconfirmed),
        trial::on("p8_a_confirmed_trial_stays", Config::default, confirmed),
    ]
}

/// The kernel takes an unpinned link away just after its owner's death.
fn opens_again(stage: &Stage) -> Result<()> {
    wait::for_true("the roll-back", wait::PATIENCE, || {
        Ok(probe::tcp(&stage.net.stranger, address(Family::V4, HTTPS))? == Port::Open)
    })
}

fn died(stage: &mut Stage) -> Result<()> {
    stage.start(&["--try", "60s"])?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    stage.end(Signal::SIGKILL)?;
    opens_again(stage)
}

fn unconfirmed(stage: &mut Stage) -> Result<()> {
    stage.start(&["--try", "2s"])?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    opens_again(stage)
}

fn confirmed(stage: &mut Stage) -> Result<()> {
    stage.start(&["--try", "3s"])?;
    let started = wait::now();
    stage.admin_ok(&["confirm"])?;
    wait::until(started.after(std::time::Duration::from_millis(3_200)));
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent).context("after the time of the trial")?;
    stage.end(Signal::SIGKILL)?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent).context("after the controller's death")?;
    ensure!(stage.pins.exists(), "nothing is pinned");
    Ok(())
}
