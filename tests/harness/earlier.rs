//! The layouts before this one, as their controllers left them: the way back of an upgrade.

mod v1;
mod v2;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use aya::{
    Ebpf, Pod,
    maps::{Array, LpmTrie, Map, MapData},
    programs::{
        Xdp,
        links::{FdLink, PinnedLink},
        xdp::XdpLink,
    },
};
use jpat_common::{
    ABI_VERSION,
    addr::Addr,
    grant::ServiceId,
    map_name,
    settings::{PortRow, Protocol, port_index, port_row},
};

/// A layout that this version takes over from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// The first.
    V1,
    /// With flows.
    V2,
}

/// Where this version pins.
#[must_use]
pub fn now(pins: &Path) -> PathBuf {
    pins.join(format!("abi{ABI_VERSION}"))
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

impl Layout {
    /// Every layout.
    pub const ALL: [Self; 2] = [Self::V1, Self::V2];

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// Where it pinned.
    #[must_use]
    pub fn before(self, pins: &Path) -> PathBuf {
        pins.join(match self {
            Self::V1 => "v1",
            Self::V2 => "abi2",
        })
    }

    /// Its maps, in the order in which its controller pinned them.
    #[must_use]
    pub const fn maps(self) -> &'static [&'static str] {
        match self {
            Self::V1 => &v1::MAPS,
            Self::V2 => &v2::MAPS,
        }
    }

    /// Whether the kernel takes its program. In that of layout 1 its verifier must follow a loop closed by falling
    /// through, which 5.10 and 6.1 refuse, so that nobody has anything to upgrade there.
    ///
    /// # Errors
    /// If it does not.
    pub fn loads(self) -> Result<()> {
        let mut ebpf = match self {
            Self::V1 => v1::load(),
            Self::V2 => v2::load(),
        }?;
        let number = self.number();
        program(&mut ebpf)?.load().map_err(|_log| anyhow!("a kernel that takes the program of layout {number}"))
    }

    /// Puts its program in the place of this version's, with the same rules and grants, and leaves the pins as its
    /// controller left them. No controller may run. `ports` are those that are protected.
    ///
    /// # Errors
    /// If a map or a link is not as expected.
    pub fn go_back(self, pins: &Path, ports: &[(Protocol, u16)]) -> Result<()> {
        let (new, old) = (now(pins), self.before(pins));
        let mut earlier = Earlier::from(self, &new, ports)?;
        earlier.pin(&old)?;
        for link in links(&new)? {
            earlier.take(&link)?;
            fs::rename(&link, old.join(link.file_name().unwrap_or_default()))?;
        }
        fs::remove_dir_all(&new)?;
        Ok(())
    }
}

/// The program and the maps of a layout.
pub struct Earlier(Layout, Ebpf);

impl Earlier {
    /// Loads it, and fills its maps from those pinned in `new`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn from(layout: Layout, new: &Path, ports: &[(Protocol, u16)]) -> Result<Self> {
        let mut ebpf = match layout {
            Layout::V1 => v1::load_from(new, ports),
            Layout::V2 => v2::load_from(new, ports),
        }?;
        program(&mut ebpf)?.load()?;
        Ok(Self(layout, ebpf))
    }

    /// Pins the maps.
    ///
    /// # Errors
    /// If the bpffs refuses.
    pub fn pin(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir)?;
        for name in self.0.maps() {
            self.1.map(name).context(*name)?.pin(dir.join(name))?;
        }
        Ok(())
    }

    /// Puts the program behind a pinned link, in one step.
    ///
    /// # Errors
    /// If the link is dead.
    pub fn take(&mut self, link: &Path) -> Result<()> {
        let link = XdpLink::try_from(FdLink::from(PinnedLink::from_pin(link)?))?;
        program(&mut self.1)?.attach_to_link(link)?;
        Ok(())
    }
}

/// One service id of four bytes for each port, from this version's rows.
fn copy_ports(ebpf: &mut Ebpf, new: &Path, slot: u32, ports: &[(Protocol, u16)]) -> Result<()> {
    let held: Array<_, PortRow> = array(pinned(new, map_name::PORTS)?)?;
    let mut table: Array<_, ServiceId> = Array::try_from(map(ebpf, "PORTS")?)?;
    for (protocol, port) in ports {
        let index = port_index(slot, *protocol, *port);
        table.set(index, held.get(&port_row(index), 0)?.service(index), 0)?;
    }
    Ok(())
}

fn copy_prefixes(ebpf: &mut Ebpf, new: &Path, name: &str) -> Result<()> {
    let held: LpmTrie<_, Addr, u32> = LpmTrie::try_from(Map::LpmTrie(pinned(new, name)?))?;
    let mut copy: LpmTrie<_, Addr, u32> = LpmTrie::try_from(map(ebpf, name)?)?;
    for prefix in held.keys() {
        copy.insert(&prefix?, 1, 0)?;
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
