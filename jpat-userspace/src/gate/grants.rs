//! Every lease, and what the grant map holds because of them: for each key the latest end of its leases.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jpat_common::grant::{GrantKey, GrantValue};

use super::{
    clock_offset::ClockOffset,
    holders::Holders,
    keys::Keys,
    lease::{Holder, Lease},
};
use crate::{
    clock::{BootTime, Now},
    refusal::Refusal,
    token::{Principal, TokenId},
};

/// A wall clock that is slewed moves by this much now and then; it is not worth rewriting every grant for less.
const CLOCK_TOLERANCE_NS: u64 = 10_000_000;

/// Number of a lease in this store.
pub(super) type LeaseId = u64;

/// What the grant map must be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    Write(GrantKey, GrantValue),
    Delete(GrantKey),
}

/// The leases. Each operation costs O(log n) at most for each lease that it touches.
#[derive(Debug)]
pub(super) struct Grants {
    generation: u32,
    leases: BTreeMap<LeaseId, Lease>,
    next_id: LeaseId,
    by_end: BTreeSet<(BootTime, LeaseId)>,
    keys: Keys,
    holders: Holders,
    /// No lease ends later than its `exp` read under this offset.
    read_under: ClockOffset,
}

impl Grants {
    pub(super) fn new(generation: u32) -> Self {
        Self {
            generation,
            leases: BTreeMap::new(),
            next_id: 0,
            by_end: BTreeSet::new(),
            keys: Keys::new(),
            holders: Holders::new(),
            read_under: ClockOffset::MAX,
        }
    }

    pub(super) const fn generation(&self) -> u32 {
        self.generation
    }

    /// Later writes are of the next generation, which this returns.
    pub(super) const fn raise_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    /// Entries in the map, ended ones that were not swept included.
    pub(super) const fn entries(&self) -> usize {
        self.keys.count_written()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    pub(super) fn leases(&self) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.leases.iter().map(|(id, lease)| (*id, lease))
    }

    /// Whether all of `keys`, each of them once, can be held: by the principal's quota of sources, and within `usable` entries of the map.
    pub(super) fn check_room(
        &self,
        holder: &Holder,
        keys: impl Iterator<Item = GrantKey> + Clone,
        sources_per_principal: usize,
        usable: usize,
    ) -> Result<(), Refusal> {
        match holder {
            Holder::Token(principal, _) => {
                if !self.holders.has_room(principal, keys.clone().map(|key| *key.source()), sources_per_principal) {
                    return Err(Refusal::TooManySources);
                }
            }
            Holder::Admin(_) | Holder::Adopted => {}
        }
        let new = keys.filter(|key| self.keys.written(*key).is_none()).count();
        if new > 0 && self.entries() + new > usable {
            return Err(Refusal::GrantsFull);
        }
        Ok(())
    }

    /// Adds a lease. One of the same key and holder is renewed: it never ends earlier than before.
    /// Returns the lease as it stands and whether it was renewed.
    pub(super) fn put(&mut self, mut lease: Lease, now: Now) -> (Lease, bool) {
        let old = self.held(&lease).and_then(|id| self.remove(id));
        if let Some(old) = &old {
            lease.end = lease.end.max(old.end);
        }
        if lease.token.is_some() {
            self.read_under = self.read_under.min(ClockOffset::of(now));
        }
        self.insert(lease.clone());
        (lease, old.is_some())
    }

    /// The lease of the same key and holder.
    fn held(&self, lease: &Lease) -> Option<LeaseId> {
        let is_same = |other: &&Lease| other.key == lease.key && other.holder == lease.holder;
        match lease.token_id() {
            Some(token) => self.of_token(token).find(|(_, other)| is_same(other)).map(|(id, _)| id),
            None => self.leases_of(lease.key).into_iter().find(|id| self.leases.get(id).as_ref().is_some_and(is_same)),
        }
    }

