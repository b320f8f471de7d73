//! The object is what the controller takes it for.

use anyhow::{Context, Result, ensure};
use aya::maps::{MapData, MapInfo, MapType};
use jpat_common::{
    flow::{FlowKey, FlowValue},
    grant::{GrantKey, GrantValue},
    map_name,
    reason::COUNTER_ENTRIES,
    sealed::{self, Budget, KnockKey, MAX_KNOCK_KEYS},
    settings::{PORT_ROWS, PortRow, SERVICE_ENTRIES, ServiceRule, Settings},
};

use crate::{
    Case,
    kernel::{self, Kernel},
};

pub(crate) const CASES: &[Case] = &[
    ("every_map_has_its_type_and_sizes", maps),
    ("the_verifier_takes_jpat_within_its_budget", ethernet),
    ("the_verifier_takes_jpat_frags_within_its_budget", several_buffers),
    ("the_verifier_takes_jpat_l3_within_its_budget", without_link_header),
];

/// `BPF_F_NO_PREALLOC`.
const NO_PREALLOC: u32 = 1;
/// `BPF_F_RDONLY_PROG`: no mistake in the program can write a grant.
const READ_ONLY: u32 = 1 << 7;

/// Instructions the verifier may walk. The kernel's limit is a million, older ones prune less.
const VERIFIER_BUDGET: u32 = 120_000;

struct Expected {
    name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
    flags: u32,
}

#[rustfmt::skip]
const MAPS: [Expected; 20] = [
    Expected { name: map_name::GRANTS, kind: MapType::LruHash, key: size_of::<GrantKey>(), value: size_of::<GrantValue>(), entries: 65_536, flags: READ_ONLY },
    Expected { name: map_name::GRANT_HINTS, kind: MapType::Array, key: 4, value: 1024, entries: 128, flags: READ_ONLY },
    Expected { name: map_name::FLOWS, kind: MapType::Hash, key: size_of::<FlowKey>(), value: size_of::<FlowValue>(), entries: 65_536, flags: 0 },
    Expected { name: map_name::FLOWS_OPENED, kind: MapType::Hash, key: size_of::<GrantKey>(), value: 8, entries: 65_536, flags: 0 },
    Expected { name: map_name::FLOWS_CLOSED, kind: MapType::Hash, key: size_of::<GrantKey>(), value: 8, entries: 65_536, flags: READ_ONLY },
    Expected { name: map_name::SETTINGS, kind: MapType::Array, key: 4, value: size_of::<Settings>(), entries: 1, flags: 0 },
    Expected { name: map_name::PORTS, kind: MapType::Array, key: 4, value: size_of::<PortRow>(), entries: PORT_ROWS, flags: 0 },
    Expected { name: map_name::SERVICES, kind: MapType::Array, key: 4, value: size_of::<ServiceRule>(), entries: SERVICE_ENTRIES, flags: 0 },
    Expected { name: map_name::HOSTS, kind: MapType::Array, key: 4, value: 64, entries: 1024, flags: READ_ONLY },
    Expected { name: map_name::DESTINATIONS, kind: MapType::LpmTrie, key: 20, value: 4, entries: 4096, flags: NO_PREALLOC },
    Expected { name: map_name::ALWAYS_ALLOW, kind: MapType::LpmTrie, key: 20, value: 4, entries: 4096, flags: NO_PREALLOC },
    Expected { name: map_name::KNOCK_META, kind: MapType::PerCpuArray, key: 4, value: 56, entries: 1, flags: 0 },
    Expected { name: map_name::CLOCK, kind: MapType::PerCpuArray, key: 4, value: 16, entries: 1, flags: 0 },
    Expected { name: map_name::KNOCKS, kind: MapType::RingBuf, key: 0, value: 0, entries: 1 << 22, flags: 0 },
    Expected { name: map_name::BARE_KNOCKS, kind: MapType::RingBuf, key: 0, value: 0, entries: 1 << 18, flags: 0 },
    Expected { name: map_name::KNOCK_KEYS, kind: MapType::Hash, key: 2, value: size_of::<KnockKey>(), entries: MAX_KNOCK_KEYS, flags: READ_ONLY },
    Expected { name: map_name::BUDGETS, kind: MapType::Array, key: 4, value: size_of::<Budget>(), entries: sealed::BUDGETS, flags: 0 },
    Expected { name: map_name::WALL_CLOCK, kind: MapType::Array, key: 4, value: 8, entries: 1, flags: READ_ONLY },
    Expected { name: map_name::TAGS, kind: MapType::LruHash, key: 8, value: 8, entries: sealed::TAGS, flags: 0 },
    Expected { name: map_name::COUNTERS, kind: MapType::PerCpuArray, key: 4, value: 8, entries: COUNTER_ENTRIES, flags: 0 },
];

fn maps() -> Result<()> {
    let kernel = Kernel::load(&kernel::world()?)?;
    let mut names = kernel.map_names();
    names.sort_unstable();
    let mut expected: Vec<_> = MAPS.iter().map(|map| map.name).collect();
    expected.sort_unstable();
    ensure!(names == expected, "the object has the maps {names:?}, not {expected:?}");
    let secret = [map_name::KNOCK_KEYS, map_name::CLOCK, map_name::WALL_CLOCK, map_name::BUDGETS];
    ensure!(secret.iter().all(|name| !map_name::PINNED.contains(name)), "what is this program's own is pinned");
    ensure!(map_name::PINNED.iter().all(|name| names.contains(name)), "a pinned map is missing: {names:?}");
    for Expected { name, kind, key, value, entries, flags } in MAPS {
        let info = info(&kernel, name)?;
        ensure!(info.map_type()? == kind, "{name}: {:?}", info.map_type());
        let sizes = [info.key_size(), info.value_size(), info.max_entries(), info.map_flags()];
        let expected = [u32::try_from(key)?, u32::try_from(value)?, entries, flags];
        ensure!(sizes == expected, "{name}: key, value, entries, flags {sizes:?}, not {expected:?}");
        ensure!(info.name_as_str() == Some(name), "{name}: the kernel calls it {:?}", info.name_as_str());
    }
    Ok(())
}

fn info(kernel: &Kernel, name: &str) -> Result<MapInfo> {
    use aya::maps::Map;
    let (Map::LruHashMap(data)
    | Map::HashMap(data)
    | Map::Array(data)
    | Map::LpmTrie(data)
    | Map::RingBuf(data)
    | Map::PerCpuArray(data)) = kernel.map(name)?
    else {
        anyhow::bail!("{name} is of a kind that no map of the object has");
    };
    MapData::info(data).with_context(|| format!("ask the kernel about {name}"))
}

fn program(name: &str) -> Result<()> {
    let info = Kernel::load_programs(&[name], &kernel::world()?)?.program_info(name)?;
    ensure!(info.name_as_str() == Some(name), "the kernel calls it {:?}", info.name_as_str());
    ensure!(info.gpl_compatible() == Some(true), "{name}: its licence is not taken for GPL-compatible");
    // Known since kernel 5.16.
    if let Some(count) = info.verified_instruction_count() {
        println!("{name}: the verifier walked {count} instructions");
        ensure!(count <= VERIFIER_BUDGET, "{name}: walked {count} instructions, more than {VERIFIER_BUDGET}");
    }
    Ok(())
}

fn ethernet() -> Result<()> {
    program(map_name::PROGRAM)
}

fn several_buffers() -> Result<()> {
    kernel::need_frags()?;
    program(map_name::PROGRAM_FRAGS)
}

fn without_link_header() -> Result<()> {
    program(map_name::PROGRAM_L3)
}
