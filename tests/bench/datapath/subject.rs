//! JPAT's program and the ones it is compared with, over one map of grants.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, ProgramArray, RingBuf, lpm_trie::Key},
    programs::Xdp,
};
use jpat_common::{
    addr::{self, Addr},
    flow::{FlowKey, FlowValue},
    grant::{GrantKey, GrantValue, HEADROOM_PER_CPU},
    hosts::{Bucket, bucket_index},
    map_name,
    sealed::KnockKey,
};
use jpat_tests::{
    bpffs,
    knocks::{TagKey, WALL_OFFSET_NS},
    leftovers, rows,
    world::{GENERATION, WEB, World},
};
use jpat_userspace::{clock, datapath::object::OBJECT};

/// Which of the loaded programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Program {
    /// The one that all is about.
    Jpat,
    /// Returns `XDP_DROP`.
    BareDrop,
    /// Returns `XDP_PASS`.
    BarePass,
    /// Passes what has a grant, and does nothing else.
    BareLookup,
    /// Gives the packet a random source, then goes on to one of [`NEXT`].
    Vary,
    /// Sends the frame out of a device.
    Transmit,
}

/// Where [`Program::Vary`] can go on, by place.
const NEXT: [Program; 3] = [Program::BarePass, Program::BareLookup, Program::Jpat];

/// Both objects, loaded, over the tables of a [`World`].
pub(crate) struct Subject {
    /// Grants beside those of the world: the first addresses of 10.0.0.0/8.
    pub(crate) grants: u32,
    /// When its world began, nanoseconds of boot time. For knocks it is always this moment.
    pub(crate) begin_ns: u64,
    wall_clock: Mutex<Array<MapData, u64>>,
    tags: Mutex<HashMap<MapData, [u8; 8], u64>>,
    jpat: Ebpf,
    peers: Ebpf,
    /// The kernel empties it when its last descriptor goes.
    _next: ProgramArray<MapData>,
}

/// The key of a group whose budget allows nothing.
pub(crate) const SPENT: TagKey = TagKey { id: 0x5e17, secret: *b"the spent one's.", group: 9 };

/// Has no grant, but falls on the bit of one.
pub(crate) const MISLED: [u8; 4] = [203, 0, 113, 99];

impl Program {
    const PEERS: [Self; 5] = [Self::BareDrop, Self::BarePass, Self::BareLookup, Self::Vary, Self::Transmit];

    const fn name(self) -> &'static str {
        match self {
            Self::Jpat => map_name::PROGRAM,
            Self::BareDrop => "bare_drop",
            Self::BarePass => "bare_pass",
            Self::BareLookup => "bare_lookup",
            Self::Vary => "vary",
            Self::Transmit => "transmit",
        }
    }

    /// Its place among those that [`Self::Vary`] can go on to.
    pub(crate) fn place(self) -> Result<u8> {
        let place = NEXT.iter().position(|&next| next == self).with_context(|| format!("{self:?} is never varied"))?;
        Ok(u8::try_from(place)?)
    }
}

impl Subject {
    /// Loads both objects and fills in `world`, with this many grants beside its own.
    pub(crate) fn load(world: &World, grants: u32) -> Result<Self> {
        let cpus = aya::util::nr_cpus().map_err(|(_path, error)| error).context("count the CPUs")?;
        let capacity = grants.max(1 << 16) + HEADROOM_PER_CPU * u32::try_from(cpus)?;
        let mut loader = EbpfLoader::new();
        let mut jpat = loader.map_max_entries(map_name::GRANTS, capacity).load(OBJECT).context("load JPAT's object")?;
        let mut peers = load_peers(jpat.map(map_name::GRANTS).context("no map of grants")?)?;
        load(&mut jpat, Program::Jpat)?;
        for program in Program::PEERS {
            load(&mut peers, program)?;
        }
        let mut next = ProgramArray::try_from(peers.take_map("NEXT").context("no map NEXT")?)?;
        for program in NEXT {
            let of = if program == Program::Jpat { &jpat } else { &peers };
            let index = u32::from(program.place()?);
            next.set(index, find(of, program)?.fd()?, 0).with_context(|| format!("go on to {program:?}"))?;
        }
        let mut take = |name| jpat.take_map(name).with_context(|| format!("the object has no map {name}"));
        let wall_clock = Mutex::new(take(map_name::WALL_CLOCK)?.try_into()?);
        let tags = Mutex::new(take(map_name::TAGS)?.try_into()?);
        let mut subject = Self { grants, begin_ns: world.now_ns, wall_clock, tags, jpat, peers, _next: next };
        subject.fill(world)?;
        Ok(subject)
    }

    /// One of its programs.
    pub(crate) fn program(&self, program: Program) -> Result<&Xdp> {
        find(if program == Program::Jpat { &self.jpat } else { &self.peers }, program)
    }

    /// One of its programs, to attach it.
    pub(crate) fn program_mut(&mut self, program: Program) -> Result<&mut Xdp> {
        let of = if program == Program::Jpat { &mut self.jpat } else { &mut self.peers };
        Ok(of.program_mut(program.name()).with_context(|| format!("no program {}", program.name()))?.try_into()?)
    }

