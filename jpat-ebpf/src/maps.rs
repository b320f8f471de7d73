//! Every map of the object, and the decision's look-ups in them. The loader resizes the grant map and decides what is
//! pinned.

use aya_ebpf::{
    macros::map,
    maps::{Array, LpmTrie, LruHashMap, PerCpuArray, RingBuf, lpm_trie::Key},
};
use jpat_common::{
    addr::Addr,
    grant::{GrantKey, GrantValue, ServiceId},
    reason::COUNTER_ENTRIES,
    settings::{MAX_PREFIXES, PORT_ENTRIES, SERVICE_ENTRIES, ServiceRule, Settings},
};
use jpat_ebpf::decide::Tables;

use crate::clock;

#[map]
static GRANTS: LruHashMap<GrantKey, GrantValue> = LruHashMap::with_max_entries(65_536, 0);
#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
static PORTS: Array<u32> = Array::with_max_entries(PORT_ENTRIES, 0);
#[map]
static SERVICES: Array<ServiceRule> = Array::with_max_entries(SERVICE_ENTRIES, 0);
#[map]
static DESTINATIONS: LpmTrie<Addr, u32> = LpmTrie::with_max_entries(MAX_PREFIXES, 0);
#[map]
static ALWAYS_ALLOW: LpmTrie<Addr, u32> = LpmTrie::with_max_entries(MAX_PREFIXES, 0);
#[map]
pub(crate) static KNOCKS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);
#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_ENTRIES, 0);

/// Live settings, read once per packet: a reload in between must not show it two slots.
#[inline(always)]
pub(crate) fn settings() -> Option<Settings> {
    SETTINGS.get(0).copied()
}

/// The decision's tables, in the kernel.
pub(crate) struct KernelTables;

impl Tables for KernelTables {
    #[inline(always)]
    fn service(&self, port_index: u32) -> ServiceId {
        PORTS.get(port_index).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn rule(&self, service_index: u32) -> Option<&ServiceRule> {
        SERVICES.get(service_index)
    }

    #[inline(always)]
    fn is_destination(&self, address: &Addr) -> bool {
        DESTINATIONS.get(Key::new(128, *address)).is_some()
    }

    #[inline(always)]
    fn is_always_allowed(&self, address: &Addr) -> bool {
        ALWAYS_ALLOW.get(Key::new(128, *address)).is_some()
    }

    #[inline(always)]
    fn grant(&self, key: &GrantKey) -> Option<GrantValue> {
        // SAFETY: the value is copied out at once. An entry that is reused meanwhile may lend its new end to this one
        // packet, which every BPF hash map with preallocation allows.
        unsafe { GRANTS.get(key) }.copied()
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        clock::boot_ns()
    }
}
