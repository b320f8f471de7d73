//! The shipped object in the kernel, with a [`Stage`] in its maps.

pub(super) mod encode;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, Pod, TestRunOptions,
    maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, RingBuf, lpm_trie::Key},
    programs::{TestRun, Xdp},
};
use jpat_common::{
    addr::Addr,
    flow::{FlowKey, FlowValue},
    grant::{GrantKey, GrantValue},
    hints,
    hosts::{BUCKETS, Bucket, bucket_index},
    map_name,
    reason::{SLOTS, counter_index},
    sealed::{Budget, KnockKey},
    settings::{PortRow, Protocol, ServiceRule, Settings, port_index, service_index},
};
use jpat_tests::rows;
use jpat_userspace::datapath::object::OBJECT;

use super::{
    model::{
        gate::Gate,
        tables::{Flow, FlowId, Prefix},
    },
    run::RINGS,
    stage::{self, FREE_PORT, Program, Stage},
};
use crate::kernel::has_frags;
use encode::{flow_key, flow_value, grant_key, key_bits, mapped, protocol, rule, settings};

/// The programs of the object and the maps that they share.
pub(crate) struct Loaded {
    ebpf: Ebpf,
    counters: PerCpuArray<MapData, u64>,
    flows: HashMap<MapData, FlowKey, FlowValue>,
    opened: HashMap<MapData, GrantKey, u64>,
    closed: HashMap<MapData, GrantKey, u64>,
    grants: HashMap<MapData, GrantKey, GrantValue>,
    settings: Array<MapData, Settings>,
    ports: Array<MapData, PortRow>,
    services: Array<MapData, ServiceRule>,
    bare_ring: RingBuf<MapData>,
    ring: RingBuf<MapData>,
    keys: HashMap<MapData, [u8; 2], KnockKey>,
    budgets: Array<MapData, Budget>,
    wall_clock: Array<MapData, u64>,
    tags: HashMap<MapData, [u8; 8], u64>,
    hosts: Array<MapData, Bucket>,
    hints: Array<MapData, hints::Row>,
    /// Rows of the hints that are not zero.
    hinted: BTreeMap<u32, hints::Row>,
    destinations: LpmTrie<MapData, Addr, u32>,
    always_allow: LpmTrie<MapData, Addr, u32>,
}

impl Loaded {
    /// Loads the object with room for as many flows as a stage has.
    pub(crate) fn load() -> Result<Self> {
        let capacity = u32::try_from(stage::flow_capacity())?;
        let [bare, sealed] = RINGS;
        let mut loader = EbpfLoader::new();
        loader.map_max_entries(map_name::FLOWS, capacity);
        loader.map_max_entries(map_name::BARE_KNOCKS, bare).map_max_entries(map_name::KNOCKS, sealed);
        let mut ebpf = loader.load(OBJECT).context("load the object")?;
        for name in [map_name::PROGRAM, map_name::PROGRAM_FRAGS, map_name::PROGRAM_L3] {
            if name != map_name::PROGRAM_FRAGS || has_frags()? {
                let program: &mut Xdp = ebpf.program_mut(name).context("no program of that name")?.try_into()?;
                program.load().with_context(|| format!("the verifier, of {name}"))?;
            }
        }
        let mut take = |name| ebpf.take_map(name).with_context(|| format!("the object has no map {name}"));
        Ok(Self {
            ports: take(map_name::PORTS)?.try_into()?,
            services: take(map_name::SERVICES)?.try_into()?,
            counters: take(map_name::COUNTERS)?.try_into()?,
            flows: take(map_name::FLOWS)?.try_into()?,
            opened: take(map_name::FLOWS_OPENED)?.try_into()?,
            closed: take(map_name::FLOWS_CLOSED)?.try_into()?,
            grants: take(map_name::GRANTS)?.try_into()?,
            settings: take(map_name::SETTINGS)?.try_into()?,
            bare_ring: take(map_name::BARE_KNOCKS)?.try_into()?,
            ring: take(map_name::KNOCKS)?.try_into()?,
            keys: take(map_name::KNOCK_KEYS)?.try_into()?,
            budgets: take(map_name::BUDGETS)?.try_into()?,
            wall_clock: take(map_name::WALL_CLOCK)?.try_into()?,
            tags: take(map_name::TAGS)?.try_into()?,
            hosts: take(map_name::HOSTS)?.try_into()?,
            hints: take(map_name::GRANT_HINTS)?.try_into()?,
            hinted: BTreeMap::new(),
            destinations: take(map_name::DESTINATIONS)?.try_into()?,
            always_allow: take(map_name::ALWAYS_ALLOW)?.try_into()?,
            ebpf,
        })
    }

