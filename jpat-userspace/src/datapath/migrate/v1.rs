//! Layout 1: grants without flows, every judged destination in one trie.

use std::path::Path;

use aya::maps::{HashMap, Map, MapError, MapInfo, MapType, PerCpuArray};
use jpat_common::{
    grant::{GrantKey, GrantValue},
    map_name,
    reason::COUNTER_ENTRIES,
};

use super::{
    Counters, Found, Step,
    words::{self, open},
};
use crate::datapath::{error::DataPathError, tables::shape};

pub(super) const STEP: Step = Step { number: 1, maps, kept: &[], read, counters };

// Grants and counters are carried over as they are. Who changes these has to translate here.
const _: () = {
    assert!(size_of::<GrantKey>() == 20 && size_of::<GrantValue>() == 16);
    assert!(COUNTER_ENTRIES == 40_960);
};

fn maps() -> Vec<(&'static str, String)> {
    vec![
        (map_name::GRANTS, shape(MapType::LruHash, 20, 16, 0)),
        (map_name::SETTINGS, shape(MapType::Array, 4, size_of::<words::Words>(), 1)),
        (map_name::PORTS, shape(MapType::Array, 4, 4, 262_144)),
        (map_name::SERVICES, shape(MapType::Array, 4, 40, 512)),
        (map_name::DESTINATIONS, shape(MapType::LpmTrie, 20, 4, 0)),
        (map_name::ALWAYS_ALLOW, shape(MapType::LpmTrie, 20, 4, 0)),
        (map_name::COUNTERS, shape(MapType::PerCpuArray, 4, 8, 40_960)),
    ]
}

fn read(dir: &Path) -> Result<Found, DataPathError> {
    let failed = DataPathError::map;
    let grants: HashMap<_, GrantKey, GrantValue> =
        HashMap::try_from(Map::LruHashMap(open(dir, map_name::GRANTS)?)).map_err(failed(map_name::GRANTS))?;
    let capacity = MapInfo::from_pin(dir.join(map_name::GRANTS)).map_err(failed(map_name::GRANTS))?.max_entries();
    Ok(Found {
        capacity,
        flow_capacity: None,
        settings: words::read(dir)?,
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
