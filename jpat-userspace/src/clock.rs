//! Every clock read of JPAT. The rest takes [`Now`] as an argument.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_BOOTTIME`: the clock of the data path, which goes on through suspend and is never set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct BootTime(pub u64);

/// Nanoseconds since 1970-01-01T00:00:00Z without leap seconds (`CLOCK_REALTIME`): the clock of `exp`, `nbf`, `iat`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct UnixTime(pub u64);

/// Both clocks, read together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// For ends and timeouts.
    pub boot: BootTime,
    /// For what a token says.
    pub unix: UnixTime,
}

const NANOS: u64 = 1_000_000_000;

impl BootTime {
    /// This moment plus `by`, saturating.
    #[must_use]
    pub const fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }

    /// How long until `later`; zero when it has passed.
    #[must_use]
    pub const fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }
}

impl UnixTime {
    /// From whole seconds, as a NumericDate (RFC 7519 §2) has them; saturating.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(NANOS))
    }

    /// Whole seconds, rounded down.
    #[must_use]
    pub const fn secs(self) -> u64 {
        self.0 / NANOS
    }

    /// This moment plus `by`, saturating.
    #[must_use]
    pub const fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }

    /// How long until `later`; zero when it has passed.
    #[must_use]
    pub const fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }
}

impl std::fmt::Display for UnixTime {
    /// RFC 3339 in UTC with milliseconds.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => write!(f, "{} ns after 1970", self.0),
        }
    }
}

impl Now {
    /// Turns a wall-clock end into boot time, as the clocks stand now. The past becomes this very moment.
    #[must_use]
    pub const fn boot_at(self, unix: UnixTime) -> BootTime {
        self.boot.after(self.unix.until(unix))
    }

    /// Turns a boot-time moment into wall-clock time, as the clocks stand now.
    #[must_use]
    pub const fn unix_at(self, boot: BootTime) -> UnixTime {
        if boot.0 >= self.boot.0 {
            self.unix.after(self.boot.until(boot))
        } else {
            UnixTime(self.unix.0.saturating_sub(self.boot.0 - boot.0))
        }
    }
}

/// Reads both clocks.
#[must_use]
pub fn now() -> Now {
    Now { boot: BootTime(read(ClockId::CLOCK_BOOTTIME)), unix: UnixTime(read(ClockId::CLOCK_REALTIME)) }
}

/// The kernel's name of this boot, different for every one.
///
/// # Errors
/// What the system said.
pub fn boot_id() -> std::io::Result<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

const fn nanos(duration: Duration) -> u64 {
    let nanos = duration.as_nanos();
    if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 }
}

/// Zero when the kernel has no such clock: then nothing is ever granted, because every `exp` lies too far ahead.
fn read(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |time| {
        let secs = u64::try_from(time.tv_sec()).unwrap_or(0);
        secs.saturating_mul(NANOS).saturating_add(u64::try_from(time.tv_nsec()).unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p3_a_wall_clock_end_in_the_past_is_now() {
        let now = Now { boot: BootTime(5), unix: UnixTime(1_000) };
        assert_eq!(now.boot_at(UnixTime(1_010)), BootTime(15));
        assert_eq!(now.boot_at(UnixTime(1)), BootTime(5));
        assert_eq!(now.unix_at(BootTime(15)), UnixTime(1_010));
        assert_eq!(now.unix_at(BootTime(1)), UnixTime(996));
    }
}
