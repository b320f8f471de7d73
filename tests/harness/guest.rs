//! What only a guest of `cargo xtask vm` may do to itself: set its clock, and suspend.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_gettime, clock_settime},
};

use crate::wait;

const CLOCK: ClockId = ClockId::CLOCK_REALTIME;
const ALARM: &str = "/sys/class/rtc/rtc0/wakealarm";
const STATE: &str = "/sys/power/state";
const KIND: &str = "/sys/power/mem_sleep";

/// Whether this kernel was booted by `cargo xtask vm`, which says so on the kernel's command line. Elsewhere nobody's clock
/// is touched.
#[must_use]
pub fn is_guest() -> bool {
    std::fs::read_to_string("/proc/cmdline").is_ok_and(|line| line.split_whitespace().any(|word| word == "jpat.vm"))
}

/// The wall clock, set by so many seconds; set back by as many when dropped.
#[derive(Debug)]
pub struct SteppedClock(i64);

impl SteppedClock {
    /// Sets it forward, or back by a negative number.
    ///
    /// # Errors
    /// Outside a guest, or if the kernel refuses.
    pub fn by(seconds: i64) -> Result<Self> {
        step(seconds)?;
        Ok(Self(seconds))
    }
}

impl Drop for SteppedClock {
    fn drop(&mut self) {
        // A guest that cannot set its clock has failed a trial already.
        let _stays = step(-self.0);
    }
}

fn step(seconds: i64) -> Result<()> {
    ensure!(is_guest(), "this is no guest: its clock is not touched");
    let now = clock_gettime(CLOCK).context("read the wall clock")?;
    clock_settime(CLOCK, now + TimeSpec::new(seconds, 0)).context("set the wall clock")
}

/// Suspends to memory until the real-time clock's alarm in `seconds`; how long the suspend was. (From idleness, `s2idle`,
/// QEMU's real-time clock wakes no kernel.)
///
/// # Errors
/// Outside a guest, or if the kernel did not suspend: the clock that stands still meanwhile must have.
pub fn suspend(seconds: u64) -> Result<Duration> {
    ensure!(is_guest(), "this is no guest: it is not suspended");
    ensure!(Path::new(ALARM).exists(), "{ALARM}: there is nothing to wake up by");
    std::fs::write(KIND, "deep").with_context(|| format!("choose suspend to memory in {KIND}"))?;
    std::fs::write(ALARM, "0").context("clear the alarm")?;
    std::fs::write(ALARM, format!("+{seconds}")).context("set the alarm")?;
    let before = slept()?;
    std::fs::write(STATE, "mem").context("suspend")?;
    let slept = slept()?.saturating_sub(before);
    ensure!(slept >= Duration::from_secs(seconds.saturating_sub(2)), "suspended for {slept:?}, not {seconds} s");
    Ok(slept)
}

/// How long this kernel was suspended in all: what boot time has and monotonic time has not.
fn slept() -> Result<Duration> {
    let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).context("read the monotonic clock")?;
    Ok(Duration::from_nanos(wait::now().0).saturating_sub(monotonic.into()))
}
