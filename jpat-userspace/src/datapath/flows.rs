//! The flow map and the two maps that count its entries for each grant.

use std::{collections::BTreeMap, os::fd::AsFd as _};

use aya::{
    Pod,
    maps::{HashMap, Map, MapData},
};
use jpat_common::{
    flow::{FlowKey, FlowValue},
    grant::GrantKey,
    map_name,
};

use super::{
    error::{DataPathError, os_error},
    tables::{Tables, absent_is_fine},
};

/// `BPF_EXIST` of `bpf(2)`.
const EXIST: u64 = 2;

/// The maps of flows once more, for a thread that only reads them.
pub struct FlowReader {
    flows: HashMap<MapData, FlowKey, FlowValue>,
    opened: HashMap<MapData, GrantKey, u64>,
    /// Entries that the flow map can hold.
    capacity: usize,
}

/// What a thread found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Found {
    /// Flows that were ever opened under a key. Read first, so that a flow opened meanwhile makes no other look closed.
    pub opened: BTreeMap<GrantKey, u64>,
    /// Every flow; nothing where they were not read.
    pub flows: Option<BTreeMap<FlowKey, FlowValue>>,
}

impl FlowReader {
    /// Reads everything, or the flows only if something was opened since `known`.
    ///
    /// # Errors
    /// The kernel's refusal, or a map that did not hold still: it is walked from key to key, and begins anew at one that
    /// was removed meanwhile.
    pub fn read(&self, known: Option<&BTreeMap<GrantKey, u64>>) -> Result<Found, DataPathError> {
        let most = self.capacity.saturating_mul(2).saturating_add(1024);
        let opened = collect(&self.opened, most).map_err(DataPathError::map(map_name::FLOWS_OPENED))?;
        let opened = opened.ok_or(DataPathError::Restless(map_name::FLOWS_OPENED))?;
        if known == Some(&opened) {
            return Ok(Found { opened, flows: None });
        }
        let flows = collect(&self.flows, most).map_err(DataPathError::map(map_name::FLOWS))?;
        Ok(Found { opened, flows: Some(flows.ok_or(DataPathError::Restless(map_name::FLOWS))?) })
    }
}