    /// Puts `stage` into the maps, in place of whatever is there.
    pub(crate) fn set(&mut self, stage: &Stage) -> Result<()> {
        let tables = &stage.tables;
        self.settings.set(0, settings(stage), 0)?;
        self.set_rules(stage)?;
        let prefixes = tables.destinations.clone().unwrap_or_default();
        let (hosts, wide): (Vec<Prefix>, Vec<Prefix>) =
            prefixes.into_iter().partition(|prefix| key_bits(prefix) == 128);
        let mut buckets = vec![Bucket::default(); BUCKETS as usize];
        for host in hosts.iter().map(|host| mapped(host.address)) {
            ensure!(buckets[bucket_index(&host) as usize].insert(&host), "no room for {host:?}");
        }
        for (index, bucket) in (0..).zip(&buckets) {
            self.hosts.set(index, bucket, 0)?;
        }
        fill_prefixes(&mut self.destinations, &wide)?;
        fill_prefixes(&mut self.always_allow, &tables.always_allow)?;
        let grants =
            tables.grants.iter().map(|(id, grant)| (grant_key(id), GrantValue::new(grant.end_ns, grant.generation)));
        let grants = grants.collect();
        self.set_hints(&grants)?;
        fill(&mut self.grants, &grants)?;
        fill(&mut self.opened, &tables.opened.iter().map(|(id, count)| (grant_key(id), *count)).collect())?;
        fill(&mut self.closed, &tables.closed.iter().map(|(id, count)| (grant_key(id), *count)).collect())?;
        fill(&mut self.flows, &tables.flows.iter().map(|(id, flow)| (flow_key(id), flow_value(flow))).collect())?;
        while self.ring.next().is_some() {}
        while self.bare_ring.next().is_some() {}
        self.set_gate(&tables.gate)
    }

    fn set_gate(&mut self, gate: &Gate) -> Result<()> {
        let keys = gate.keys.iter().map(|(id, key)| (id.to_be_bytes(), encode::key(key)));
        fill(&mut self.keys, &keys.collect())?;
        for (group, budget) in &gate.budgets {
            self.budgets.set(*group, encode::budget(budget), 0)?;
        }
        self.wall_clock.set(0, gate.wall_offset_ns.unwrap_or(0), 0)?;
        fill(&mut self.tags, &BTreeMap::new())?;
        Ok(())
    }

    fn set_hints(&mut self, grants: &BTreeMap<GrantKey, GrantValue>) -> Result<()> {
        let wanted = rows::hints(grants.keys());
        for row in self.hinted.keys().filter(|row| !wanted.contains_key(row)) {
            self.hints.set(*row, [0; 128], 0)?;
        }
        wanted.iter().try_for_each(|(row, bits)| self.hints.set(*row, bits, 0))?;
        self.hinted = wanted;
        Ok(())
    }

    /// The rules of the stage in its slot, and in the idle one the opposite.
    fn set_rules(&mut self, stage: &Stage) -> Result<()> {
        let (slot, idle) = (stage.slot, stage.slot ^ 1);
        let any = *stage.tables.services.keys().next().context("no services")?;
        let mut entries = BTreeMap::new();
        for ((transport, port), service) in &stage.tables.ports {
            entries.insert(port_index(slot, protocol(*transport), *port), *service);
            entries.insert(port_index(idle, protocol(*transport), *port), 0);
        }
        for transport in [Protocol::Tcp, Protocol::Udp] {
            entries.insert(port_index(slot, transport, FREE_PORT), 0);
            entries.insert(port_index(idle, transport, FREE_PORT), any);
        }
        // The rows are the same for every stage but for the slot.
        for (row, ports) in rows::ports(entries) {
            self.ports.set(row, ports, 0)?;
        }
        for (number, service) in &stage.tables.services {
            self.services.set(service_index(slot, *number), rule(service), 0)?;
            self.services.set(service_index(idle, *number), ServiceRule::default(), 0)?;
        }
        Ok(())
    }

