//! A bounded queue that is fair between groups, and in each group between sources.
//!
//! When it is full, the newest of whoever waits with the most gives way: the group with the most, and in it the source with
//! the most. So a flood pushes out its own, however it is spread, and a group or source that waits with less than its
//! share always finds a place. Groups take turns, and the sources in each: deficit round robin (Shreedhar and Varghese,
//! SIGCOMM 1995) of items that all weigh the same.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
};

#[derive(Debug)]
pub(super) struct FairQueue<T> {
    capacity: usize,
    length: usize,
    turns: VecDeque<u32>,
    groups: BTreeMap<u32, Group<T>>,
    by_length: BTreeSet<(usize, u32)>,
}

/// What waits of one group; never nothing.
#[derive(Debug)]
struct Group<T> {
    length: usize,
    turns: VecDeque<IpAddr>,
    sources: BTreeMap<IpAddr, VecDeque<T>>,
    by_length: BTreeSet<(usize, IpAddr)>,
}

impl<T> FairQueue<T> {
    pub(super) const fn new(capacity: usize) -> Self {
        Self { capacity, length: 0, turns: VecDeque::new(), groups: BTreeMap::new(), by_length: BTreeSet::new() }
    }

    pub(super) const fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// Adds an item. What had to give way comes back: it, or another.
    pub(super) fn push(&mut self, group: u32, source: IpAddr, item: T) -> Option<T> {
        if self.length < self.capacity {
            self.insert(group, source, item);
            return None;
        }
        let of_group = |queue: &Self, group| queue.groups.get(&group).map_or(0, |held| held.length);
        let (most, longest) = self.by_length.last().copied().unwrap_or((0, group));
        // Where it would wait with as many as the longest, it is the newest of the longest itself.
        let longest = if of_group(self, group) >= most { group } else { longest };
        let mine = self.groups.get(&longest).filter(|_| longest == group);
        if let Some(held) = mine {
            let from_here = held.sources.get(&source).map_or(0, VecDeque::len);
            if held.by_length.last().is_none_or(|(most, _)| from_here + 1 >= *most) {
                return Some(item);
            }
        }
        let Some(last) = self.drop_newest(longest) else { return Some(item) };
        self.insert(group, source, item);
        Some(last)
    }

    /// The next in turn.
    pub(super) fn pop(&mut self) -> Option<T> {
        let group = self.turns.pop_front()?;
        let held = self.groups.get_mut(&group)?;
        let source = held.turns.pop_front()?;
        let item = self.take(group, source, VecDeque::pop_front)?;
        // Whoever has more waits for the next turn.
        if let Some(held) = self.groups.get_mut(&group) {
            self.turns.push_back(group);
            if held.sources.contains_key(&source) {
                held.turns.push_back(source);
            }
        }
        Some(item)
    }

    fn insert(&mut self, group: u32, source: IpAddr, item: T) {
        let held = self.groups.entry(group).or_insert_with(|| {
            self.turns.push_back(group);
            Group { length: 0, turns: VecDeque::new(), sources: BTreeMap::new(), by_length: BTreeSet::new() }
        });
        let items = held.sources.entry(source).or_insert_with(|| {
            held.turns.push_back(source);
            VecDeque::with_capacity(1)
        });
        held.by_length.remove(&(items.len(), source));
        items.push_back(item);
        held.by_length.insert((items.len(), source));
        self.by_length.remove(&(held.length, group));
        held.length += 1;
        self.by_length.insert((held.length, group));
        self.length += 1;
    }

    fn drop_newest(&mut self, group: u32) -> Option<T> {
        let (_, source) = *self.groups.get(&group)?.by_length.last()?;
        let last = self.take(group, source, VecDeque::pop_back);
        if let Some(held) = self.groups.get_mut(&group) {
            if !held.sources.contains_key(&source) {
                held.turns.retain(|other| *other != source);
            }
        } else {
            self.turns.retain(|other| *other != group);
        }
        last
    }

