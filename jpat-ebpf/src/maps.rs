//! Every map of the object, and the decision's look-ups in them. The loader resizes the maps of grants and flows and
//! decides what is pinned.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_F_RDONLY_PROG, BPF_NOEXIST},
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, lpm_trie::Key},
};
use jpat_common::{
    addr::Addr,
    flow::{FLAG_CLOSING, FlowKey, FlowValue, STATE_ESTABLISHED},
    grant::{GrantKey, GrantValue, ServiceId},
    hints,
    hosts::{BUCKETS, Bucket, bucket_index},
    knock::{BARE_RING, KnockMeta, SEALED_RING},
    reason::COUNTER_ENTRIES,
    sealed::{self, Budget, KnockKey, MAX_KNOCK_KEYS, WORD},
    settings::{MAX_PREFIXES, PORT_ROWS, PortRow, SERVICE_ENTRIES, ServiceRule, Settings, port_row},
};
use jpat_ebpf::{decide::Tables, filter::Filter};

use crate::clock;

#[map]
static GRANTS: LruHashMap<GrantKey, GrantValue> = LruHashMap::with_max_entries(65_536, BPF_F_RDONLY_PROG);
#[map]
static GRANT_HINTS: Array<hints::Row> = Array::with_max_entries(hints::ROWS, BPF_F_RDONLY_PROG);
#[map]
static FLOWS: HashMap<FlowKey, FlowValue> = HashMap::with_max_entries(65_536, 0);
#[map]
static FLOWS_OPENED: HashMap<GrantKey, u64> = HashMap::with_max_entries(65_536, 0);
#[map]
static FLOWS_CLOSED: HashMap<GrantKey, u64> = HashMap::with_max_entries(65_536, BPF_F_RDONLY_PROG);
#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
static PORTS: Array<PortRow> = Array::with_max_entries(PORT_ROWS, 0);
#[map]
static SERVICES: Array<ServiceRule> = Array::with_max_entries(SERVICE_ENTRIES, 0);
#[map]
static HOSTS: Array<Bucket> = Array::with_max_entries(BUCKETS, BPF_F_RDONLY_PROG);
#[map]
static DESTINATIONS: LpmTrie<Addr, u32> = LpmTrie::with_max_entries(MAX_PREFIXES, 0);
#[map]
static ALWAYS_ALLOW: LpmTrie<Addr, u32> = LpmTrie::with_max_entries(MAX_PREFIXES, 0);
#[map]
pub(crate) static CLOCK: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static KNOCKS: RingBuf = RingBuf::with_byte_size(SEALED_RING, 0);
#[map]
pub(crate) static BARE_KNOCKS: RingBuf = RingBuf::with_byte_size(BARE_RING, 0);
#[map]
pub(crate) static KNOCK_META: PerCpuArray<KnockMeta> = PerCpuArray::with_max_entries(1, 0);
#[map]
static KNOCK_KEYS: HashMap<[u8; 2], KnockKey> = HashMap::with_max_entries(MAX_KNOCK_KEYS, BPF_F_RDONLY_PROG);
#[map]
static BUDGETS: Array<Budget> = Array::with_max_entries(sealed::BUDGETS, 0);
#[map]
static WALL_CLOCK: Array<u64> = Array::with_max_entries(1, BPF_F_RDONLY_PROG);
#[map]
static TAGS: LruHashMap<[u8; WORD], u64> = LruHashMap::with_max_entries(sealed::TAGS, 0);
#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_ENTRIES, 0);

/// Live settings, read once per packet: a reload in between must not show it two slots.
#[inline(always)]
pub(crate) fn settings() -> Option<Settings> {
    SETTINGS.get(0).copied()
}

/// A trie's key, whose address lies where a word does: the verifier takes no other store of a word on the stack.
#[repr(C, align(8))]
struct Query {
    gap: u32,
    key: Key<Addr>,
}

impl Query {
    #[inline(always)]
    const fn of(address: &Addr) -> Self {
        Self { gap: 0, key: Key::new(128, *address) }
    }
}

/// The decision's tables, in the kernel.
pub(crate) struct KernelTables;

impl Tables for KernelTables {
    type Place = *mut FlowValue;

    #[inline(always)]
    fn service(&self, port_index: u32) -> ServiceId {
        PORTS.get(port_row(port_index)).map_or(0, |row| row.service(port_index))
    }

    #[inline(always)]
    fn rule(&self, service_index: u32) -> Option<&ServiceRule> {
        SERVICES.get(service_index)
    }

    #[inline(always)]
    fn is_host(&self, address: &Addr) -> bool {
        HOSTS.get(bucket_index(address)).is_some_and(|bucket| bucket.contains(address))
    }

