//! Every map of the object. The loader resizes the grant map and decides what is pinned.

use aya_ebpf::{
    macros::map,
    maps::{Array, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
};
use jpat_common::{
    addr::Addr,
    grant::{GrantKey, GrantValue},
    reason::COUNTER_ENTRIES,
    settings::{PORT_ENTRIES, SERVICE_ENTRIES, ServiceRule, Settings},
};

/// Entries of each prefix table.
const PREFIXES: u32 = 4096;

#[map]
static GRANTS: LruHashMap<GrantKey, GrantValue> = LruHashMap::with_max_entries(65_536, 0);
#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
static PORTS: Array<u32> = Array::with_max_entries(PORT_ENTRIES, 0);
#[map]
static SERVICES: Array<ServiceRule> = Array::with_max_entries(SERVICE_ENTRIES, 0);
#[map]
static DESTINATIONS: LpmTrie<Addr, u32> = LpmTrie::with_max_entries(PREFIXES, 0);
#[map]
static ALWAYS_ALLOW: LpmTrie<Addr, u32> = LpmTrie::with_max_entries(PREFIXES, 0);
#[map]
static KNOCKS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_ENTRIES, 0);
