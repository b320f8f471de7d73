//! Typed writes to the maps.

mod destinations;
mod hints;
mod ports;
mod services;

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use aya::{
    Ebpf,
    maps::{
        Array, HashMap, LpmTrie, Map, MapData, MapError, MapInfo, MapType, PerCpuArray, PerCpuValues, lpm_trie::Key,
    },
};
use ipnet::IpNet;
use jpat_common::{
    addr::{self, Addr},
    flow::{FlowKey, FlowValue},
    grant::{GrantKey, GrantValue},
    hints as grant_hints,
    hosts::{self, Bucket},
    map_name,
    reason::COUNTER_ENTRIES,
    settings::{self, PortRow, ServiceRule, Settings},
};

pub use self::services::Service;
use self::{destinations::Judged, hints::Hinted};
use super::{error::DataPathError, pins::PinDir};
use crate::table::{self, Table};

/// The maps that outlive a controller.
pub struct Tables {
    maps: Table<&'static str, Map>,
    hinted: Hinted,
}

/// Rules of one configuration, as the program needs them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Every service.
    pub services: Vec<Service>,
    /// Sources that pass without a grant.
    pub always_allow: BTreeSet<IpNet>,
    /// Judged destinations; `None` for all.
    pub destinations: Option<BTreeSet<IpNet>>,
    /// Drop tunnels to judged destinations.
    pub drop_tunnels: bool,
    /// Knock port, host order.
    pub knock_port: u16,
    /// Longest life of a grant.
    pub max_ttl: Duration,
    /// Most flows that one grant may have.
    pub flows_per_grant: u32,
}

/// The program's time is a tick behind at most, so that a grant of the longest life looks longer at first.
const TICK_ALLOWANCE: Duration = Duration::from_secs(1);

/// Rules that lie in the maps and are not in force yet.
#[derive(Debug)]
#[must_use]
pub struct Prepared {
    rules: Rules,
    slot: u32,
    always_allowed_before: BTreeSet<IpNet>,
}

impl Rules {
    /// Judged prefixes; none where all destinations are.
    fn judged(&self) -> &BTreeSet<IpNet> {
        static NONE: BTreeSet<IpNet> = BTreeSet::new();
        self.destinations.as_ref().unwrap_or(&NONE)
    }
}

impl Tables {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, DataPathError> {
        let mut maps = table::empty();
        for name in map_name::PINNED {
            maps.insert(name, ebpf.take_map(name).ok_or(DataPathError::NoMap(name))?);
        }
        let mut tables = Self { maps, hinted: Hinted::new() };
        tables.restore_hints()?;
        Ok(tables)
    }

    /// Pins the maps that are not pinned, because they are new or because somebody removed their pins.
    pub(super) fn pin(&self, pins: &PinDir) -> Result<(), DataPathError> {
        pins.create()?;
        for name in map_name::PINNED {
            let map = self.map(name)?;
            let path = pins.map(name);
            if path.exists() {
                continue;
            }
            map.pin(&path).map_err(|source| DataPathError::Pin { path, source })?;
        }
        Ok(())
    }

    /// Writes one grant, which becomes effective with [`Self::write_hints`].
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn write_grant(&mut self, key: &GrantKey, value: &GrantValue) -> Result<(), DataPathError> {
        self.hint(key);
        self.grants_mut()?.insert(key, value, 0).map_err(DataPathError::map(map_name::GRANTS))
    }