    /// Makes it the moment at which the world began, or the time of a knock would run out.
    pub(crate) fn stop_the_clock(&self) -> Result<()> {
        let elapsed_ns = clock::now().boot.0.saturating_sub(self.begin_ns);
        Ok(self.wall_clock.lock().unwrap_or_else(PoisonError::into_inner).set(0, WALL_OFFSET_NS - elapsed_ns, 0)?)
    }

    /// Forgets every tag.
    pub(crate) fn forget(&self) -> Result<()> {
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        let all = tags.keys().collect::<Result<Vec<_>, _>>()?;
        Ok(all.iter().try_for_each(|tag| tags.remove(tag))?)
    }

    /// Takes all records out of the rings.
    pub(crate) fn drain(&self) -> Result<usize> {
        let mut drained = 0;
        for name in [map_name::KNOCKS, map_name::BARE_KNOCKS] {
            let mut ring = RingBuf::try_from(self.jpat.map(name).context("no ring")?)?;
            drained += std::iter::from_fn(|| ring.next().map(drop)).count();
        }
        Ok(drained)
    }

    fn fill(&mut self, world: &World) -> Result<()> {
        self.write_array(map_name::SETTINGS, [(&0, &world.settings)])?;
        let ports = rows::ports(world.ports.iter().map(|(index, service)| (*index, *service)));
        self.write_array(map_name::PORTS, &ports)?;
        self.write_array(map_name::BUDGETS, &world.gate.budgets())?;
        let mut keys = HashMap::<_, [u8; 2], KnockKey>::try_from(self.map_mut(map_name::KNOCK_KEYS)?)?;
        let all = world.gate.keys.values().chain([&SPENT]);
        all.into_iter().try_for_each(|key| keys.insert(key.map_key(), key.entry(), 0))?;
        self.write_array(map_name::SERVICES, &world.rules)?;
        let mut hosts = Array::<_, Bucket>::try_from(self.map_mut(map_name::HOSTS)?)?;
        for host in &world.hosts {
            let mut bucket = hosts.get(&bucket_index(host), 0)?;
            ensure!(bucket.insert(host), "no room for {host:?}");
            hosts.set(bucket_index(host), bucket, 0)?;
        }
        self.write_prefixes(map_name::DESTINATIONS, &world.destinations)?;
        self.write_prefixes(map_name::ALWAYS_ALLOW, &world.always_allow)?;
        let mut flows = HashMap::<_, FlowKey, FlowValue>::try_from(self.map_mut(map_name::FLOWS)?)?;
        world.flows().iter().try_for_each(|(key, value)| flows.insert(key, value, 0))?;
        let value = GrantValue::new(world.now_ns + 3_600_000_000_000, GENERATION);
        let crowd = (0..self.grants).map(|number| (key((0x0a00_0000 | number).to_be_bytes()), value));
        let own = world.grants.iter().map(|(key, value)| (*key, *value));
        self.write_grants(own.chain(crowd))
    }

    fn write_grants(&mut self, grants: impl Iterator<Item = (GrantKey, GrantValue)>) -> Result<()> {
        let mut hinted = vec![key(MISLED)];
        let mut map = HashMap::<_, GrantKey, GrantValue>::try_from(self.map_mut(map_name::GRANTS)?)?;
        for (key, value) in grants {
            hinted.push(key);
            map.insert(key, value, 0)?;
        }
        self.write_array(map_name::GRANT_HINTS, &rows::hints(&hinted))
    }

    fn write_array<'a, V: Pod>(
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

    fn write_prefixes(&mut self, name: &str, prefixes: &[(Addr, u32)]) -> Result<()> {
        let mut trie = LpmTrie::<_, Addr, u32>::try_from(self.map_mut(name)?)?;
        for (prefix, bits) in prefixes {
            trie.insert(&Key::new(*bits, *prefix), 1, 0)?;
        }
        Ok(())
    }

    fn map_mut(&mut self, name: &str) -> Result<&mut Map> {
        self.jpat.map_mut(name).with_context(|| format!("the object has no map {name}"))
    }
}

/// Loads the programs to compare with over this map of grants, which is pinned for that moment.
fn load_peers(grants: &Map) -> Result<Ebpf> {
    let path = std::env::var_os("JPAT_BENCH_PEERS").context("JPAT_BENCH_PEERS is not set: run `cargo xtask bench`")?;
    let object = std::fs::read(&path).with_context(|| format!("read {}", PathBuf::from(path).display()))?;
    let directory = PathBuf::from(bpffs::MOUNT_POINT).join(leftovers::prefix(0));
    std::fs::create_dir_all(&directory)?;
    let pin = directory.join(map_name::GRANTS);
    grants.pin(&pin).context("pin the grants")?;
    let peers = EbpfLoader::new().map_pin_path(map_name::GRANTS, &pin).load(&object);
    leftovers::remove_tree(&directory)?;
    peers.context("load the programs to compare with")
}

/// Of a grant for the service `WEB`.
fn key(source: [u8; 4]) -> GrantKey {
    GrantKey::new(&addr::from_v4(source), &addr::mask(128), WEB)
}

fn load(ebpf: &mut Ebpf, program: Program) -> Result<()> {
    let name = program.name();
    let program: &mut Xdp = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
    program.load().with_context(|| format!("load {name}"))
}

fn find(ebpf: &Ebpf, program: Program) -> Result<&Xdp> {
    let name = program.name();
    Ok(ebpf.program(name).with_context(|| format!("no program {name}"))?.try_into()?)
}
