//! Layout 2: a service id of four bytes for each port, hints of one word each, one knock ring without a filter.

use std::path::Path;

use aya::maps::{MapInfo, MapType};
use jpat_common::{
    flow::{FlowKey, FlowValue},
    grant::{GrantKey, GrantValue},
    map_name,
    reason::COUNTER_ENTRIES,
};

use super::{Counters, Found, Step, words};
use crate::datapath::{error::DataPathError, tables::shape};

pub(super) const STEP: Step = Step { number: 2, maps, kept: &KEPT, read, counters };

/// Grants and flows, and who counts them.
const KEPT: [&str; 5] =
    [map_name::GRANTS, map_name::FLOWS, map_name::FLOWS_OPENED, map_name::FLOWS_CLOSED, map_name::COUNTERS];

// The kept maps are used as they are. Who changes these has to translate here.
const _: () = {
    assert!(size_of::<GrantKey>() == 20 && size_of::<GrantValue>() == 16);
    assert!(size_of::<FlowKey>() == 40 && size_of::<FlowValue>() == 32);
    assert!(COUNTER_ENTRIES == 40_960);
};

fn maps() -> Vec<(&'static str, String)> {
    vec![
        (map_name::GRANTS, shape(MapType::LruHash, 20, 16, 0)),
        (map_name::GRANT_HINTS, shape(MapType::Array, 4, 8, 16_384)),
        (map_name::FLOWS, shape(MapType::Hash, 40, 32, 0)),
        (map_name::FLOWS_OPENED, shape(MapType::Hash, 20, 8, 0)),
        (map_name::FLOWS_CLOSED, shape(MapType::Hash, 20, 8, 0)),
        (map_name::SETTINGS, shape(MapType::Array, 4, size_of::<words::Words>(), 1)),
        (map_name::PORTS, shape(MapType::Array, 4, 4, 262_144)),
        (map_name::SERVICES, shape(MapType::Array, 4, 56, 512)),
        (map_name::HOSTS, shape(MapType::Array, 4, 64, jpat_common::hosts::BUCKETS)),
        (map_name::DESTINATIONS, shape(MapType::LpmTrie, 20, 4, 0)),
        (map_name::ALWAYS_ALLOW, shape(MapType::LpmTrie, 20, 4, 0)),
        (map_name::COUNTERS, shape(MapType::PerCpuArray, 4, 8, 40_960)),
    ]
}

fn read(dir: &Path) -> Result<Found, DataPathError> {
    let capacity =
        |name| MapInfo::from_pin(dir.join(name)).map(|info| info.max_entries()).map_err(DataPathError::map(name));
    Ok(Found {
        capacity: capacity(map_name::GRANTS)?,
        flow_capacity: Some(capacity(map_name::FLOWS)?),
        settings: words::read(dir)?,
        grants: Vec::new(),
    })
}

/// The counters themselves are kept.
fn counters(_dir: &Path) -> Result<Counters, DataPathError> {
    Ok(Counters::new())
}