    /// Runs one frame; its XDP action.
    pub(crate) fn run(&self, program: Program, frame: &[u8]) -> Result<u32> {
        let name = match program {
            Program::Ethernet => map_name::PROGRAM,
            Program::Frags => map_name::PROGRAM_FRAGS,
            Program::Ip => map_name::PROGRAM_L3,
        };
        let program: &Xdp = self.ebpf.program(name).context("no program of that name")?.try_into()?;
        let options = TestRunOptions { data_in: Some(frame), repeat: 1, ..TestRunOptions::new() };
        Ok(program.test_run(options).with_context(|| format!("run {} bytes", frame.len()))?.return_value)
    }

    /// One counter.
    pub(crate) fn counter(&self, index: u32) -> Result<u64> {
        Ok(self.counters.get(&index, 0)?.iter().sum())
    }

    /// Every counter of these services that is not zero, by index.
    pub(crate) fn counters(&self, services: &[u32]) -> Result<BTreeMap<u32, u64>> {
        let indices = services.iter().flat_map(|service| (0..SLOTS).map(|slot| counter_index(*service, slot)));
        let all = indices.map(|index| Ok((index, self.counter(index)?))).collect::<Result<Vec<_>>>()?;
        Ok(all.into_iter().filter(|(_, count)| *count != 0).collect())
    }

    /// The flow of `id`.
    pub(crate) fn flow(&self, id: &FlowId) -> Result<Option<FlowValue>> {
        found(self.flows.get(&flow_key(id), 0))
    }

    /// Puts the flow of `id` back, or removes it.
    pub(crate) fn put_flow(&mut self, id: &FlowId, flow: Option<&Flow>) -> Result<()> {
        match flow {
            Some(flow) => self.flows.insert(flow_key(id), flow_value(flow), 0)?,
            None if self.flow(id)?.is_some() => self.flows.remove(&flow_key(id))?,
            None => {}
        }
        Ok(())
    }

    /// Every flow, and how many were opened under each grant.
    pub(crate) fn state(&self) -> Result<(BTreeMap<FlowKey, FlowValue>, BTreeMap<GrantKey, u64>)> {
        Ok((self.flows.iter().collect::<Result<_, _>>()?, self.opened.iter().collect::<Result<_, _>>()?))
    }

    /// Every tag that is remembered.
    pub(crate) fn tags(&self) -> Result<BTreeSet<[u8; 8]>> {
        Ok(self.tags.keys().collect::<Result<_, _>>()?)
    }

    /// Until when a budget is taken up, in nanoseconds of boot time.
    pub(crate) fn budget(&self, group: u32) -> Result<u64> {
        Ok(self.budgets.get(&group, 0)?.next_ns)
    }

    /// Takes the next record out of the ring of sealed knocks, or out of that of bare ones.
    pub(crate) fn knock(&mut self, is_sealed: bool) -> Option<Vec<u8>> {
        let ring = if is_sealed { &mut self.ring } else { &mut self.bare_ring };
        ring.next().map(|record| record.to_vec())
    }
}

fn found<T>(result: Result<T, aya::maps::MapError>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(aya::maps::MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes a map hold these entries and no others.
fn fill<K: Pod + Ord, V: Pod + PartialEq>(map: &mut HashMap<MapData, K, V>, entries: &BTreeMap<K, V>) -> Result<()> {
    let present = map.keys().collect::<Result<Vec<_>, _>>()?;
    for key in present.iter().filter(|key| !entries.contains_key(key)) {
        map.remove(key)?;
    }
    entries.iter().try_for_each(|(key, value)| map.insert(key, value, 0))?;
    Ok(())
}

fn fill_prefixes<'a>(
    trie: &mut LpmTrie<MapData, Addr, u32>,
    prefixes: impl IntoIterator<Item = &'a Prefix>,
) -> Result<()> {
    let present = trie.keys().collect::<Result<Vec<_>, _>>()?;
    present.iter().try_for_each(|key| trie.remove(key))?;
    for prefix in prefixes {
        trie.insert(&Key::new(key_bits(prefix), mapped(prefix.address)), 1, 0)?;
    }
    Ok(())
}