    /// Deletes one grant; one that is not there is as good as deleted.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn delete_grant(&mut self, key: &GrantKey) -> Result<(), DataPathError> {
        absent_is_fine(self.grants_mut()?.remove(key)).map_err(DataPathError::map(map_name::GRANTS))?;
        self.forget_hint(key);
        Ok(())
    }

    /// Every grant in the map, ended ones included.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn grants(&self) -> Result<Vec<(GrantKey, GrantValue)>, DataPathError> {
        let grants: HashMap<_, GrantKey, GrantValue> =
            HashMap::try_from(self.map(map_name::GRANTS)?).map_err(DataPathError::map(map_name::GRANTS))?;
        grants.iter().collect::<Result<_, _>>().map_err(DataPathError::map(map_name::GRANTS))
    }

    /// The live settings.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn settings(&self) -> Result<Settings, DataPathError> {
        let failed = DataPathError::map(map_name::SETTINGS);
        let array: Array<_, Settings> =
            Array::try_from(self.map(map_name::SETTINGS)?).map_err(DataPathError::map(map_name::SETTINGS))?;
        array.get(&0, 0).map_err(failed)
    }

    /// Replaces the live settings: everything of a reload becomes visible with this one write.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn write_settings(&mut self, settings: &Settings) -> Result<(), DataPathError> {
        let mut array: Array<_, Settings> =
            Array::try_from(self.map_mut(map_name::SETTINGS)?).map_err(DataPathError::map(map_name::SETTINGS))?;
        array.set(0, settings, 0).map_err(DataPathError::map(map_name::SETTINGS))
    }

    /// Writes `rules` beside those in force: the idle slot, and prefixes that come in addition. [`Self::switch`] brings
    /// them into force.
    ///
    /// # Errors
    /// The kernel's refusal; the old rules are in force as they were.
    pub fn prepare(&mut self, rules: Rules) -> Result<Prepared, DataPathError> {
        let slot = 1 - (self.settings()?.slot & 1);
        self.write_ports(slot, &rules)?;
        self.write_services(slot, &rules)?;
        let before = self.prefixes(map_name::ALWAYS_ALLOW)?;
        let added = self
            .add_judged(&Judged::of(rules.judged()))
            .and_then(|()| self.add_prefixes(map_name::ALWAYS_ALLOW, &rules.always_allow));
        match added {
            Ok(()) => Ok(Prepared { rules, slot, always_allowed_before: before }),
            Err(error) => {
                self.retain_prefixes(map_name::ALWAYS_ALLOW, &before)?;
                Err(error)
            }
        }
    }

    /// Brings prepared rules into force in `mode` and `generation`, with one write.
    ///
    /// # Errors
    /// The kernel's refusal; the old rules are in force as they were.
    pub fn switch(&mut self, prepared: &Prepared, mode: u32, generation: u32) -> Result<(), DataPathError> {
        let Prepared { rules, slot, .. } = prepared;
        let has_prefixes = self.has_prefix_destinations()?;
        let flags = [
            (rules.destinations.is_none(), settings::FLAG_ANY_DESTINATION),
            (has_prefixes, settings::FLAG_PREFIX_DESTINATIONS),
            (!rules.always_allow.is_empty(), settings::FLAG_ALWAYS_ALLOW),
            (rules.drop_tunnels, settings::FLAG_DROP_TUNNELS),
            (self.has_hints(), settings::FLAG_GRANT_HINTS),
        ];
        self.write_settings(&Settings {
            max_ttl_ns: nanos(rules.max_ttl.saturating_add(TICK_ALLOWANCE)),
            mode,
            slot: *slot,
            generation,
            flags: any_of(&flags),
            knock_port: rules.knock_port.to_be_bytes(),
            reserved: [0; 2],
            flows_per_grant: rules.flows_per_grant,
        })
    }

    /// Removes what is left of the rules before, after the switch.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn finish(&mut self, prepared: Prepared) -> Result<(), DataPathError> {
        self.retain_prefixes(map_name::ALWAYS_ALLOW, &prepared.rules.always_allow)?;
        self.retain_judged(&Judged::of(prepared.rules.judged()))
    }

    /// Takes prepared rules back that were not switched to.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn abandon(&mut self, prepared: Prepared) -> Result<(), DataPathError> {
        self.retain_prefixes(map_name::ALWAYS_ALLOW, &prepared.always_allowed_before)
    }

    /// One counter, summed over the CPUs.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn counter(&self, index: u32) -> Result<u64, DataPathError> {
        let counters: PerCpuArray<_, u64> =
            PerCpuArray::try_from(self.map(map_name::COUNTERS)?).map_err(DataPathError::map(map_name::COUNTERS))?;
        let values = counters.get(&index, 0).map_err(DataPathError::map(map_name::COUNTERS))?;
        Ok(values.iter().sum())
    }

    /// Sets one counter, of every CPU. Only before the program is at work: what it counts meanwhile would be lost.
    pub(super) fn write_counter(&mut self, index: u32, values: PerCpuValues<u64>) -> Result<(), DataPathError> {
        let mut counters: PerCpuArray<_, u64> =
            PerCpuArray::try_from(self.map_mut(map_name::COUNTERS)?).map_err(DataPathError::map(map_name::COUNTERS))?;
        counters.set(index, values, 0).map_err(DataPathError::map(map_name::COUNTERS))
    }

    fn prefixes(&self, name: &'static str) -> Result<BTreeSet<IpNet>, DataPathError> {
        let trie: LpmTrie<_, Addr, u32> = LpmTrie::try_from(self.map(name)?).map_err(DataPathError::map(name))?;
        trie.keys().map(|key| key.map(|key| net(&key))).collect::<Result<_, _>>().map_err(DataPathError::map(name))
    }

    fn add_prefixes(&mut self, name: &'static str, prefixes: &BTreeSet<IpNet>) -> Result<(), DataPathError> {
        let mut trie: LpmTrie<_, Addr, u32> =
            LpmTrie::try_from(self.map_mut(name)?).map_err(DataPathError::map(name))?;
        prefixes.iter().try_for_each(|prefix| trie.insert(&key(prefix), 1, 0)).map_err(DataPathError::map(name))
    }

    fn retain_prefixes(&mut self, name: &'static str, wanted: &BTreeSet<IpNet>) -> Result<(), DataPathError> {
        let held = self.prefixes(name)?;
        let wanted: BTreeSet<_> = wanted.iter().map(IpNet::trunc).collect();
        let mut trie: LpmTrie<_, Addr, u32> =
            LpmTrie::try_from(self.map_mut(name)?).map_err(DataPathError::map(name))?;
        held.difference(&wanted)
            .try_for_each(|prefix| absent_is_fine(trie.remove(&key(prefix))))
            .map_err(DataPathError::map(name))
    }

    fn grants_mut(&mut self) -> Result<HashMap<&mut MapData, GrantKey, GrantValue>, DataPathError> {
        HashMap::try_from(self.map_mut(map_name::GRANTS)?).map_err(DataPathError::map(map_name::GRANTS))
    }

    pub(super) fn map(&self, name: &'static str) -> Result<&Map, DataPathError> {
        self.maps.get(name).ok_or(DataPathError::NoMap(name))
    }

    pub(super) fn map_mut(&mut self, name: &'static str) -> Result<&mut Map, DataPathError> {
        self.maps.get_mut(name).ok_or(DataPathError::NoMap(name))
    }
}