impl Tables {
    /// The maps of flows, to be read elsewhere.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn flow_reader(&self, capacity: u32) -> Result<FlowReader, DataPathError> {
        Ok(FlowReader {
            flows: self.second(map_name::FLOWS)?,
            opened: self.second(map_name::FLOWS_OPENED)?,
            capacity: capacity as usize,
        })
    }

    /// One flow.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn flow(&self, key: &FlowKey) -> Result<Option<FlowValue>, DataPathError> {
        present(self.flows()?.get(key, 0)).map_err(DataPathError::map(map_name::FLOWS))
    }

    /// Writes a flow. False where there is no room.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn write_flow(&mut self, key: &FlowKey, value: &FlowValue) -> Result<bool, DataPathError> {
        match self.flows_mut()?.insert(key, value, 0) {
            Ok(()) => Ok(true),
            Err(error) if os_error(&error) == Some(nix::Error::E2BIG as i32) => Ok(false),
            Err(error) => Err(DataPathError::map(map_name::FLOWS)(error)),
        }
    }

    /// Writes a flow that is there, and none that is not.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn rewrite_flow(&mut self, key: &FlowKey, value: &FlowValue) -> Result<(), DataPathError> {
        absent_is_fine(self.flows_mut()?.insert(key, value, EXIST)).map_err(DataPathError::map(map_name::FLOWS))
    }

    /// Removes a flow; one that is not there is as good as removed.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn remove_flow(&mut self, key: &FlowKey) -> Result<(), DataPathError> {
        absent_is_fine(self.flows_mut()?.remove(key)).map_err(DataPathError::map(map_name::FLOWS))
    }

    /// Removes every flow that `matches`, and returns how many.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn end_flows(&mut self, matches: impl Fn(&FlowKey, &FlowValue) -> bool) -> Result<usize, DataPathError> {
        let failed = || DataPathError::map(map_name::FLOWS);
        let flows = self.flows()?;
        // Nothing else removes flows, so that the walk meets each of them.
        let mut ending = Vec::new();
        for entry in flows.iter() {
            let (key, value) = entry.map_err(failed())?;
            if matches(&key, &value) {
                ending.push(key);
            }
        }
        let mut flows = self.flows_mut()?;
        ending.iter().try_for_each(|key| absent_is_fine(flows.remove(key))).map_err(failed())?;
        Ok(ending.len())
    }

    /// How many of the flows that were opened under each key are gone, as the program is told.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn flows_closed(&self) -> Result<BTreeMap<GrantKey, u64>, DataPathError> {
        let closed: HashMap<_, GrantKey, u64> =
            HashMap::try_from(self.map(map_name::FLOWS_CLOSED)?).map_err(DataPathError::map(map_name::FLOWS_CLOSED))?;
        closed.iter().collect::<Result<_, _>>().map_err(DataPathError::map(map_name::FLOWS_CLOSED))
    }

    /// Tells the program how many flows of a key are gone.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn write_flows_closed(&mut self, key: &GrantKey, closed: u64) -> Result<(), DataPathError> {
        let failed = || DataPathError::map(map_name::FLOWS_CLOSED);
        let mut map: HashMap<_, GrantKey, u64> =
            HashMap::try_from(self.map_mut(map_name::FLOWS_CLOSED)?).map_err(failed())?;
        map.insert(key, closed, 0).map_err(failed())
    }

    /// Forgets the counts of a key: what was opened first, so that in between it never seems to have more flows than it
    /// has.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn forget_flow_counts(&mut self, key: &GrantKey) -> Result<(), DataPathError> {
        for name in [map_name::FLOWS_OPENED, map_name::FLOWS_CLOSED] {
            let mut map: HashMap<_, GrantKey, u64> =
                HashMap::try_from(self.map_mut(name)?).map_err(DataPathError::map(name))?;
            absent_is_fine(map.remove(key)).map_err(DataPathError::map(name))?;
        }
        Ok(())
    }

    fn flows(&self) -> Result<HashMap<&MapData, FlowKey, FlowValue>, DataPathError> {
        HashMap::try_from(self.map(map_name::FLOWS)?).map_err(DataPathError::map(map_name::FLOWS))
    }

    fn flows_mut(&mut self) -> Result<HashMap<&mut MapData, FlowKey, FlowValue>, DataPathError> {
        HashMap::try_from(self.map_mut(map_name::FLOWS)?).map_err(DataPathError::map(map_name::FLOWS))
    }

    /// A map under a second descriptor.
    fn second<K: Pod, V: Pod>(&self, name: &'static str) -> Result<HashMap<MapData, K, V>, DataPathError> {
        let Map::HashMap(data) = self.map(name)? else { return Err(DataPathError::NoMap(name)) };
        let fd = data.fd().as_fd().try_clone_to_owned().map_err(DataPathError::Descriptors)?;
        MapData::from_fd(fd).and_then(Map::from_map_data).and_then(HashMap::try_from).map_err(DataPathError::map(name))
    }
}

fn collect<K: Pod + Ord, V: Pod>(
    map: &HashMap<MapData, K, V>,
    most: usize,
) -> Result<Option<BTreeMap<K, V>>, aya::maps::MapError> {
    let mut found = BTreeMap::new();
    for (count, entry) in map.iter().enumerate() {
        if count >= most {
            return Ok(None);
        }
        let (key, value) = entry?;
        found.insert(key, value);
    }
    Ok(Some(found))
}

fn present<T>(result: Result<T, aya::maps::MapError>) -> Result<Option<T>, aya::maps::MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(aya::maps::MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
