//! Knock keys and what they may send.

use std::collections::{BTreeMap, BTreeSet};

use super::SECOND;
use crate::oracle::{
    dice::Dice,
    model::gate::{BARE, Budget, Gate, TagKey},
};

/// Ids, secrets and groups; the last one is no host's, and the one before has a group without a budget.
pub(crate) const KEYS: [(u16, [u8; 16], u32); 7] = [
    (1, *b"sixteen bytes, 1", 1),
    (0x0100, *b"sixteen bytes, 2", 1),
    (0xffff, *b"sixteen bytes, 3", 2),
    (0x4a50, [0; 16], 255),
    (9, [0xff; 16], 17),
    (10, *b"sixteen bytes, 4", 256),
    (0x0a00, *b"of another host.", 1),
];
/// The wall clock less the boot clock, where it is known.
pub(crate) const WALL_OFFSET_NS: u64 = 1_790_000_000_123_456_789;
/// Takes up more than any batch lasts, so that what is left does not depend on when a packet comes.
const COST_NS: u64 = 3_600 * SECOND;

/// Draws one.
pub(super) fn gate(dice: &mut Dice, now_ns: u64, [bare_room, sealed_room]: [usize; 2]) -> Gate {
    let groups = [BARE, 1, 2, 255, 17];
    let budgets = groups.map(|group| (group, budget(dice, now_ns)));
    Gate {
        keys: KEYS[..6].iter().map(|(id, secret, group)| (*id, TagKey { secret: *secret, group: *group })).collect(),
        wall_offset_ns: (!dice.percent(6)).then_some(WALL_OFFSET_NS),
        budgets: BTreeMap::from(budgets),
        seen: BTreeSet::new(),
        bare_room,
        sealed_room,
    }
}

fn budget(dice: &mut Dice, now_ns: u64) -> Budget {
    let (cost_ns, knocks) = match dice.below(10) {
        0..2 => (0, 1_000_000),
        2..4 => (COST_NS, dice.below(12) as u64),
        // As much as there can be.
        4 => return Budget { cost_ns: 1, most_ns: u64::MAX, taken_ns: 0, at_ns: now_ns },
        _ => (COST_NS, 1_000_000),
    };
    // Half a knock is taken up already, or two and a half.
    let taken_ns = dice.pick(&[0, COST_NS / 2, 2 * COST_NS + COST_NS / 2]);
    Budget { cost_ns, most_ns: knocks * COST_NS + COST_NS / 4, taken_ns, at_ns: now_ns }
}
