//! Layout 1: grants without flows, every judged destination in one trie.

use std::path::Path;

use aya::maps::{Array, HashMap, Map, MapData, MapError, MapInfo, MapType, PerCpuArray};
use jpat_common::{
    grant::{GrantKey, GrantValue},
    map_name,
    reason::COUNTER_ENTRIES,
    settings::Settings,
};

use super::{Counters, Found, Step};
use crate::datapath::{error::DataPathError, tables::shape};

pub(super) const STEP: Step = Step { number: 1, maps, read, counters };

// Grants and counters are carried over as they are. Who changes these has to translate here.
const _: () = {
    assert!(size_of::<GrantKey>() == 20 && size_of::<GrantValue>() == 16);
    assert!(COUNTER_ENTRIES == 40_960);
};

/// The settings in words: the cap in the first two, then mode, slot, generation, flags.
type Words = [u32; 8];
const MODE: usize = 2;
const GENERATION: usize = 4;

fn maps() -> Vec<(&'static str, String)> {
    vec![
        (map_name::GRANTS, shape(MapType::LruHash, 20, 16, 0)),
        (map_name::SETTINGS, shape(MapType::Array, 4, size_of::<Words>(), 1)),
        (map_name::PORTS, shape(MapType::Array, 4, 4, 262_144)),
        (map_name::SERVICES, shape(MapType::Array, 4, 40, 512)),
        (map_name::DESTINATIONS, shape(MapType::LpmTrie, 20, 4, 0)),
        (map_name::ALWAYS_ALLOW, shape(MapType::LpmTrie, 20, 4, 0)),
        (map_name::COUNTERS, shape(MapType::PerCpuArray, 4, 8, 40_960)),
    ]
}

fn read(dir: &Path) -> Result<Found, DataPathError> {
    let failed = DataPathError::map;
    let settings: Array<_, Words> =
        Array::try_from(Map::Array(open(dir, map_name::SETTINGS)?)).map_err(failed(map_name::SETTINGS))?;
    let words = settings.get(&0, 0).map_err(failed(map_name::SETTINGS))?;
    let grants: HashMap<_, GrantKey, GrantValue> =
        HashMap::try_from(Map::LruHashMap(open(dir, map_name::GRANTS)?)).map_err(failed(map_name::GRANTS))?;
    let capacity = MapInfo::from_pin(dir.join(map_name::GRANTS)).map_err(failed(map_name::GRANTS))?.max_entries();
    Ok(Found {
        capacity,
        settings: Settings { mode: words[MODE], generation: words[GENERATION], ..Settings::default() },
        grants: grants.iter().collect::<Result<_, _>>().map_err(failed(map_name::GRANTS))?,
    })
}

fn counters(dir: &Path) -> Result<Counters, DataPathError> {
    let failed = DataPathError::map(map_name::COUNTERS);
    let counters = Map::PerCpuArray(open(dir, map_name::COUNTERS)?);
    let read = || -> Result<Counters, MapError> {
        let counters: PerCpuArray<_, u64> = PerCpuArray::try_from(counters)?;
        let mut found = Counters::new();
        for index in 0..COUNTER_ENTRIES {
            let values = counters.get(&index, 0)?;
            if values.iter().any(|packets| *packets > 0) {
                found.push((index, values));
            }
        }
        Ok(found)
    };
    read().map_err(failed)
}

fn open(dir: &Path, name: &'static str) -> Result<MapData, DataPathError> {
    MapData::from_pin(dir.join(name)).map_err(DataPathError::map(name))
}
