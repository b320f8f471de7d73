//! The layout before this one, as its controller left it: the way back of an upgrade.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapInfo, PerCpuArray, PerCpuValues, lpm_trie::Key},
    programs::{
        Xdp,
        links::{FdLink, PinnedLink},
        xdp::XdpLink,
    },
};
use jpat_common::{
    ABI_VERSION,
    addr::Addr,
    grant::{GrantKey, GrantValue, ServiceId},
    hosts::Bucket,
    map_name,
    reason::counter_index,
    settings::{Protocol, port_index, service_index},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../vectors/v1/jpat.bpf.o");

/// Its maps, in the order in which its controller pinned them.
pub const MAPS: [&str; 7] = ["GRANTS", "SETTINGS", "PORTS", "SERVICES", "DESTINATIONS", "ALWAYS_ALLOW", "COUNTERS"];

/// `FLAG_*` bits that it knows.
const FLAGS: u32 = 0b111;
/// Slots of counters for each service.
const REASONS: u32 = 160;
/// Services that are looked at.
const SERVICES: u32 = 8;

/// Where this version pins.
#[must_use]
pub fn now(pins: &Path) -> PathBuf {
    pins.join(format!("abi{ABI_VERSION}"))
}

/// Where layout 1 pinned.
#[must_use]
pub fn before(pins: &Path) -> PathBuf {
    pins.join("v1")
}

/// Paths of the pinned links in a directory.
///
/// # Errors
/// If it cannot be read.
pub fn links(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("link-")));
    paths.sort();
    Ok(paths)
}

/// Whether the kernel takes the program of layout 1. Its verifier must follow a loop closed by falling through, which
/// 5.10 and 6.1 refuse, so that nobody has anything to upgrade there.
///
/// # Errors
/// If it does not.
pub fn loads() -> Result<()> {
    let mut ebpf = EbpfLoader::new().load(OBJECT)?;
    program(&mut ebpf)?.load().map_err(|_log| anyhow!("a kernel that takes the program of layout 1"))
}

/// Puts the program of layout 1 in the place of this version's, with the same rules and grants, and leaves the pins as
/// its controller left them. No controller may run. `ports` are those that are protected.
///
/// # Errors
/// If a map or a link is not as expected.
pub fn go_back(pins: &Path, ports: &[(Protocol, u16)]) -> Result<()> {
    let (new, old) = (now(pins), before(pins));
    let mut earlier = Earlier::from(&new, ports)?;
    earlier.pin(&old)?;
    for link in links(&new)? {
        earlier.take(&link)?;
        fs::rename(&link, old.join(link.file_name().unwrap_or_default()))?;
    }
    fs::remove_dir_all(&new)?;
    Ok(())
}

/// Its program and maps.
pub struct Earlier(Ebpf);

impl Earlier {
    /// Loads it, and fills its maps from those pinned in `new`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn from(new: &Path, ports: &[(Protocol, u16)]) -> Result<Self> {
        let entries = MapInfo::from_pin(new.join(map_name::GRANTS))?.max_entries();
        let mut ebpf = EbpfLoader::new().map_max_entries("GRANTS", entries).load(OBJECT)?;
        copy_rules(&mut ebpf, new, ports)?;
        copy_counters(&mut ebpf, new)?;
        let grants: HashMap<_, GrantKey, GrantValue> =
            HashMap::try_from(Map::LruHashMap(pinned(new, map_name::GRANTS)?))?;
        let mut copy: HashMap<_, GrantKey, GrantValue> = HashMap::try_from(map(&mut ebpf, "GRANTS")?)?;
        for grant in grants.iter() {
            let (key, value) = grant?;
            copy.insert(key, value, 0)?;
        }
        program(&mut ebpf)?.load()?;
        Ok(Self(ebpf))
    }

    /// Pins the maps.
    ///
    /// # Errors
    /// If the bpffs refuses.
    pub fn pin(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir)?;
        for name in MAPS {
            self.0.map(name).context(name)?.pin(dir.join(name))?;
        }
        Ok(())
    }

    /// Puts the program behind a pinned link, in one step.
    ///
    /// # Errors
    /// If the link is dead.
    pub fn take(&mut self, link: &Path) -> Result<()> {
        let link = XdpLink::try_from(FdLink::from(PinnedLink::from_pin(link)?))?;
        program(&mut self.0)?.attach_to_link(link)?;
        Ok(())
    }
}

