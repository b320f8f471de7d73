//! Layout 1: no flows, no hints, single destinations among the prefixes; a service id of four bytes for each port.

use std::path::Path;

use anyhow::Result;
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, LpmTrie, Map, MapInfo, PerCpuArray, PerCpuValues, lpm_trie::Key},
};
use jpat_common::{
    addr::Addr,
    grant::{GrantKey, GrantValue},
    hosts::Bucket,
    map_name,
    reason::counter_index,
    settings::{Protocol, service_index},
};

use super::{array, copy_ports, copy_prefixes, map, pinned};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../vectors/v1/jpat.bpf.o");

/// Its maps, in the order in which its controller pinned them.
pub(super) const MAPS: [&str; 7] =
    ["GRANTS", "SETTINGS", "PORTS", "SERVICES", "DESTINATIONS", "ALWAYS_ALLOW", "COUNTERS"];

/// `FLAG_*` bits that it knows.
const FLAGS: u32 = 0b111;
/// Slots of counters for each service.
const REASONS: u32 = 160;
/// Services that are looked at.
const SERVICES: u32 = 8;

pub(super) fn load() -> Result<Ebpf> {
    Ok(EbpfLoader::new().load(OBJECT)?)
}

pub(super) fn load_from(new: &Path, ports: &[(Protocol, u16)]) -> Result<Ebpf> {
    let entries = MapInfo::from_pin(new.join(map_name::GRANTS))?.max_entries();
    let mut ebpf = EbpfLoader::new().map_max_entries("GRANTS", entries).load(OBJECT)?;
    copy_rules(&mut ebpf, new, ports)?;
    copy_counters(&mut ebpf, new)?;
    let grants: HashMap<_, GrantKey, GrantValue> = HashMap::try_from(Map::LruHashMap(pinned(new, map_name::GRANTS)?))?;
    let mut copy: HashMap<_, GrantKey, GrantValue> = HashMap::try_from(map(&mut ebpf, "GRANTS")?)?;
    for grant in grants.iter() {
        let (key, value) = grant?;
        copy.insert(key, value, 0)?;
    }
    Ok(ebpf)
}

fn copy_rules(ebpf: &mut Ebpf, new: &Path, ports: &[(Protocol, u16)]) -> Result<()> {
    // In words: the cap in two, then mode, slot, generation, flags, the knock port, one that was reserved.
    let mut words: [u32; 8] = array(pinned(new, map_name::SETTINGS)?)?.get(&0, 0)?;
    let slot = words[3];
    (words[5], words[7]) = (words[5] & FLAGS, 0);
    Array::<_, [u32; 8]>::try_from(map(ebpf, "SETTINGS")?)?.set(0, words, 0)?;

    copy_ports(ebpf, new, slot, ports)?;
    // Masks in four words; flags, and what came after them, were zero.
    let held: Array<_, [u64; 7]> = array(pinned(new, map_name::SERVICES)?)?;
    let mut table: Array<_, [u64; 5]> = Array::try_from(map(ebpf, "SERVICES")?)?;
    for index in (1..SERVICES).map(|service| service_index(slot, service)) {
        let [a, b, c, d, ..] = held.get(&index, 0)?;
        table.set(index, [a, b, c, d, 0], 0)?;
    }
    let hosts: Array<_, Bucket> = array(pinned(new, map_name::HOSTS)?)?;
    let mut judged: LpmTrie<_, Addr, u32> = LpmTrie::try_from(map(ebpf, "DESTINATIONS")?)?;
    for bucket in hosts.iter() {
        for host in bucket?.addresses() {
            judged.insert(&Key::new(128, *host), 1, 0)?;
        }
    }
    copy_prefixes(ebpf, new, map_name::DESTINATIONS)?;
    copy_prefixes(ebpf, new, map_name::ALWAYS_ALLOW)
}

fn copy_counters(ebpf: &mut Ebpf, new: &Path) -> Result<()> {
    let held: PerCpuArray<_, u64> = PerCpuArray::try_from(Map::PerCpuArray(pinned(new, map_name::COUNTERS)?))?;
    let mut copy: PerCpuArray<_, u64> = PerCpuArray::try_from(map(ebpf, "COUNTERS")?)?;
    for index in 0..counter_index(SERVICES, 0).min(SERVICES * REASONS) {
        let values: PerCpuValues<u64> = held.get(&index, 0)?;
        if values.iter().any(|packets| *packets > 0) {
            copy.set(index, values, 0)?;
        }
    }
    Ok(())
}
