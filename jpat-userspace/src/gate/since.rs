//! From when on everything is remembered.

use std::time::Duration;

use crate::clock::{BootTime, Now, UnixTime};

/// The beginning of memory, by both clocks: the wall clock as it was read then, and the moment itself as the clocks stand
/// later. A clock that is set, in either direction, makes nothing new of what is older.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Since {
    floor: UnixTime,
    origin: BootTime,
}

impl Since {
    pub(super) const fn new(floor: UnixTime, origin: BootTime) -> Self {
        Self { floor, origin }
    }

    /// The same for dates that others wrote, whose clock may run ahead by `leeway`.
    pub(super) const fn with_leeway(self, leeway: Duration) -> Self {
        Self { floor: self.floor.after(leeway), origin: self.origin.after(leeway) }
    }

    /// Whether what happened at `date` may have been forgotten.
    pub(super) fn is_before(&self, date: UnixTime, now: Now) -> bool {
        date < self.floor || date < now.unix_at(self.origin)
    }
}