/// What a pinned map must look like to be taken over.
pub(super) fn layout(name: &str) -> String {
    let (kind, key, value, entries) = match name {
        map_name::GRANTS => (MapType::LruHash, size_of::<GrantKey>(), size_of::<GrantValue>(), 0),
        map_name::GRANT_HINTS => (MapType::Array, 4, size_of::<grant_hints::Row>(), grant_hints::ROWS),
        map_name::FLOWS => (MapType::Hash, size_of::<FlowKey>(), size_of::<FlowValue>(), 0),
        map_name::FLOWS_OPENED | map_name::FLOWS_CLOSED => (MapType::Hash, size_of::<GrantKey>(), size_of::<u64>(), 0),
        map_name::HOSTS => (MapType::Array, 4, size_of::<Bucket>(), hosts::BUCKETS),
        map_name::SETTINGS => (MapType::Array, 4, size_of::<Settings>(), 1),
        map_name::PORTS => (MapType::Array, 4, size_of::<PortRow>(), settings::PORT_ROWS),
        map_name::TAGS => (MapType::LruHash, 8, size_of::<u64>(), 0),
        map_name::SERVICES => (MapType::Array, 4, size_of::<ServiceRule>(), settings::SERVICE_ENTRIES),
        map_name::COUNTERS => (MapType::PerCpuArray, 4, size_of::<u64>(), COUNTER_ENTRIES),
        _prefixes => (MapType::LpmTrie, size_of::<u32>() + size_of::<Addr>(), size_of::<u32>(), 0),
    };
    shape(kind, key, value, entries)
}

/// The same of a map that is there.
pub(super) fn describe(info: &MapInfo) -> String {
    match info.map_type() {
        Ok(kind) => shape(kind, info.key_size() as usize, info.value_size() as usize, info.max_entries()),
        Err(error) => error.to_string(),
    }
}

/// Type and sizes. How many entries there are belongs to them where the number of an entry means something.
pub(super) fn shape(kind: MapType, key: usize, value: usize, entries: u32) -> String {
    let sizes = format!("{kind:?}, key {key}, value {value}");
    if matches!(kind, MapType::Array | MapType::PerCpuArray) { format!("{sizes}, {entries} entries") } else { sizes }
}

fn any_of(flags: &[(bool, u32)]) -> u32 {
    flags.iter().filter(|(is_set, _)| *is_set).fold(0, |flags, (_, flag)| flags | flag)
}

/// Something that does not fit is 0, which allows nothing.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(0)
}

/// The trie's key: IPv4 prefixes move behind the 96 bits of the mapped form.
fn key(prefix: &IpNet) -> Key<Addr> {
    match prefix.trunc() {
        IpNet::V4(v4) => Key::new(u32::from(v4.prefix_len()) + addr::V4_MAPPED_BITS, addr::from_v4(v4.addr().octets())),
        IpNet::V6(v6) => Key::new(u32::from(v6.prefix_len()), v6.addr().octets()),
    }
}

fn net(key: &Key<Addr>) -> IpNet {
    let (bits, data) = (key.prefix_len(), key.data());
    let address = IpAddr::from(data);
    let (address, bits) = match address.to_canonical() {
        IpAddr::V4(v4) if bits >= addr::V4_MAPPED_BITS => (IpAddr::V4(v4), bits - addr::V4_MAPPED_BITS),
        IpAddr::V4(_) | IpAddr::V6(_) => (address, bits),
    };
    IpNet::new_assert(address, u8::try_from(bits).unwrap_or(0))
}

pub(super) fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(nix::Error::ENOENT as i32) => {
            Ok(())
        }
        other => other,
    }
}