    /// Takes an item out; the turns are the caller's.
    fn take(&mut self, group: u32, source: IpAddr, from: impl FnOnce(&mut VecDeque<T>) -> Option<T>) -> Option<T> {
        let held = self.groups.get_mut(&group)?;
        let items = held.sources.get_mut(&source)?;
        held.by_length.remove(&(items.len(), source));
        let item = from(items);
        if items.is_empty() {
            held.sources.remove(&source);
        } else {
            held.by_length.insert((items.len(), source));
        }
        self.by_length.remove(&(held.length, group));
        held.length -= 1;
        self.length -= 1;
        if held.length == 0 {
            self.groups.remove(&group);
        } else {
            self.by_length.insert((held.length, group));
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn source(number: u8) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, number))
    }

    #[test]
    fn p5_a_flood_pushes_out_its_own() {
        let mut queue = FairQueue::new(8);
        for at in 0..100 {
            queue.push(1, source(at), ("insider", at));
        }
        // Forged sources are all alike: of the flood's group, those who wait were first.
        assert!(queue.push(2, source(1), ("other group", 0)).is_some_and(|gone| gone.0 == "insider"));
        assert_eq!(queue.push(2, source(2), ("other group", 1)).map(|gone| gone.0), Some("insider"));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order.len(), 8);
        assert_eq!(order.iter().filter(|item| item.0 == "other group").count(), 2);
        assert!(order[..4].iter().filter(|item| item.0 == "other group").count() == 2, "in turn: {order:?}");
    }

    #[test]
    fn p5_one_source_does_not_take_the_places_of_others_in_its_group() {
        let mut queue = FairQueue::new(8);
        for at in 0..100 {
            queue.push(1, source(1), ("flood", at));
        }
        for at in 0..3 {
            assert_eq!(queue.push(1, source(2 + at), ("other", 0)).map(|gone| gone.0), Some("flood"));
        }
        assert_eq!(queue.push(1, source(1), ("flood", 100)), Some(("flood", 100)));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(
            order.iter().filter(|item| item.0 == "flood").map(|item| item.1).collect::<Vec<_>>(),
            [0, 1, 2, 3, 4]
        );
        assert!(order[..4].iter().filter(|item| item.0 == "other").count() == 3, "in turn: {order:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever comes: the bound holds, nothing is lost or made, and whoever sends no more than its share of what is left
        /// to its group never loses a place.
        #[test]
        fn p5_whoever_stays_within_its_share_is_never_turned_away(
            steps in prop::collection::vec((0..4_u32, 0..6_u8, 0..5_u8), 1..400),
        ) {
            const CAPACITY: usize = 24;
            let mut queue = FairQueue::new(CAPACITY);
            let (mut inside, mut number) = (BTreeMap::<(u32, IpAddr), VecDeque<u32>>::new(), 0);
            for (group, from, what) in steps {
                if what == 0 {
                    match queue.pop() {
                        Some((group, from, number)) => {
                            let held = inside.get_mut(&(group, from)).unwrap();
                            prop_assert_eq!(held.pop_front(), Some(number), "each source's own in their order");
                        }
                        None => prop_assert!(inside.values().all(VecDeque::is_empty)),
                    }
                } else {
                    number += 1;
                    let from = source(from);
                    inside.entry((group, from)).or_default().push_back(number);
                    if let Some((group, from, number)) = queue.push(group, from, (group, from, number)) {
                        let held = inside.get_mut(&(group, from)).unwrap();
                        prop_assert_eq!(held.pop_back(), Some(number), "the newest gives way");
                        // There is a place for each of 4 groups and 6 sources.
                        prop_assert!(!held.is_empty(), "{group} {from} had its share and no more");
                    }
                }
                let total: usize = inside.values().map(VecDeque::len).sum();
                prop_assert!(total <= CAPACITY && total == queue.length);
                prop_assert_eq!(queue.turns.len(), queue.groups.len());
                for held in queue.groups.values() {
                    prop_assert_eq!(held.turns.len(), held.sources.len());
                    prop_assert_eq!(held.by_length.len(), held.sources.len());
                }
            }
        }
    }
}