    #[inline(always)]
    fn is_in_destinations(&self, address: &Addr) -> bool {
        DESTINATIONS.get(&Query::of(address).key).is_some()
    }

    #[inline(always)]
    fn is_always_allowed(&self, address: &Addr) -> bool {
        ALWAYS_ALLOW.get(&Query::of(address).key).is_some()
    }

    #[inline(always)]
    fn may_have_grant(&self, key: &GrantKey) -> bool {
        let bit = hints::bit(key);
        // The array has every row; the verifier wants the question.
        GRANT_HINTS.get(hints::row(bit)).is_none_or(|row| row[hints::word(bit)] & hints::mask(bit) != 0)
    }

    #[inline(always)]
    fn grant(&self, key: &GrantKey) -> Option<GrantValue> {
        // SAFETY: the value is copied out at once. An entry that is reused meanwhile may lend its new end to this one
        // packet, which every BPF hash map with preallocation allows.
        unsafe { GRANTS.get(key) }.copied()
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<(*mut FlowValue, FlowValue)> {
        let place = FLOWS.get_ptr_mut(key)?;
        // SAFETY: a looked-up value stays readable for this run. Other CPUs write single words of it; an entry that is
        // reused meanwhile may lend its words to this one packet, as with grants.
        Some((place, unsafe { place.read() }))
    }

    #[inline(always)]
    fn touch_flow(&self, place: *mut FlowValue, now_ns: u64, establishes: bool, closes: bool) {
        // SAFETY: `place` came from a look-up in this run. Single words are written, whose last writer wins.
        unsafe {
            (&raw mut (*place).seen_ns).write_volatile(now_ns);
            if establishes {
                (&raw mut (*place).state).write_volatile(STATE_ESTABLISHED);
            }
            if closes {
                (&raw mut (*place).flags).write_volatile((*place).flags | FLAG_CLOSING);
            }
        }
    }

    #[inline(always)]
    fn flows_of(&self, grant: &GrantKey) -> Option<u64> {
        let opened = match FLOWS_OPENED.get_ptr(grant) {
            Some(opened) => opened,
            None => {
                FLOWS_OPENED.insert(grant, 0, u64::from(BPF_NOEXIST)).ok();
                FLOWS_OPENED.get_ptr(grant)?
            }
        };
        // SAFETY: the value is copied out at once; it is one aligned word.
        let closed = unsafe { FLOWS_CLOSED.get(grant) }.copied().unwrap_or(0);
        // SAFETY: looked up in this run; it is one aligned word.
        Some(unsafe { opened.read_volatile() }.saturating_sub(closed))
    }

    #[inline(always)]
    fn open_flow(&self, key: &FlowKey, value: &FlowValue, grant: &GrantKey) -> bool {
        if FLOWS.insert(key, value, u64::from(BPF_ANY)).is_err() {
            return false;
        }
        if let Some(opened) = FLOWS_OPENED.get_ptr_mut(grant) {
            // SAFETY: looked up in this run. Two CPUs may count one flow for two; the controller counts again.
            unsafe { *opened += 1 };
        }
        true
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        clock::tick_ns()
    }
}

impl Filter for KernelTables {
    #[inline(always)]
    fn knock_key(&self, id: [u8; 2]) -> Option<KnockKey> {
        // SAFETY: the value is copied out at once. Keys are only ever inserted and deleted while the program runs.
        unsafe { KNOCK_KEYS.get(id) }.copied()
    }

    #[inline(always)]
    fn wall_offset_ns(&self) -> Option<u64> {
        WALL_CLOCK.get(0).copied().filter(|offset_ns| *offset_ns != 0)
    }

    #[inline(always)]
    fn is_tag_seen(&self, tag: &[u8; WORD]) -> bool {
        // SAFETY: nothing is read through the pointer.
        unsafe { TAGS.get(tag) }.is_some()
    }

    #[inline(always)]
    fn budget(&self, group: u32) -> Option<Budget> {
        BUDGETS.get(group).copied()
    }

    #[inline(always)]
    fn set_clock(&self, group: u32, next_ns: u64) {
        if let Some(budget) = BUDGETS.get_ptr_mut(group) {
            // SAFETY: an aligned word of the map's value, which other CPUs may write as well; the last one wins.
            unsafe { (&raw mut (*budget).next_ns).write_volatile(next_ns) };
        }
    }
}

/// Remembers the tag of a knock that the ring took.
#[inline(always)]
pub(crate) fn remember(tag: &[u8; WORD], now_ns: u64) {
    // What cannot be remembered here the controller refuses.
    TAGS.insert(tag, now_ns, u64::from(BPF_ANY)).ok();
}
