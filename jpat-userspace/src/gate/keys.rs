//! For each grant key the ends of its leases, and what the grant map holds.

use std::collections::BTreeSet;

use jpat_common::grant::GrantKey;

use super::grants::LeaseId;
use crate::{
    clock::BootTime,
    table::{self, Table},
};

#[derive(Debug)]
pub(super) struct Keys {
    keys: Table<GrantKey, Place>,
    written: usize,
}

#[derive(Debug)]
struct Place {
    /// The end that the map holds.
    written: Option<BootTime>,
    leases: Leases,
}

/// By their end. Most keys have one.
#[derive(Debug)]
enum Leases {
    One(BootTime, LeaseId),
    /// Or none.
    Many(BTreeSet<(BootTime, LeaseId)>),
}

impl Keys {
    pub(super) fn new() -> Self {
        Self { keys: table::large(), written: 0 }
    }

    pub(super) fn add(&mut self, key: GrantKey, end: BootTime, id: LeaseId) {
        let place = self.keys.entry(key).or_insert_with(Place::empty);
        place.leases = match std::mem::take(&mut place.leases) {
            Leases::Many(none) if none.is_empty() => Leases::One(end, id),
            Leases::One(other_end, other) => Leases::Many(BTreeSet::from([(other_end, other), (end, id)])),
            Leases::Many(mut many) => {
                many.insert((end, id));
                Leases::Many(many)
            }
        };
    }

    pub(super) fn remove(&mut self, key: GrantKey, end: BootTime, id: LeaseId) {
        let Some(place) = self.keys.get_mut(&key) else { return };
        match &mut place.leases {
            Leases::One(only_end, only) if (*only_end, *only) == (end, id) => place.leases = Leases::default(),
            Leases::One(..) => {}
            Leases::Many(many) => {
                many.remove(&(end, id));
            }
        }
        self.forget(key);
    }

    /// The latest end of a key's leases, if it has some.
    pub(super) fn latest(&self, key: GrantKey) -> Option<BootTime> {
        self.keys.get(&key)?.latest()
    }

    /// The leases of a key by their end.
    pub(super) fn leases_of(&self, key: GrantKey) -> Vec<LeaseId> {
        match self.keys.get(&key).map(|place| &place.leases) {
            Some(Leases::One(_, id)) => vec![*id],
            Some(Leases::Many(many)) => many.iter().map(|(_, id)| *id).collect(),
            None => Vec::new(),
        }
    }

    /// The end that the map holds for a key.
    pub(super) fn written(&self, key: GrantKey) -> Option<BootTime> {
        self.keys.get(&key)?.written
    }

    /// How many keys the map holds.
    pub(super) const fn count_written(&self) -> usize {
        self.written
    }

    /// The map is to hold this end for a key from now on, or nothing.
    pub(super) fn set_written(&mut self, key: GrantKey, end: Option<BootTime>) {
        let place = self.keys.entry(key).or_insert_with(Place::empty);
        let before = std::mem::replace(&mut place.written, end);
        self.written = self.written + usize::from(end.is_some()) - usize::from(before.is_some());
        if end.is_none() {
            self.forget(key);
        }
    }

    /// Of a key of which nothing is left nothing is kept.
    fn forget(&mut self, key: GrantKey) {
        if self.keys.get(&key).is_some_and(|place| place.written.is_none() && place.latest().is_none()) {
            self.keys.remove(&key);
        }
    }
}

impl Place {
    const fn empty() -> Self {
        Self { written: None, leases: Leases::Many(BTreeSet::new()) }
    }

    fn latest(&self) -> Option<BootTime> {
        match &self.leases {
            Leases::One(end, _) => Some(*end),
            Leases::Many(many) => many.last().map(|(end, _)| *end),
        }
    }
}

impl Default for Leases {
    fn default() -> Self {
        Self::Many(BTreeSet::new())
    }
}

#[cfg(test)]
mod tests {
    use jpat_common::addr;

    use super::*;

    fn key(last: u8) -> GrantKey {
        GrantKey::new(&addr::from_v4([192, 0, 2, last]), &addr::mask(128), 1)
    }

    #[test]
    fn the_latest_end_counts_whatever_the_order() {
        let mut keys = Keys::new();
        let mut all = Vec::new();
        for (end, id) in [(5, 1), (9, 2), (7, 3), (9, 4)] {
            keys.add(key(1), BootTime(end), id);
            all.push((end, id));
            all.sort_unstable();
            assert_eq!(keys.leases_of(key(1)), all.iter().map(|(_, id)| *id).collect::<Vec<_>>());
            assert_eq!(keys.latest(key(1)).map(|end| end.0), all.last().map(|(end, _)| *end));
        }
        for (end, id) in [(9, 4), (5, 1), (9, 2), (7, 3)] {
            keys.remove(key(1), BootTime(end), id + 100);
            keys.remove(key(1), BootTime(end), id);
            all.retain(|(_, other)| *other != id);
            assert_eq!(keys.leases_of(key(1)).len(), all.len());
            assert_eq!(keys.latest(key(1)).map(|end| end.0), all.last().map(|(end, _)| *end));
        }
        assert!(keys.keys.is_empty());
        keys.add(key(1), BootTime(3), 9);
        keys.remove(key(1), BootTime(3), 9);
        assert!(keys.keys.is_empty());
    }

    #[test]
    fn what_the_map_holds_is_counted_and_kept_without_leases() {
        let mut keys = Keys::new();
        keys.set_written(key(1), Some(BootTime(5)));
        keys.set_written(key(1), Some(BootTime(6)));
        keys.set_written(key(2), Some(BootTime(7)));
        keys.set_written(key(3), None);
        assert_eq!((keys.count_written(), keys.keys.len()), (2, 2));
        assert_eq!([1, 2, 3].map(|last| keys.written(key(last)).map(|end| end.0)), [Some(6), Some(7), None]);
        keys.add(key(2), BootTime(7), 1);
        keys.remove(key(2), BootTime(7), 1);
        assert_eq!(keys.written(key(2)), Some(BootTime(7)), "until it is deleted");
        keys.set_written(key(2), None);
        keys.set_written(key(2), None);
        assert_eq!((keys.count_written(), keys.keys.len()), (1, 1));
    }
}
