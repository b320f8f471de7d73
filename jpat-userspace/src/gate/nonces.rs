//! Which sealed knocks were seen. A nonce is remembered for as long as the filter lets a knock of its date in; what may have
//! been forgotten, or was never known, is refused by its date.
//!
//! Bounds: each group of knock keys has as many places as it can fill in that time at the rate that it is held to. So no
//! group takes the places of another, and none fills its own unless its rate was lowered. Full refuses.

use std::{collections::BTreeMap, time::Duration};

use super::since::Since;
use crate::{
    clock::{Now, UnixTime},
    refusal::Refusal,
    store::replay::{NONCE_RETENTION, NonceUse},
    verify::CLOCK_WINDOW,
};

/// How far a knock may be dated from this host's clock. The filter's rule, held to again: a datagram may wait behind the filter
/// for as long as its nonce is remembered, or the clock be set.
const WINDOW: Duration = Duration::from_millis(jpat_common::sealed::FILTER_WINDOW_MS);

/// Seconds from the moment in which a knock dated as far ahead as can be is taken to that in which it is forgotten, and some
/// for what a budget saves up.
const WINDOW_SECS: u64 = jpat_common::sealed::FILTER_WINDOW_MS / 1_000 + NONCE_RETENTION.as_secs() + 10;

#[derive(Debug)]
pub(super) struct Nonces {
    since: Since,
    /// For knocks whose date is further away than any that is taken.
    since_skewed: Since,
    /// By date. A copy of a knock has the date of the original, which is part of what is authenticated.
    seen: BTreeMap<(UnixTime, [u8; 16]), u32>,
    groups: BTreeMap<u32, usize>,
    per_second: u32,
    /// Latest date that was forgotten.
    forgotten: UnixTime,
}

impl Nonces {
    /// `is_first`: nothing was taken before `since`. Else a sender's clock may have dated it later: what was accepted, by
    /// [`CLOCK_WINDOW`]; what was refused for its date and answered, by more, and that is not answered again.
    pub(super) fn new(per_second: u32, since: Since, is_first: bool, forgotten: UnixTime, seen: Vec<NonceUse>) -> Self {
        let late = |leeway| if is_first { since } else { since.with_leeway(leeway) };
        let (since, since_skewed) = (late(CLOCK_WINDOW), late(NONCE_RETENTION));
        let (known, groups) = (BTreeMap::new(), BTreeMap::new());
        let mut nonces = Self { since, since_skewed, seen: known, groups, per_second, forgotten };
        for used in seen {
            nonces.insert(used);
        }
        nonces
    }

    pub(super) const fn set_rate(&mut self, per_second: u32) {
        self.per_second = per_second;
    }

    /// Uses a nonce up. `is_skewed`: the knock is refused for its date.
    ///
    /// # Errors
    /// [`Refusal::ClockSkew`] where it is dated further away than any that the filter lets in; [`Refusal::BeforeStart`] where it is not known whether it was used; [`Refusal::KnockReplayed`]; [`Refusal::ReplayFull`].
    /// None of them may be answered: the sender need not be who sealed the knock.
    pub(super) fn claim(&mut self, used: NonceUse, is_skewed: bool, now: Now) -> Result<(), Refusal> {
        self.forget(now.unix);
        let since = if is_skewed { self.since_skewed } else { self.since };
        if used.time > now.unix.after(WINDOW) || used.time.after(WINDOW) < now.unix {
            return Err(Refusal::ClockSkew);
        }
        if used.time <= self.forgotten || since.is_before(used.time, now) {
            return Err(Refusal::BeforeStart);
        }
        if self.seen.contains_key(&(used.time, used.nonce)) {
            return Err(Refusal::KnockReplayed);
        }
        let held = self.groups.get(&used.group).copied().unwrap_or(0);
        if held as u64 >= u64::from(self.per_second) * WINDOW_SECS {
            return Err(Refusal::ReplayFull);
        }
        self.insert(used);
        Ok(())
    }

    fn insert(&mut self, used: NonceUse) {
        if self.seen.insert((used.time, used.nonce), used.group).is_none() {
            *self.groups.entry(used.group).or_default() += 1;
        }
    }

    fn forget(&mut self, now: UnixTime) {
        while let Some(entry) = self.seen.first_entry()
            && entry.key().0.after(NONCE_RETENTION) <= now
        {
            let ((time, _), group) = entry.remove_entry();
            self.forgotten = self.forgotten.max(time);
            if let Some(held) = self.groups.get_mut(&group) {
                *held -= 1;
            }
        }
        self.groups.retain(|_, held| *held > 0);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }
}
