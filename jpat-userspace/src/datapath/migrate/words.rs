//! The settings of layouts 1 and 2 in words: the cap in the first two, then mode, slot, generation, flags.

use std::path::Path;

use aya::maps::{Array, Map, MapData};
use jpat_common::{map_name, settings::Settings};

use crate::datapath::error::DataPathError;

pub(super) type Words = [u32; 8];
const MODE: usize = 2;
const GENERATION: usize = 4;

/// What of them is carried over: the rest follows from the configuration.
pub(super) fn read(dir: &Path) -> Result<Settings, DataPathError> {
    let failed = DataPathError::map(map_name::SETTINGS);
    let settings = Map::Array(open(dir, map_name::SETTINGS)?);
    let words = Array::<_, Words>::try_from(settings).and_then(|settings| settings.get(&0, 0)).map_err(failed)?;
    Ok(Settings { mode: words[MODE], generation: words[GENERATION], ..Settings::default() })
}

pub(super) fn open(dir: &Path, name: &'static str) -> Result<MapData, DataPathError> {
    MapData::from_pin(dir.join(name)).map_err(DataPathError::map(name))
}
