//! How far the wall clock is ahead of boot time. It changes when somebody sets the clock.

use crate::clock::{BootTime, Now, UnixTime};

/// Nanoseconds from boot time to wall-clock time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct ClockOffset(i128);

impl ClockOffset {
    /// Ahead of every other: no end was ever read under it.
    pub(super) const MAX: Self = Self(i128::MAX);

    /// Behind every other: what was read under it is to be read again.
    pub(super) const MIN: Self = Self(i128::MIN);

    pub(super) const fn from_nanos(nanos: i128) -> Self {
        Self(nanos)
    }

    pub(super) const fn nanos(self) -> i128 {
        self.0
    }

    pub(super) const fn of(now: Now) -> Self {
        Self(now.unix.0 as i128 - now.boot.0 as i128)
    }

    /// When, in boot time, the wall clock shows `unix` under this offset; what lies before boot is zero.
    pub(super) fn boot_at(self, unix: UnixTime) -> BootTime {
        BootTime(u64::try_from(i128::from(unix.0).saturating_sub(self.0).max(0)).unwrap_or(u64::MAX))
    }

    /// Whether it is ahead of `other` by more than `nanos`.
    pub(super) const fn is_ahead_of(self, other: Self, nanos: u64) -> bool {
        self.0 > other.0.saturating_add(nanos as i128)
    }
}
