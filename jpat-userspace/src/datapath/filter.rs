//! What the program's filter in front of the knock rings goes by. None of it outlives this process: without a controller
//! nobody empties the rings.

use std::collections::BTreeSet;

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData},
};
use jpat_common::{
    knock::{BARE_RING, SEALED_RING},
    map_name,
    sealed::{BARE_BUDGET, BUDGETS, Budget, KnockKey, MAX_KNOCK_KEYS},
};

use super::error::DataPathError;
use crate::{clock::Now, knock::tag::TagKey};

const SECOND_NS: u64 = 1_000_000_000;

/// Records that a quarter of each ring holds: 1296 bytes each.
const BURST: u64 = (SEALED_RING / 4 / 1296) as u64;
const BARE_BURST: u64 = (BARE_RING / 4 / 1296) as u64;

/// How far the program's wall clock may be off before it is set again: less than a sender notices, more than slewing does
/// in a second.
const TOLERANCE_NS: u64 = 10_000_000;

/// One knock key as the filter knows it.
#[derive(Clone, PartialEq, Eq)]
pub struct FilterKey {
    /// Its id.
    pub id: u16,
    /// What was derived from it for this server.
    pub tag_key: TagKey,
    /// Index of its group's budget: its place in [`FilterRules::groups`], counted from 1.
    pub group: u32,
}

/// Who may send how much.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct FilterRules {
    /// Bare knocks a second; 0 where no issuer accepts any.
    pub bare_per_second: u32,
    /// Knocks a second of each group.
    pub groups: Vec<u32>,
    /// Every knock key.
    pub keys: Vec<FilterKey>,
}

/// The filter's maps.
pub struct Filter {
    keys: HashMap<MapData, [u8; 2], KnockKey>,
    budgets: Array<MapData, Budget>,
    wall_clock: Array<MapData, u64>,
    offset_ns: u64,
}

impl Filter {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, DataPathError> {
        let mut take = |name: &'static str| ebpf.take_map(name).ok_or(DataPathError::NoMap(name));
        let (keys, budgets, wall_clock) =
            (take(map_name::KNOCK_KEYS)?, take(map_name::BUDGETS)?, take(map_name::WALL_CLOCK)?);
        Ok(Self {
            keys: HashMap::try_from(keys).map_err(DataPathError::map(map_name::KNOCK_KEYS))?,
            budgets: array(budgets, map_name::BUDGETS)?,
            wall_clock: array(wall_clock, map_name::WALL_CLOCK)?,
            offset_ns: 0,
        })
    }

    /// Brings the rules into force: budgets first, so that no key is without one. Keys that stay are good all the while.
    ///
    /// # Errors
    /// More keys or groups than there is room for; the kernel's refusal. Keys that are to go may be left then.
    pub fn write(&mut self, rules: &FilterRules) -> Result<(), DataPathError> {
        if rules.groups.len() >= BUDGETS as usize {
            return Err(DataPathError::TooMany { what: "groups of knock keys", most: BUDGETS - 1 });
        }
        if rules.keys.len() > MAX_KNOCK_KEYS as usize {
            return Err(DataPathError::TooMany { what: "knock keys", most: MAX_KNOCK_KEYS });
        }
        for (index, per_second) in (BARE_BUDGET..).zip([rules.bare_per_second].iter().chain(&rules.groups)) {
            self.write_budget(index, *per_second)?;
        }
        let failed = || DataPathError::map(map_name::KNOCK_KEYS);
        let held = self.keys.keys().collect::<Result<BTreeSet<_>, _>>().map_err(failed())?;
        let wanted: BTreeSet<_> = rules.keys.iter().map(|key| key.id.to_be_bytes()).collect();
        for id in held.difference(&wanted) {
            self.keys.remove(id).map_err(failed())?;
        }
        for FilterKey { id, tag_key, group } in &rules.keys {
            let (k0, k1) = tag_key.halves();
            let key = KnockKey { k0, k1, group: *group, reserved: 0 };
            self.keys.insert(id.to_be_bytes(), key, 0).map_err(failed())?;
        }
        Ok(())
    }

    /// A full second's worth may come at once, if that is no more than a quarter of the ring. What a group has used up stays
    /// used up.
    fn write_budget(&mut self, index: u32, per_second: u32) -> Result<(), DataPathError> {
        let failed = || DataPathError::map(map_name::BUDGETS);
        let interval_ns = SECOND_NS.checked_div(u64::from(per_second)).unwrap_or(0);
        let held = self.budgets.get(&index, 0).map_err(failed())?;
        let at_once = interval_ns.saturating_mul(if index == BARE_BUDGET { BARE_BURST } else { BURST });
        let burst_ns = at_once.min(SECOND_NS).max(interval_ns);
        let wanted = Budget { interval_ns, burst_ns, next_ns: held.next_ns };
        if held == wanted { Ok(()) } else { self.budgets.set(index, wanted, 0).map_err(failed()) }
    }

    /// Sets the program's wall clock, if it is off.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn set_clock(&mut self, now: Now) -> Result<(), DataPathError> {
        let offset_ns = now.unix.0.saturating_sub(now.boot.0);
        if offset_ns.abs_diff(self.offset_ns) <= TOLERANCE_NS {
            return Ok(());
        }
        self.wall_clock.set(0, offset_ns, 0).map_err(DataPathError::map(map_name::WALL_CLOCK))?;
        self.offset_ns = offset_ns;
        Ok(())
    }
}

fn array<V: aya::Pod>(map: Map, name: &'static str) -> Result<Array<MapData, V>, DataPathError> {
    Array::try_from(map).map_err(DataPathError::map(name))
}
