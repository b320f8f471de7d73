//! What a knock must be to reach the controller, from the design ("knock forms") and §6.3 of the protocol: the questions in
//! their order, and budgets as buckets that leak.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hasher as _,
};

use jpat_common::reason::DropReason;
use siphasher::sip::SipHasher24;

/// A knock key of the configuration, under its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TagKey {
    pub(crate) secret: [u8; 16],
    pub(crate) group: u32,
}

/// How many knocks may come: each takes up some time, and what is taken up already bounds the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// What one knock takes up; 0 for a budget that allows none.
    pub(crate) cost_ns: u64,
    /// Most that can be taken up.
    pub(crate) most_ns: u64,
    /// What is taken up at that time.
    pub(crate) taken_ns: u64,
    pub(crate) at_ns: u64,
}

/// Everything that is asked of a knock.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) keys: BTreeMap<u16, TagKey>,
    /// The wall clock less the boot clock, if the controller has said it.
    pub(crate) wall_offset_ns: Option<u64>,
    /// Of bare knocks under 0; of a group of keys under its number.
    pub(crate) budgets: BTreeMap<u32, Budget>,
    /// Tags of the knocks that the ring took.
    pub(crate) seen: BTreeSet<[u8; 8]>,
    /// How many more knocks each ring takes.
    pub(crate) bare_room: usize,
    pub(crate) sealed_room: usize,
}

/// The number of the budget of bare knocks.
pub(crate) const BARE: u32 = 0;

/// The controller gets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Taken {
    pub(crate) is_sealed: bool,
    pub(crate) group: u32,
}

impl Gate {
    /// What becomes of a knock with this payload, which is not empty and not too long.
    pub(crate) fn judge(&mut self, payload: &[u8], now_ns: u64) -> Result<Taken, DropReason> {
        match payload.first() {
            Some(b'e') => self.bare(now_ns),
            Some(b'J') => self.sealed(payload, now_ns),
            Some(_) | None => Err(DropReason::KnockNoForm),
        }
    }

    fn bare(&mut self, now_ns: u64) -> Result<Taken, DropReason> {
        let budget = self.budgets.get_mut(&BARE).filter(|budget| budget.cost_ns != 0);
        let budget = budget.ok_or(DropReason::KnockBareRefused)?;
        if !budget.takes_one(now_ns) {
            return Err(DropReason::KnockBareBudget);
        }
        take(&mut self.bare_room).ok_or(DropReason::KnockBareRingFull)?;
        Ok(Taken { is_sealed: false, group: BARE })
    }

    fn sealed(&mut self, payload: &[u8], now_ns: u64) -> Result<Taken, DropReason> {
        if payload.len() < 128 || payload.len() > 1_232 || !payload.len().is_multiple_of(8) {
            return Err(DropReason::KnockSealedLength);
        }
        if payload[..4] != *b"JPAT" {
            return Err(DropReason::KnockNoForm);
        }
        if payload[4..6] != [1, 1] {
            return Err(DropReason::KnockVersion);
        }
        let id = u16::from_be_bytes([payload[6], payload[7]]);
        let key = *self.keys.get(&id).ok_or(DropReason::KnockUnknownKey)?;
        let sent_ms = payload[10..16].iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte));
        let now_ms = self.wall_offset_ns.map(|offset| (u128::from(now_ns) + u128::from(offset)) / 1_000_000);
        if now_ms.is_none_or(|now_ms| now_ms.abs_diff(sent_ms) > 300 * 1_000) {
            return Err(DropReason::KnockTime);
        }
        let mut tag = [0; 8];
        tag.copy_from_slice(&payload[16..24]);
        if self.seen.contains(&tag) {
            return Err(DropReason::KnockTagSeen);
        }
        let mut hash = SipHasher24::new_with_key(&key.secret);
        hash.write(&payload[..16]);
        hash.write(&payload[24..]);
        if hash.finish().to_le_bytes() != tag {
            return Err(DropReason::KnockBadTag);
        }
        if !self.budgets.get_mut(&key.group).is_some_and(|budget| budget.takes_one(now_ns)) {
            return Err(DropReason::KnockBudget);
        }
        take(&mut self.sealed_room).ok_or(DropReason::KnockRingFull)?;
        self.seen.insert(tag);
        Ok(Taken { is_sealed: true, group: key.group })
    }
}

impl Budget {
    fn takes_one(&mut self, now_ns: u64) -> bool {
        let left_ns = self.taken_ns.saturating_sub(now_ns.saturating_sub(self.at_ns));
        let taken_ns = left_ns.saturating_add(self.cost_ns);
        if self.cost_ns == 0 || taken_ns > self.most_ns {
            return false;
        }
        (self.taken_ns, self.at_ns) = (taken_ns, now_ns);
        true
    }
}

fn take(room: &mut usize) -> Option<()> {
    *room = room.checked_sub(1)?;
    Some(())
}
