//! A bounded queue that is fair between groups, and in each group between sources.
//!
//! When it is full, the newest of whoever waits with the most gives way: the group with the most, and in it the source with
//! the most; where all its sources wait with one, the one whose turn is last. So a flood pushes out its own, however it is
//! spread, and a group or source that waits with less than its share always finds a place. Groups take turns, and the
//! sources in each: deficit round robin (Shreedhar and Varghese, SIGCOMM 1995) of items that all weigh the same.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
};

use crate::table::{self, Table};

#[derive(Debug)]
pub(super) struct FairQueue<T> {
    capacity: usize,
    length: usize,
    turns: VecDeque<u32>,
    groups: BTreeMap<u32, Group<T>>,
}

/// Room for so many sources is kept for a group of which nothing waits; what a flood took is given back.
const KEPT: usize = 256;

/// What waits of one group.
#[derive(Debug)]
struct Group<T> {
    length: usize,
    turns: VecDeque<IpAddr>,
    sources: Table<IpAddr, Waiting<T>>,
    /// Those that wait with more than one.
    by_length: BTreeSet<(usize, IpAddr)>,
}

/// What waits of one source. Most wait with one.
#[derive(Debug)]
struct Waiting<T> {
    oldest: T,
    rest: VecDeque<T>,
}

/// Which end of a source's items.
#[derive(Clone, Copy)]
enum End {
    Oldest,
    Newest,
}

impl<T> FairQueue<T> {
    pub(super) const fn new(capacity: usize) -> Self {
        Self { capacity, length: 0, turns: VecDeque::new(), groups: BTreeMap::new() }
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
        let (most, longest) = self.groups.iter().map(|(group, held)| (held.length, *group)).max().unwrap_or((0, group));
        let mine = self.groups.get(&group);
        // Where it would wait with as many as the longest, it is the newest of the longest itself.
        let longest = if mine.map_or(0, |held| held.length) >= most { group } else { longest };
        if longest == group && mine.is_none_or(|held| held.of_source(source) + 1 >= held.most()) {
            return Some(item);
        }
        let Some(last) = self.drop_newest(longest) else { return Some(item) };
        self.insert(group, source, item);
        Some(last)
    }

    /// The next in turn.
    pub(super) fn pop(&mut self) -> Option<T> {
        let group = self.turns.pop_front()?;
        let held = self.groups.get_mut(&group)?;
        let item = held.pop()?;
        self.length -= 1;
        // Whoever has more waits for the next turn.
        if held.length > 0 {
            self.turns.push_back(group);
        }
        Some(item)
    }

    fn insert(&mut self, group: u32, source: IpAddr, item: T) {
        let held = self.groups.entry(group).or_insert_with(Group::new);
        if held.length == 0 {
            self.turns.push_back(group);
        }
        held.insert(source, item);
        self.length += 1;
    }

    fn drop_newest(&mut self, group: u32) -> Option<T> {
        let held = self.groups.get_mut(&group)?;
        let last = held.drop_newest()?;
        self.length -= 1;
        if held.length == 0 {
            self.turns.retain(|other| *other != group);
        }
        Some(last)
    }
}

impl<T> Group<T> {
    fn new() -> Self {
        Self { length: 0, turns: VecDeque::new(), sources: table::empty(), by_length: BTreeSet::new() }
    }

    /// With how many a source waits.
    fn of_source(&self, source: IpAddr) -> usize {
        self.sources.get(&source).map_or(0, Waiting::length)
    }

    /// With how many the longest source waits, at least one.
    fn most(&self) -> usize {
        self.by_length.last().map_or(1, |(most, _)| *most)
    }

    fn insert(&mut self, source: IpAddr, item: T) {
        self.length += 1;
        let Some(waiting) = self.sources.get_mut(&source) else {
            self.turns.push_back(source);
            self.sources.insert(source, Waiting { oldest: item, rest: VecDeque::new() });
            return;
        };
        let before = waiting.length();
        waiting.rest.push_back(item);
        self.relist(source, before, before + 1);
    }

    fn pop(&mut self) -> Option<T> {
        let source = self.turns.pop_front()?;
        let item = self.take(source, End::Oldest)?;
        if self.sources.contains_key(&source) {
            self.turns.push_back(source);
        }
        Some(item)
    }

    /// The newest of the source that waits with the most; where all wait with one, of the one whose turn is last.
    fn drop_newest(&mut self) -> Option<T> {
        let source = match self.by_length.last() {
            Some((_, source)) => *source,
            None => self.turns.pop_back()?,
        };
        self.take(source, End::Newest)
    }

    /// Takes an item out; the turns are the caller's.
    fn take(&mut self, source: IpAddr, end: End) -> Option<T> {
        let waiting = self.sources.get_mut(&source)?;
        let before = waiting.length();
        let next = match end {
            End::Oldest => waiting.rest.pop_front().map(|next| std::mem::replace(&mut waiting.oldest, next)),
            End::Newest => waiting.rest.pop_back(),
        };
        let item = match next {
            Some(item) => item,
            None => self.sources.remove(&source)?.oldest,
        };
        self.length -= 1;
        self.relist(source, before, before - 1);
        if self.length == 0 && self.turns.capacity() > KEPT {
            *self = Self::new();
        }
        Some(item)
    }

    /// Keeps `by_length` in step.
    fn relist(&mut self, source: IpAddr, before: usize, after: usize) {
        if before > 1 {
            self.by_length.remove(&(before, source));
        }
        if after > 1 {
            self.by_length.insert((after, source));
        }
    }
}

