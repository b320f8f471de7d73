//! What a datagram for the knock port must be to reach a ring (`docs/protocol.md` §6.3), cheapest question first. It
//! keeps strangers away from the controller, and authorises nothing.

use jpat_common::{
    knock::{FORM_BARE, FORM_SEALED, MAX_PAYLOAD},
    reason::DropReason,
    sealed::{
        BARE_BUDGET, Budget, FILTER_WINDOW_MS, KEY_ID_AT, KnockKey, MAGIC, MIN_PAYLOAD, TAG_AT, TIME_AT, TYPE_KNOCK,
        VERSION, WORD,
    },
};

use crate::{frame::Cursor, siphash::SipHash};

/// First byte of every base64url text of a JSON object.
const BARE_FIRST: u8 = b'e';

const NS_PER_MS: u64 = 1_000_000;

/// What the filter looks up.
pub trait Filter {
    /// The knock key of this id.
    fn knock_key(&self, id: [u8; 2]) -> Option<KnockKey>;
    /// What makes boot time wall-clock time, nanoseconds; `None` while nobody said.
    fn wall_offset_ns(&self) -> Option<u64>;
    /// Whether a knock with this tag reached the ring before.
    fn is_tag_seen(&self, tag: &[u8; WORD]) -> bool;
    /// The budget of a group.
    fn budget(&self, group: u32) -> Option<Budget>;
    /// Sets a group's virtual clock.
    fn set_clock(&self, group: u32, next_ns: u64);
}

/// A datagram that may go to a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admitted {
    /// To that of bare knocks.
    Bare,
    /// To that of sealed ones; its tag is to be remembered once the ring took it.
    Sealed {
        /// Whose budget it was counted under.
        group: u32,
        /// The tag, which verified.
        tag: [u8; WORD],
    },
}

impl Admitted {
    /// The form as the ring's record has it.
    #[inline(always)]
    #[must_use]
    pub const fn form(&self) -> u8 {
        match self {
            Self::Bare => FORM_BARE,
            Self::Sealed { .. } => FORM_SEALED,
        }
    }

    /// The group as the ring's record has it.
    #[inline(always)]
    #[must_use]
    pub const fn group(&self) -> u32 {
        match self {
            Self::Bare => BARE_BUDGET,
            Self::Sealed { group, .. } => *group,
        }
    }
}

/// Judges a knock's payload at `now_ns` of `CLOCK_BOOTTIME`.
///
/// # Errors
/// The first thing that is wrong with it.
#[inline(always)]
pub fn filter(payload: Cursor<'_>, now_ns: u64, tables: &impl Filter) -> Result<Admitted, DropReason> {
    let Some(&[first]) = payload.peek() else { return Err(DropReason::KnockEmpty) };
    if first == BARE_FIRST {
        return bare(now_ns, tables);
    }
    if first != MAGIC[0] {
        return Err(DropReason::KnockNoForm);
    }
    sealed(payload, now_ns, tables)
}

#[inline(always)]
fn bare(now_ns: u64, tables: &impl Filter) -> Result<Admitted, DropReason> {
    match tables.budget(BARE_BUDGET) {
        Some(budget) if budget.interval_ns != 0 => {
            let next_ns = next(&budget, now_ns).ok_or(DropReason::KnockBareBudget)?;
            tables.set_clock(BARE_BUDGET, next_ns);
            Ok(Admitted::Bare)
        }
        Some(_) | None => Err(DropReason::KnockBareRefused),
    }
}

#[inline(always)]
fn sealed(mut payload: Cursor<'_>, now_ns: u64, tables: &impl Filter) -> Result<Admitted, DropReason> {
    let length = payload.left();
    if !(MIN_PAYLOAD..=MAX_PAYLOAD).contains(&length) || !length.is_multiple_of(WORD) {
        return Err(DropReason::KnockSealedLength);
    }
    // Frames of several buffers that end here have no header to read.
    let header = payload.take::<{ TAG_AT }>().ok_or(DropReason::KnockSealedLength)?;
    let tag = *payload.take::<WORD>().ok_or(DropReason::KnockSealedLength)?;
    let &[m0, m1, m2, m3, version, kind, ..] = header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(DropReason::KnockNoForm);
    }
    if version != VERSION || kind != TYPE_KNOCK {
        return Err(DropReason::KnockVersion);
    }
    let key = tables.knock_key([header[KEY_ID_AT], header[KEY_ID_AT + 1]]).ok_or(DropReason::KnockUnknownKey)?;
    if !is_in_time(header, now_ns, tables) {
        return Err(DropReason::KnockTime);
    }
    if tables.is_tag_seen(&tag) {
        return Err(DropReason::KnockTagSeen);
    }
    if !verifies(header, &tag, payload, &key) {
        return Err(DropReason::KnockBadTag);
    }
    let budget = tables.budget(key.group).ok_or(DropReason::KnockBudget)?;
    let next_ns = next(&budget, now_ns).ok_or(DropReason::KnockBudget)?;
    tables.set_clock(key.group, next_ns);
    Ok(Admitted::Sealed { group: key.group, tag })
}

#[inline(always)]
fn is_in_time(header: &[u8; TAG_AT], now_ns: u64, tables: &impl Filter) -> bool {
    let Some(offset_ns) = tables.wall_offset_ns() else { return false };
    let now_ms = now_ns.wrapping_add(offset_ns) / NS_PER_MS;
    let sent_ms = u64::from_be_bytes([
        0,
        0,
        header[TIME_AT],
        header[TIME_AT + 1],
        header[TIME_AT + 2],
        header[TIME_AT + 3],
        header[TIME_AT + 4],
        header[TIME_AT + 5],
    ]);
    now_ms.abs_diff(sent_ms) <= FILTER_WINDOW_MS
}

#[inline(always)]
fn verifies(header: &[u8; TAG_AT], tag: &[u8; WORD], rest: Cursor<'_>, key: &KnockKey) -> bool {
    let rest = rest.walk(rest.offset(), rest.left());
    let (words, _) = header.as_chunks::<WORD>();
    let mut hash = SipHash::new(key.k0, key.k1);
    hash.write(words[0]);
    hash.write(words[1]);
    // In one comparison: how long it takes says nothing.
    hash.write_rest(rest).is_some() && u64::from_ne_bytes(hash.finish()) == u64::from_ne_bytes(*tag)
}

/// The virtual clock after one more knock, if that is allowed.
#[inline(always)]
fn next(budget: &Budget, now_ns: u64) -> Option<u64> {
    let from = if budget.next_ns > now_ns { budget.next_ns } else { now_ns };
    let next = from.saturating_add(budget.interval_ns);
    (budget.interval_ns != 0 && next - now_ns <= budget.burst_ns).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p5_a_budget_allows_its_burst_and_then_its_rate() {
        let mut budget = Budget { interval_ns: 10, burst_ns: 30, next_ns: 0 };
        let mut taken = |now_ns| {
            (0..100)
                .filter(|_| match next(&budget, now_ns) {
                    Some(next_ns) => {
                        budget.next_ns = next_ns;
                        true
                    }
                    None => false,
                })
                .count()
        };
        assert_eq!([0, 9, 10, 25, 1000].map(&mut taken), [3, 0, 1, 1, 3]);
        let none = Budget { interval_ns: 0, burst_ns: u64::MAX, next_ns: 0 };
        assert_eq!(next(&none, 5), None);
    }
}