fn copy_rules(ebpf: &mut Ebpf, new: &Path, ports: &[(Protocol, u16)]) -> Result<()> {
    // In words: the cap in two, then mode, slot, generation, flags, the knock port, one that was reserved.
    let mut words: [u32; 8] = array(pinned(new, map_name::SETTINGS)?)?.get(&0, 0)?;
    let slot = words[3];
    (words[5], words[7]) = (words[5] & FLAGS, 0);
    Array::<_, [u32; 8]>::try_from(map(ebpf, "SETTINGS")?)?.set(0, words, 0)?;

    let held: Array<_, ServiceId> = array(pinned(new, map_name::PORTS)?)?;
    let mut table: Array<_, ServiceId> = Array::try_from(map(ebpf, "PORTS")?)?;
    for (protocol, port) in ports {
        let index = port_index(slot, *protocol, *port);
        table.set(index, held.get(&index, 0)?, 0)?;
    }
    // Masks in four words; flags, and what came after them, were zero.
    let held: Array<_, [u64; 7]> = array(pinned(new, map_name::SERVICES)?)?;
    let mut table: Array<_, [u64; 5]> = Array::try_from(map(ebpf, "SERVICES")?)?;
    for index in (1..SERVICES).map(|service| service_index(slot, service)) {
        let [a, b, c, d, ..] = held.get(&index, 0)?;
        table.set(index, [a, b, c, d, 0], 0)?;
    }
    let hosts: Array<_, Bucket> = array(pinned(new, map_name::HOSTS)?)?;
    let mut judged: LpmTrie<_, Addr, u32> = LpmTrie::try_from(map(ebpf, "DESTINATIONS")?)?;
    for bucket in hosts.iter() {
        for host in bucket?.addresses() {
            judged.insert(&Key::new(128, *host), 1, 0)?;
        }
    }
    copy_prefixes(ebpf, new, map_name::DESTINATIONS)?;
    copy_prefixes(ebpf, new, map_name::ALWAYS_ALLOW)
}

fn copy_prefixes(ebpf: &mut Ebpf, new: &Path, name: &str) -> Result<()> {
    let held: LpmTrie<_, Addr, u32> = LpmTrie::try_from(Map::LpmTrie(pinned(new, name)?))?;
    let mut copy: LpmTrie<_, Addr, u32> = LpmTrie::try_from(map(ebpf, name)?)?;
    for prefix in held.keys() {
        copy.insert(&prefix?, 1, 0)?;
    }
    Ok(())
}

fn copy_counters(ebpf: &mut Ebpf, new: &Path) -> Result<()> {
    let held: PerCpuArray<_, u64> = PerCpuArray::try_from(Map::PerCpuArray(pinned(new, map_name::COUNTERS)?))?;
    let mut copy: PerCpuArray<_, u64> = PerCpuArray::try_from(map(ebpf, "COUNTERS")?)?;
    for index in 0..counter_index(SERVICES, 0).min(SERVICES * REASONS) {
        let values: PerCpuValues<u64> = held.get(&index, 0)?;
        if values.iter().any(|packets| *packets > 0) {
            copy.set(index, values, 0)?;
        }
    }
    Ok(())
}

fn array<V: Pod>(data: MapData) -> Result<Array<MapData, V>> {
    Array::try_from(Map::Array(data)).context("an array")
}

fn pinned(dir: &Path, name: &str) -> Result<MapData> {
    MapData::from_pin(dir.join(name)).with_context(|| format!("open {name} in {}", dir.display()))
}

fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Map> {
    ebpf.map_mut(name).with_context(|| format!("the object has no {name}"))
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    Ok(ebpf.program_mut("jpat").context("the object has no program")?.try_into()?)
}
