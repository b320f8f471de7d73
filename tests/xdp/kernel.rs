//! The object in the kernel, with a [`World`] in its maps.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow, ensure};
use aya::{
    Ebpf, Pod, TestRunOptions,
    maps::{Array, HashMap, LpmTrie, Map, MapData, PerCpuArray, RingBuf, lpm_trie::Key},
    programs::{ProgramInfo, TestRun, Xdp},
};
use jpat_common::{
    addr::Addr,
    flow::{FlowKey, FlowValue},
    grant::{GrantKey, GrantValue},
    hosts::{Bucket, bucket_index},
    map_name,
    sealed::{Budget, KnockKey},
    settings::Settings,
};
use jpat_tests::{knocks::TagKey, rows, world::World};
use jpat_userspace::datapath::object::OBJECT;

/// What this kernel has not got, and without which a test says nothing.
#[derive(Debug)]
pub(crate) struct Lacks(pub(crate) &'static str);

impl std::fmt::Display for Lacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Lacks {}

/// The loaded programs and their maps.
pub(crate) struct Kernel {
    ebpf: Ebpf,
}

impl Kernel {
    /// Loads the program for Ethernet and copies `world` into its maps.
    pub(crate) fn load(world: &World) -> Result<Self> {
        Self::load_programs(&[map_name::PROGRAM], world)
    }

    /// Loads these programs and copies `world` into their maps.
    pub(crate) fn load_programs(names: &[&str], world: &World) -> Result<Self> {
        let mut ebpf = Ebpf::load(OBJECT).context("load the object")?;
        for name in names {
            let program: &mut Xdp = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
            program.load().with_context(|| format!("the verifier, of {name}"))?;
        }
        let mut kernel = Self { ebpf };
        kernel.write_settings(&world.settings)?;
        let ports = rows::ports(world.ports.iter().map(|(index, service)| (*index, *service)));
        kernel.write_array(map_name::PORTS, &ports)?;
        kernel.write_array(map_name::SERVICES, &world.rules)?;
        kernel.write_hosts(&world.hosts)?;
        kernel.write_prefixes(map_name::DESTINATIONS, &world.destinations)?;
        kernel.write_prefixes(map_name::ALWAYS_ALLOW, &world.always_allow)?;
        for (key, value) in &world.grants {
            kernel.write_grant(key, value)?;
        }
        for key in world.gate.keys.values() {
            kernel.write_key(key)?;
        }
        kernel.write_array(map_name::BUDGETS, &world.gate.budgets())?;
        kernel.write_array(map_name::WALL_CLOCK, [(&0, &world.gate.wall_offset_ns.unwrap_or(0))])?;
        Ok(kernel)
    }

    /// Replaces the live settings.
    pub(crate) fn write_settings(&mut self, settings: &Settings) -> Result<()> {
        Array::<_, Settings>::try_from(self.map_mut(map_name::SETTINGS)?)?.set(0, settings, 0)?;
        Ok(())
    }

    /// Writes entries of an array.
    pub(crate) fn write_array<'a, V: Pod>(
        &mut self,
        name: &str,
        entries: impl IntoIterator<Item = (&'a u32, &'a V)>,
    ) -> Result<()> {
        let mut array = Array::<_, V>::try_from(self.map_mut(name)?)?;
        for (index, value) in entries {
            array.set(*index, value, 0)?;
        }
        Ok(())
    }

    /// Writes a grant.
    pub(crate) fn write_grant(&mut self, key: &GrantKey, value: &GrantValue) -> Result<()> {
        HashMap::<_, GrantKey, GrantValue>::try_from(self.map_mut(map_name::GRANTS)?)?.insert(key, value, 0)?;
        Ok(())
    }

    fn write_hosts(&mut self, hosts: &[Addr]) -> Result<()> {
        let mut map = Array::<_, Bucket>::try_from(self.map_mut(map_name::HOSTS)?)?;
        for host in hosts {
            let mut bucket = map.get(&bucket_index(host), 0)?;
            ensure!(bucket.insert(host), "no room for {host:?}");
            map.set(bucket_index(host), bucket, 0)?;
        }
        Ok(())
    }

    /// Writes a flow.
    pub(crate) fn write_flow(&mut self, key: &FlowKey, value: &FlowValue) -> Result<()> {
        HashMap::<_, FlowKey, FlowValue>::try_from(self.map_mut(map_name::FLOWS)?)?.insert(key, value, 0)?;
        Ok(())
    }

    /// Deletes every flow and its count.
    pub(crate) fn clear_flows(&mut self) -> Result<()> {
        for (key, _) in self.flows()? {
            HashMap::<_, FlowKey, FlowValue>::try_from(self.map_mut(map_name::FLOWS)?)?.remove(&key)?;
        }
        let mut opened = HashMap::<_, GrantKey, u64>::try_from(self.map_mut(map_name::FLOWS_OPENED)?)?;
        let keys = opened.keys().collect::<Result<Vec<_>, _>>()?;
        keys.iter().try_for_each(|key| opened.remove(key))?;
        Ok(())
    }

    /// Says how many of the flows of a grant are gone.
    pub(crate) fn write_flows_closed(&mut self, grant: &GrantKey, closed: u64) -> Result<()> {
        HashMap::<_, GrantKey, u64>::try_from(self.map_mut(map_name::FLOWS_CLOSED)?)?.insert(grant, closed, 0)?;
        Ok(())
    }

    /// Every flow.
    pub(crate) fn flows(&self) -> Result<BTreeMap<FlowKey, FlowValue>> {
        let flows = HashMap::<_, FlowKey, FlowValue>::try_from(self.map(map_name::FLOWS)?)?;
        Ok(flows.iter().collect::<Result<_, _>>()?)
    }

    /// How many flows were opened under a grant.
    pub(crate) fn flows_opened(&self, grant: &GrantKey) -> Result<u64> {
        let opened = HashMap::<_, GrantKey, u64>::try_from(self.map(map_name::FLOWS_OPENED)?)?;
        Ok(opened.get(grant, 0)?)
    }

    fn write_prefixes(&mut self, name: &str, prefixes: &[(Addr, u32)]) -> Result<()> {
        let mut trie = LpmTrie::<_, Addr, u32>::try_from(self.map_mut(name)?)?;
        for (prefix, bits) in prefixes {
            trie.insert(&Key::new(*bits, *prefix), 1, 0)?;
        }
        Ok(())
    }

    /// Runs the program on a frame (at least 14 bytes); its XDP action.
    pub(crate) fn run(&self, frame: &[u8]) -> Result<u32> {
        Ok(self.run_times(frame, 1)?.0)
    }

    /// Runs the program of this name on a frame (at least 14 bytes); its XDP action.
    pub(crate) fn run_program(&self, name: &str, frame: &[u8]) -> Result<u32> {
        Ok(self.run_program_times(name, frame, 1)?.0)
    }

    /// Runs it several times; the action, and nanoseconds per run.
    pub(crate) fn run_times(&self, frame: &[u8], repeat: u32) -> Result<(u32, u64)> {
        self.run_program_times(map_name::PROGRAM, frame, repeat)
    }

    fn run_program_times(&self, name: &str, frame: &[u8], repeat: u32) -> Result<(u32, u64)> {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        let result = self.program(name)?.test_run(options).with_context(|| format!("run {} bytes", frame.len()))?;
        Ok((result.return_value, u64::try_from(result.duration.as_nanos())?))
    }

    /// What the kernel knows of the program.
    pub(crate) fn program_info(&self, name: &str) -> Result<ProgramInfo> {
        Ok(self.program(name)?.info()?)
    }

    fn program(&self, name: &str) -> Result<&Xdp> {
        Ok(self.ebpf.program(name).context("no program of that name")?.try_into()?)
    }

    /// One counter, of all CPUs.
    pub(crate) fn counter(&self, index: u32) -> Result<u64> {
        Ok(self.counters()?.get(&index, 0)?.iter().sum())
    }

    /// All counters, of all CPUs.
    pub(crate) fn all_counters(&self) -> Result<u64> {
        self.counters()?.iter().try_fold(0, |sum, values| Ok(sum + values?.iter().sum::<u64>()))
    }

    fn counters(&self) -> Result<PerCpuArray<&MapData, u64>> {
        Ok(self.map(map_name::COUNTERS)?.try_into()?)
    }

    /// Adds a knock key.
    pub(crate) fn write_key(&mut self, key: &TagKey) -> Result<()> {
        let mut keys = HashMap::<_, [u8; 2], KnockKey>::try_from(self.map_mut(map_name::KNOCK_KEYS)?)?;
        Ok(keys.insert(key.map_key(), key.entry(), 0)?)
    }

    /// Removes a knock key.
    pub(crate) fn remove_key(&mut self, key: &TagKey) -> Result<()> {
        let mut keys = HashMap::<_, [u8; 2], KnockKey>::try_from(self.map_mut(map_name::KNOCK_KEYS)?)?;
        Ok(keys.remove(&key.map_key())?)
    }

    /// One budget.
    pub(crate) fn budget(&self, group: u32) -> Result<Budget> {
        Ok(Array::<_, Budget>::try_from(self.map(map_name::BUDGETS)?)?.get(&group, 0)?)
    }

    /// Every tag that is remembered.
    pub(crate) fn tags(&self) -> Result<BTreeSet<[u8; 8]>> {
        let tags = HashMap::<_, [u8; 8], u64>::try_from(self.map(map_name::TAGS)?)?;
        Ok(tags.keys().collect::<Result<_, _>>()?)
    }

    /// Takes all records out of both rings, those of bare knocks first.
    pub(crate) fn knocks(&mut self) -> Result<Vec<Vec<u8>>> {
        Ok([self.records(map_name::BARE_KNOCKS)?, self.records(map_name::KNOCKS)?].concat())
    }

    /// Takes all records out of a ring.
    pub(crate) fn records(&mut self, ring: &str) -> Result<Vec<Vec<u8>>> {
        let mut ring = RingBuf::try_from(self.map_mut(ring)?)?;
        let mut records = Vec::new();
        while let Some(record) = ring.next() {
            records.push(record.to_vec());
        }
        Ok(records)
    }

    /// A map of the object.
    pub(crate) fn map(&self, name: &str) -> Result<&Map> {
        self.ebpf.map(name).ok_or_else(|| anyhow!("the object has no map {name}"))
    }

    fn map_mut(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf.map_mut(name).ok_or_else(|| anyhow!("the object has no map {name}"))
    }

    /// Names of all maps of the object.
    pub(crate) fn map_names(&self) -> Vec<&str> {
        self.ebpf.maps().map(|(name, _)| name).collect()
    }
}

/// Fails with [`Lacks`] where the kernel takes no programs for frames of several buffers.
pub(crate) fn need_frags() -> Result<()> {
    if has_frags()? { Ok(()) } else { Err(Lacks("needs Linux 5.18: XDP over several buffers").into()) }
}

/// Whether the kernel takes programs for frames of several buffers (since 5.18).
pub(crate) fn has_frags() -> Result<bool> {
    Ok(aya::util::KernelVersion::current()? >= aya::util::KernelVersion::new(5, 18, 0))
}

/// `CLOCK_BOOTTIME` in nanoseconds, as the program reads it.
pub(crate) fn boot_ns() -> Result<u64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)?;
    Ok(u64::try_from(now.tv_sec())? * 1_000_000_000 + u64::try_from(now.tv_nsec())?)
}

/// A world at the present time.
pub(crate) fn world() -> Result<World> {
    let now_ns = boot_ns()?;
    ensure!(now_ns > 2_000_000_000, "the machine has just started");
    Ok(World::new(now_ns))
}
