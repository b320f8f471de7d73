//! Waiting for a condition with a deadline, so that no fixed sleep decides a verdict.

use std::time::Duration;

use anyhow::{Result, bail};
use jpat_userspace::clock::{self, BootTime};

/// How long a thing that must come true may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Boot time now.
#[must_use]
pub fn now() -> BootTime {
    clock::now().boot
}

/// Sleeps until a moment of boot time; returns at once if it has passed.
pub fn until(moment: BootTime) {
    std::thread::sleep(now().until(moment));
}

/// How many times slower than other machines this one is: `JPAT_SLOWNESS`, which an emulated machine sets. It lengthens
/// waits for what must come true, and so decides no verdict.
#[must_use]
pub fn slowness() -> u32 {
    std::env::var("JPAT_SLOWNESS").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Asks `check` every 10 ms until it has an answer.
///
/// # Errors
/// The error of `check`, or that there was no answer within `patience`.
pub fn for_some<T>(what: &str, patience: Duration, mut check: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = now().after(patience * slowness());
    loop {
        if let Some(answer) = check()? {
            return Ok(answer);
        }
        if now() >= deadline {
            bail!("waited {patience:?} in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Asks `check` every 10 ms until it says yes.
///
/// # Errors
/// As [`for_some`].
pub fn for_true(what: &str, patience: Duration, mut check: impl FnMut() -> Result<bool>) -> Result<()> {
    for_some(what, patience, || Ok(check()?.then_some(())))
}