    fn insert(&mut self, lease: Lease) {
        let id = self.next_id;
        self.next_id += 1;
        self.by_end.insert((lease.end, id));
        self.keys.add(lease.key, lease.end, id);
        self.holders.add(id, &lease);
        self.leases.insert(id, lease);
    }

    /// Takes a lease away. The map still holds its grant until [`Self::write_back`].
    pub(super) fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.leases.remove(&id)?;
        self.by_end.remove(&(lease.end, id));
        self.keys.remove(lease.key, lease.end, id);
        self.holders.remove(id, &lease);
        Some(lease)
    }

    /// The leases of a token.
    pub(super) fn of_token(&self, token: &TokenId) -> impl Iterator<Item = (LeaseId, &Lease)> {
        self.holders.of_token(token).iter().filter_map(|id| Some((*id, self.leases.get(id)?)))
    }

    /// The leases of a principal that knocks from `source` began.
    pub(super) fn of_principal(
        &self,
        principal: &Principal,
        source: IpAddr,
    ) -> impl Iterator<Item = (LeaseId, &Lease)> {
        let leases = self.holders.of_principal(principal).iter().filter_map(|id| Some((*id, self.leases.get(id)?)));
        leases.filter(move |(_, lease)| lease.source == source)
    }

    pub(super) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// Leases that have ended.
    pub(super) fn ended(&self, now: BootTime) -> Vec<LeaseId> {
        self.by_end.iter().take_while(|(end, _)| *end <= now).map(|(_, id)| *id).collect()
    }

    /// Whether somebody holds the grant.
    pub(super) fn is_held(&self, key: GrantKey) -> bool {
        self.keys.latest(key).is_some()
    }

    pub(super) fn leases_of(&self, key: GrantKey) -> Vec<LeaseId> {
        self.keys.leases_of(key)
    }

    /// Reads every `exp` again if the wall clock went forward, and returns the keys of the leases that end earlier now.
    /// A clock that was set back changes nothing.
    pub(super) fn shorten(&mut self, now: Now) -> BTreeSet<GrantKey> {
        let offset = ClockOffset::of(now);
        if !offset.is_ahead_of(self.read_under, CLOCK_TOLERANCE_NS) {
            return BTreeSet::new();
        }
        self.read_under = offset;
        let is_shorter = |lease: &Lease| {
            let end = offset.boot_at(lease.token.as_ref()?.expires());
            (end < lease.end).then_some(end)
        };
        let shorter: Vec<_> = self.leases().filter_map(|(id, lease)| Some((id, is_shorter(lease)?))).collect();
        shorter
            .into_iter()
            .filter_map(|(id, end)| {
                let lease = self.remove(id)?.ending(end);
                let key = lease.key;
                self.insert(lease);
                Some(key)
            })
            .collect()
    }

    /// The map's entry of `key` as its leases want it: the latest end, or none.
    pub(super) fn write_back(&mut self, key: GrantKey) -> Option<Change> {
        match (self.keys.latest(key), self.keys.written(key)) {
            (Some(end), Some(written)) if end == written => None,
            (Some(end), _) => Some(self.write(key, end)),
            (None, Some(_)) => Some(self.delete(key)),
            (None, None) => None,
        }
    }

    /// As [`Self::write_back`], but writes even what the map should hold already.
    pub(super) fn rewrite(&mut self, key: GrantKey) -> Option<Change> {
        self.keys.latest(key).map(|end| self.write(key, end))
    }

    /// Takes over a lease whose entry, with its latest `end`, is in the map.
    pub(super) fn adopt(&mut self, lease: Lease, end: BootTime) {
        self.keys.set_written(lease.key, Some(end));
        if lease.token.is_some() {
            // Another controller read its `exp`.
            self.read_under = ClockOffset::MIN;
        }
        self.insert(lease);
    }

    fn write(&mut self, key: GrantKey, end: BootTime) -> Change {
        self.keys.set_written(key, Some(end));
        Change::Write(key, GrantValue::new(end.0, self.generation))
    }

    fn delete(&mut self, key: GrantKey) -> Change {
        self.keys.set_written(key, None);
        Change::Delete(key)
    }
}
