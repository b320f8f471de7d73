//! Layout 2: a service id of four bytes for each port, hints of one word each. Grants, flows and counters lie in the very
//! maps that this version goes on with.

use std::path::Path;

use anyhow::Result;
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, MapData},
};
use jpat_common::{hints, hosts::Bucket, map_name, settings::Protocol};

use super::{array, copy_ports, copy_prefixes, map, pinned};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../vectors/v2/jpat.bpf.o");

/// Its maps, in the order in which its controller pinned them.
pub(super) const MAPS: [&str; 12] = [
    "GRANTS",
    "GRANT_HINTS",
    "FLOWS",
    "FLOWS_OPENED",
    "FLOWS_CLOSED",
    "SETTINGS",
    "PORTS",
    "SERVICES",
    "HOSTS",
    "DESTINATIONS",
    "ALWAYS_ALLOW",
    "COUNTERS",
];

/// Those that this version uses as they are.
const KEPT: [&str; 5] =
    [map_name::GRANTS, map_name::FLOWS, map_name::FLOWS_OPENED, map_name::FLOWS_CLOSED, map_name::COUNTERS];

pub(super) fn load() -> Result<Ebpf> {
    Ok(EbpfLoader::new().load(OBJECT)?)
}

pub(super) fn load_from(new: &Path, ports: &[(Protocol, u16)]) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    for name in KEPT {
        loader.map_pin_path(name, new.join(name));
    }
    let mut ebpf = loader.load(OBJECT)?;
    // In words: the cap in two, then mode, slot, generation, flags.
    let words: [u32; 8] = array(pinned(new, map_name::SETTINGS)?)?.get(&0, 0)?;
    Array::<_, [u32; 8]>::try_from(map(&mut ebpf, "SETTINGS")?)?.set(0, words, 0)?;
    copy_ports(&mut ebpf, new, words[3], ports)?;
    copy::<[u64; 7]>(&mut ebpf, "SERVICES", pinned(new, map_name::SERVICES)?)?;
    copy::<Bucket>(&mut ebpf, "HOSTS", pinned(new, map_name::HOSTS)?)?;
    copy_hints(&mut ebpf, new)?;
    copy_prefixes(&mut ebpf, new, map_name::DESTINATIONS)?;
    copy_prefixes(&mut ebpf, new, map_name::ALWAYS_ALLOW)?;
    Ok(ebpf)
}

/// An array that looks the same in both layouts.
fn copy<V: Pod>(ebpf: &mut Ebpf, name: &str, from: MapData) -> Result<()> {
    let held: Array<_, V> = array(from)?;
    let mut table: Array<_, V> = Array::try_from(map(ebpf, name)?)?;
    for (index, value) in (0..).zip(held.iter()) {
        table.set(index, value?, 0)?;
    }
    Ok(())
}

fn copy_hints(ebpf: &mut Ebpf, new: &Path) -> Result<()> {
    let held: Array<_, hints::Row> = array(pinned(new, map_name::GRANT_HINTS)?)?;
    let mut table: Array<_, u64> = Array::try_from(map(ebpf, "GRANT_HINTS")?)?;
    for (row, words) in (0..).zip(held.iter()) {
        let words = words?;
        for (index, bits) in (row * words.len() as u32..).zip(words).filter(|(_, bits)| *bits != 0) {
            table.set(index, bits, 0)?;
        }
    }
    Ok(())
}
