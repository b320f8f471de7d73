//! Sealed knocks, as far as the filter in front of the ring looks at them, and the tables that it asks, in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jpat_common::{
    reason::DropReason,
    sealed::{
        BARE_BUDGET, Budget, CIPHERTEXT_AT, ENC_AT, FILTER_WINDOW_MS, KnockKey, MAGIC, TAG_AT, TYPE_KNOCK, VERSION,
    },
};
use jpat_ebpf::{
    filter::{Admitted, Filter, filter},
    frame::Cursor,
};
use siphasher::sip::SipHasher24;

/// What makes boot time wall-clock time in every world, nanoseconds.
pub const WALL_OFFSET_NS: u64 = 1_790_000_000_000_000_000;
/// Bytes of a sealed knock that are not ciphertext.
pub const HEADER: usize = CIPHERTEXT_AT;
const NS_PER_MS: u64 = 1_000_000;

/// A knock key: its id, its tag key, and the group that it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TagKey {
    /// As in the header.
    pub id: u16,
    /// The SipHash key.
    pub secret: [u8; 16],
    /// Index of the group's budget.
    pub group: u32,
}

/// Of the first group.
pub const STAFF: TagKey = TagKey { id: 0x0102, secret: *b"staff's tag key.", group: 1 };
/// Of the first group as well: a key on its way in.
pub const STAFF_NEXT: TagKey = TagKey { id: 0x0201, secret: *b"the next tag key", group: 1 };
/// Of the second group.
pub const GUESTS: TagKey = TagKey { id: 7, secret: *b"guests' tag key.", group: 2 };
/// Of no host.
pub const FOREIGN: TagKey = TagKey { id: 0x0702, secret: *b"another host's..", group: 1 };

impl TagKey {
    /// As the program knows it.
    #[must_use]
    pub fn entry(&self) -> KnockKey {
        let [low, high] = [0, 8].map(|at| {
            let mut half = [0; 8];
            half.copy_from_slice(&self.secret[at..at + 8]);
            u64::from_le_bytes(half)
        });
        KnockKey { k0: low, k1: high, group: self.group, reserved: 0 }
    }

    /// The id in network order.
    #[must_use]
    pub const fn map_key(&self) -> [u8; 2] {
        self.id.to_be_bytes()
    }
}

/// A sealed knock before its tag is made.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Whose tag it gets.
    pub key: TagKey,
    /// The id in its header.
    pub key_id: u16,
    /// The version in its header.
    pub version: u8,
    /// The type in its header.
    pub kind: u8,
    /// The time in its header.
    pub time_ms: u64,
    /// All that stands behind the tag.
    pub rest: Vec<u8>,
}

impl Sealed {
    /// One of `length` bytes (at least 24), sent at `now_ns` of boot time in a world. `number` makes it differ from others.
    #[must_use]
    pub fn new(key: TagKey, now_ns: u64, length: usize, number: u64) -> Self {
        let mut state = number ^ 0x9e37_79b9_7f4a_7c15;
        let rest = (ENC_AT..length).map(|_| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            state.to_be_bytes()[0]
        });
        Self { key, key_id: key.id, version: VERSION, kind: TYPE_KNOCK, time_ms: wall_ms(now_ns), rest: rest.collect() }
    }

    /// The same, sent so many milliseconds later.
    #[must_use]
    pub const fn shifted(mut self, by_ms: i64) -> Self {
        self.time_ms = self.time_ms.wrapping_add_signed(by_ms);
        self
    }

    /// The datagram's payload.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let time = self.time_ms.to_be_bytes();
        let [id0, id1] = self.key_id.to_be_bytes();
        let front = [MAGIC.as_slice(), &[self.version, self.kind, id0, id1, 0x5e, 0xed], &time[2..]].concat();
        let tag = tag(&self.key, &[front.as_slice(), &self.rest].concat());
        [front, tag.to_vec(), self.rest.clone()].concat()
    }
}

/// The tag over a datagram without its tag, by another implementation than the program's.
#[must_use]
pub fn tag(key: &TagKey, signed: &[u8]) -> [u8; 8] {
    SipHasher24::new_with_key(&key.secret).hash(signed).to_le_bytes()
}

/// The tag that a datagram carries.
#[must_use]
pub fn tag_of(datagram: &[u8]) -> Option<[u8; 8]> {
    datagram.get(TAG_AT..ENC_AT)?.try_into().ok()
}

/// Wall-clock milliseconds of a world at `now_ns` of boot time.
#[must_use]
pub const fn wall_ms(now_ns: u64) -> u64 {
    (now_ns + WALL_OFFSET_NS) / NS_PER_MS
}

/// How far a knock's time may be from the host's, milliseconds.
pub const WINDOW_MS: i64 = FILTER_WINDOW_MS as i64;

/// A budget that no test exhausts by chance.
pub const AMPLE: Budget = Budget { interval_ns: 1, burst_ns: u64::MAX / 2, next_ns: 0 };

/// What the filter asks.
#[derive(Clone, Debug)]
pub struct Gate {
    /// Keys by id.
    pub keys: BTreeMap<u16, TagKey>,
    /// What makes boot time wall-clock time, nanoseconds.
    pub wall_offset_ns: Option<u64>,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Debug)]
struct State {
    budgets: BTreeMap<u32, Budget>,
    tags: BTreeSet<[u8; 8]>,
}

impl Gate {
    /// With three keys of two groups, and room for everybody.
    #[must_use]
    pub fn new() -> Self {
        let budgets = [BARE_BUDGET, STAFF.group, GUESTS.group].map(|group| (group, AMPLE)).into();
        Self {
            keys: [STAFF, STAFF_NEXT, GUESTS].map(|key| (key.id, key)).into(),
            wall_offset_ns: Some(WALL_OFFSET_NS),
            state: Arc::new(Mutex::new(State { budgets, tags: BTreeSet::new() })),
        }
    }

    /// Every budget.
    #[must_use]
    pub fn budgets(&self) -> BTreeMap<u32, Budget> {
        self.locked().budgets.clone()
    }

    /// Sets a budget.
    pub fn set_budget(&self, group: u32, budget: Budget) {
        self.locked().budgets.insert(group, budget);
    }

    /// Remembers a tag, as the program does when the ring took the knock.
    pub fn remember(&self, tag: [u8; 8]) {
        self.locked().tags.insert(tag);
    }

    /// Forgets every tag.
    pub fn forget(&self) {
        self.locked().tags.clear();
    }

    /// What becomes of a payload whose ring has room.
    ///
    /// # Errors
    /// Why it is dropped.
    pub fn admit(&self, payload: Cursor<'_>, now_ns: u64) -> Result<Admitted, DropReason> {
        let admitted = filter(payload, now_ns, self)?;
        if let Admitted::Sealed { tag, .. } = admitted {
            self.remember(tag);
        }
        Ok(admitted)
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Filter for Gate {
    fn knock_key(&self, id: [u8; 2]) -> Option<KnockKey> {
        self.keys.get(&u16::from_be_bytes(id)).map(TagKey::entry)
    }

    fn wall_offset_ns(&self) -> Option<u64> {
        self.wall_offset_ns
    }

    fn is_tag_seen(&self, tag: &[u8; 8]) -> bool {
        self.locked().tags.contains(tag)
    }

    fn budget(&self, group: u32) -> Option<Budget> {
        self.locked().budgets.get(&group).copied()
    }

    fn set_clock(&self, group: u32, next_ns: u64) {
        if let Some(budget) = self.locked().budgets.get_mut(&group) {
            budget.next_ns = next_ns;
        }
    }
}