impl<T> Waiting<T> {
    fn length(&self) -> usize {
        1 + self.rest.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// For each of four groups and six sources.
    const PLACES: usize = 24;

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

    #[test]
    fn whoever_would_wait_with_as_many_as_the_longest_gives_way_itself() {
        let mut queue = FairQueue::new(4);
        for (from, item) in [(1, "first"), (1, "second"), (2, "third"), (3, "fourth")] {
            assert_eq!(queue.push(1, source(from), item), None);
        }
        assert_eq!(queue.push(1, source(2), "fifth"), Some("fifth"));
        assert_eq!(queue.push(1, source(4), "sixth"), Some("second"));
    }

    #[test]
    fn of_sources_that_all_wait_with_one_the_last_in_turn_gives_way() {
        let mut queue = FairQueue::new(3);
        for from in [9, 7, 8] {
            queue.push(1, source(from), from);
        }
        assert_eq!(queue.push(2, source(1), 0), Some(8));
        let mut queue = FairQueue::new(3);
        for (from, item) in [(9, "first"), (9, "second"), (7, "third")] {
            queue.push(1, source(from), item);
        }
        assert_eq!(queue.pop(), Some("first"));
        queue.push(2, source(1), "of another group");
        assert_eq!(queue.push(3, source(1), "of a third"), Some("second"), "it was served already");
    }

    #[test]
    fn a_group_that_loses_its_only_place_leaves_no_turn_behind() {
        let mut queue = FairQueue::new(2);
        assert_eq!([1, 2].map(|group| queue.push(group, source(1), group)), [None, None]);
        assert_eq!(queue.push(3, source(1), 3), Some(2));
        assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn the_room_that_a_flood_took_is_given_back() {
        let many = 4 * KEPT;
        let mut queue = FairQueue::new(many);
        for round in 0..3 {
            for number in 0..many {
                let source = IpAddr::V4(std::net::Ipv4Addr::from_bits(number as u32));
                assert_eq!(queue.push(1, source, number), None, "{round}");
            }
            assert!(queue.groups[&1].turns.capacity() >= many);
            assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>(), (0..many).collect::<Vec<_>>());
            assert_eq!((queue.length, queue.groups[&1].turns.capacity()), (0, 0));
        }
        queue.push(1, source(1), 1);
        queue.pop();
        assert_ne!(queue.groups[&1].turns.capacity(), 0, "of a few it is kept");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever comes: the bound holds, nothing is lost or made, who gives way waits with the most, and whoever sends no more
        /// than its share of what is left to its group never loses a place.
        #[test]
        fn p5_whoever_stays_within_its_share_is_never_turned_away(
            capacity in prop::sample::select(vec![0, 1, 2, 3, 7, PLACES, 50]),
            steps in prop::collection::vec((0..4_u32, 0..6_u8, 0..11_u8), 1..400),
        ) {
            let (mut queue, mut capacity) = (FairQueue::new(capacity), capacity);
            let (mut inside, mut number) = (BTreeMap::<(u32, IpAddr), VecDeque<u32>>::new(), 0);
            for (group, from, what) in steps {
                let before = queue.length;
                match what {
                    0 | 1 => match queue.pop() {
                        Some((group, from, number)) => {
                            let held = inside.get_mut(&(group, from)).unwrap();
                            prop_assert_eq!(held.pop_front(), Some(number), "each source's own in their order");
                        }
                        None => prop_assert!(inside.values().all(VecDeque::is_empty)),
                    },
                    2 => {
                        capacity = usize::from(from) * 5;
                        queue.set_capacity(capacity);
                    }
                    _ => {
                        number += 1;
                        let from = source(from);
                        inside.entry((group, from)).or_default().push_back(number);
                        if let Some((group, from, number)) = queue.push(group, from, (group, from, number)) {
                            let of_group = |which| -> usize {
                                inside.iter().filter(|((group, _), _)| *group == which).map(|(_, held)| held.len()).sum()
                            };
                            prop_assert_eq!(Some(of_group(group)), (0..4).map(of_group).max(), "of the longest group");
                            let mine = inside.iter().filter(|((other, _), _)| *other == group);
                            prop_assert_eq!(Some(inside[&(group, from)].len()), mine.map(|(_, held)| held.len()).max());
                            let held = inside.get_mut(&(group, from)).unwrap();
                            prop_assert_eq!(held.pop_back(), Some(number), "the newest gives way");
                            let is_share = capacity >= PLACES && held.is_empty();
                            prop_assert!(!is_share, "{group} {from} had its share and no more");
                        }
                    }
                }
                let total: usize = inside.values().map(VecDeque::len).sum();
                prop_assert!(total <= capacity.max(before) && total == queue.length);
                prop_assert_eq!(queue.turns.len(), queue.groups.values().filter(|held| held.length > 0).count());
                for held in queue.groups.values() {
                    prop_assert_eq!(held.turns.len(), held.sources.len());
                    prop_assert!(held.by_length.iter().all(|(many, from)| *many > 1 && held.of_source(*from) == *many));
                    let many = held.sources.values().filter(|waiting| waiting.length() > 1).count();
                    prop_assert_eq!(held.by_length.len(), many);
                    prop_assert_eq!(held.sources.values().map(Waiting::length).sum::<usize>(), held.length);
                }
            }
            let rest: usize = inside.values().map(VecDeque::len).sum();
            prop_assert_eq!(std::iter::from_fn(|| queue.pop()).count(), rest);
        }
    }
}
