//! From the pins of an older layout to those of this one, with the old program or the new one on every device at any
//! moment.
//!
//! Each layout pins in a directory of its own. The newest layout that has a link is in force; maps of a layout that has
//! none are a leftover. An upgrade is, in this order:
//!
//! 1. maps are made and filled: settings and grants of the old layout, then the rules of the configuration. Maps that look
//!    the same in both layouts are not copied: the new program uses the very map of the old one;
//! 2. they are pinned, which is a leftover until
//! 3. the pins of all links are moved to the new directory, a rename each. The first one commits: a controller of the old
//!    layout finds the devices taken from then on, and changes nothing;
//! 4. each link gets the new program, one `BPF_LINK_UPDATE` each;
//! 5. the old maps are unpinned.
//!
//! Who dies before 3 leaves the old layout in force, and the next start begins again. Who dies later leaves the new
//! layout in force, and the next start goes on at 3. Grants cannot change in between: only a controller changes them.

mod v1;
mod v2;
mod words;

use std::path::{Path, PathBuf};

use aya::maps::PerCpuValues;
use jpat_common::{
    ABI_VERSION,
    grant::{GrantKey, GrantValue},
    settings::Settings,
};

use super::{
    error::DataPathError,
    pins::{PinDir, Version, check_layout},
    tables::Tables,
};

/// What a layout before this one left, in the terms of this one.
pub(super) struct Heritage {
    pub(super) number: u32,
    pub(super) dir: PathBuf,
    /// Entries of the grant map.
    pub(super) capacity: u32,
    /// Entries of the flow map, where there is one.
    pub(super) flow_capacity: Option<u32>,
    /// Mode, generation and cap; there are no ports under its slot.
    settings: Settings,
    grants: Vec<(GrantKey, GrantValue)>,
    step: &'static Step,
}

/// How one older layout is read.
struct Step {
    number: u32,
    /// Its maps and what they look like.
    maps: fn() -> Vec<(&'static str, String)>,
    /// Those of its maps that this layout goes on with.
    kept: &'static [&'static str],
    /// Reads what must be there before the first packet is judged.
    read: fn(&Path) -> Result<Found, DataPathError>,
    /// Reads the counters, as late as possible.
    counters: fn(&Path) -> Result<Counters, DataPathError>,
}

struct Found {
    capacity: u32,
    flow_capacity: Option<u32>,
    settings: Settings,
    grants: Vec<(GrantKey, GrantValue)>,
}

/// Counters that are not zero, under the index of this layout.
type Counters = Vec<(u32, PerCpuValues<u64>)>;

/// Every layout that can be taken over.
const STEPS: [Step; 2] = [v1::STEP, v2::STEP];

/// Whose program is at work.
pub(super) enum InForce {
    /// Nobody's: what is pinned is a leftover of the pinning.
    Nobody,
    /// That of this layout; links of the older one may be left, whose controller this one took over from.
    Own {
        /// Where the links are that were not moved.
        older: Option<PathBuf>,
    },
    /// That of an older layout.
    Older(Heritage),
}

/// Finds out whose program is at work, and reads what it must leave behind. Changes nothing.
///
/// # Errors
/// Pins of a newer layout, of an unknown one, or damaged ones.
pub(super) fn in_force(pins: &PinDir) -> Result<InForce, DataPathError> {
    let mut versions = pins.versions()?;
    versions.retain(|version| version.has_links);
    let Some(Version { number, dir, .. }) = versions.pop() else { return Ok(InForce::Nobody) };
    if pins.is_own(&dir) {
        let older = versions.pop().map(|version| step_of(version).map(|(dir, _)| dir)).transpose()?;
        return Ok(InForce::Own { older });
    }
    if number >= ABI_VERSION {
        return Err(DataPathError::Newer { path: dir, number });
    }
    let (dir, step) = step_of(Version { number, dir, has_links: true })?;
    check_layout(&dir, &(step.maps)())?;
    let Found { capacity, flow_capacity, settings, grants } = (step.read)(&dir)?;
    Ok(InForce::Older(Heritage { number, dir, capacity, flow_capacity, settings, grants, step }))
}

fn step_of(version: Version) -> Result<(PathBuf, &'static Step), DataPathError> {
    let Version { number, dir, .. } = version;
    match STEPS.iter().find(|step| step.number == number) {
        Some(step) => Ok((dir, step)),
        None => Err(DataPathError::Unknown { path: dir, number }),
    }
}

impl Heritage {
    /// Where the old layout has the maps that this one goes on with.
    pub(super) fn kept(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        self.step.kept.iter().map(|name| (*name, self.dir.join(name)))
    }

    /// Writes settings and grants into maps that no program uses yet.
    pub(super) fn fill(&self, tables: &mut Tables) -> Result<(), DataPathError> {
        tables.write_settings(&self.settings)?;
        self.grants.iter().try_for_each(|(key, value)| tables.write_grant(key, value))
    }

    /// Carries the counters over. What the old program counts after this is not counted.
    pub(super) fn fill_counters(&self, tables: &mut Tables) -> Result<(), DataPathError> {
        let counters = (self.step.counters)(&self.dir)?;
        counters.into_iter().try_for_each(|(index, values)| tables.write_counter(index, values))
    }
}
