//! Grants that ended before their flows did: who held them, so that a revocation still finds those flows.
//!
//! Bounds: no key without flows stays (nor any longer than [`SETTLED`] after its end), so there are at most as many as
//! `limits.flows`. Of each key the latest token of [`MAX_HOLDERS`] principals is kept, and of all keys as many tokens as
//! there can be flows. Whoever does not fit makes the key one of unknown holders, which every principal's revocation
//! ends, or one of unknown tokens, which a revocation by token and a changed deny list end: that cuts more than was asked
//! for, never less.

use std::collections::BTreeMap;

use jpat_common::grant::GrantKey;

use super::lease::{Lease, Selector};
use crate::clock::BootTime;

/// Principals that are known of one key.
const MAX_HOLDERS: usize = 16;

/// After its end a grant opens no flow any more: the program's time is a tick behind, the sweep of the leases a second.
pub(super) const SETTLED: std::time::Duration = std::time::Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Outlived {
    capacity: usize,
    tokens: usize,
    keys: BTreeMap<GrantKey, Held>,
}

/// The holders of one key; never none.
#[derive(Debug)]
struct Held {
    ended: BootTime,
    leases: BTreeMap<String, Lease>,
    has_unknown: bool,
    /// Of a principal that is known, an earlier token is not.
    has_unknown_token: bool,
}

impl Outlived {
    pub(super) const fn new(capacity: usize) -> Self {
        Self { capacity, tokens: 0, keys: BTreeMap::new() }
    }

    /// A lease ended, and its flows go on.
    pub(super) fn add(&mut self, mut lease: Lease, now: BootTime) {
        let held = self.keys.entry(lease.key).or_insert_with(|| Held {
            ended: now,
            leases: BTreeMap::new(),
            has_unknown: false,
            has_unknown_token: false,
        });
        held.ended = held.ended.max(now);
        let name = lease.holder_name();
        let replaced = held.leases.remove(&name);
        held.has_unknown_token |= replaced.as_ref().is_some_and(|old| old.holder != lease.holder);
        self.tokens -= usize::from(replaced.is_some_and(|lease| lease.token.is_some()));
        if held.leases.len() >= MAX_HOLDERS {
            held.has_unknown = true;
            return;
        }
        if lease.token.is_some() {
            if self.tokens < self.capacity {
                self.tokens += 1;
            } else {
                held.has_unknown = true;
                lease.token = None;
            }
        }
        held.leases.insert(name, lease);
    }

    pub(super) fn contains(&self, key: &GrantKey) -> bool {
        self.keys.contains_key(key)
    }

    pub(super) fn clear(&mut self) -> Vec<Lease> {
        self.tokens = 0;
        std::mem::take(&mut self.keys).into_values().flat_map(|held| held.leases.into_values()).collect()
    }

    /// Forgets a key, and returns who held it.
    pub(super) fn remove(&mut self, key: &GrantKey) -> Vec<Lease> {
        let leases: Vec<_> = self.keys.remove(key).map(|held| held.leases.into_values().collect()).unwrap_or_default();
        self.tokens -= leases.iter().filter(|lease| lease.token.is_some()).count();
        leases
    }

    /// Forgets the keys that had no flow when somebody looked, who began at `began`.
    pub(super) fn prune(&mut self, has_flows: impl Fn(&GrantKey) -> bool, began: BootTime) {
        let is_over = |key: &GrantKey, held: &Held| !has_flows(key) && held.ended.after(SETTLED) < began;
        let over: Vec<_> = self.keys.iter().filter(|(key, held)| is_over(key, held)).map(|(key, _)| *key).collect();
        for key in over {
            self.remove(&key);
        }
    }

    /// The keys that a selector finds.
    pub(super) fn select(&self, selector: &Selector) -> Vec<GrantKey> {
        let is_found = |held: &Held| {
            let is_unknown = held.has_unknown || (held.has_unknown_token && selector.token_id.is_some());
            held.leases.values().any(|lease| selector.matches(lease))
                || (is_unknown && held.leases.values().any(|lease| selector.matches_place(lease)))
        };
        self.keys.iter().filter(|(_, held)| is_found(held)).map(|(key, _)| *key).collect()
    }

    /// The keys that a token held of which nothing is known any more.
    pub(super) fn with_unknown_tokens(&self) -> Vec<GrantKey> {
        let has_unknown = |held: &Held| held.has_unknown || held.has_unknown_token;
        self.keys.iter().filter(|(_, held)| has_unknown(held)).map(|(key, _)| *key).collect()
    }

    /// Everyone who is known.
    pub(super) fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.keys.values().flat_map(|held| held.leases.values())
    }
}
