//! The kernel side as the controller sees it: load or adopt the program, fill its tables, attach, pin, detach.
//!
//! Nothing here decides; requests are plain data. Link and maps are pinned, so that whatever happens to this
//! process leaves enforcement in place; only [`detach`] or an unconfirmed trial takes it away.

pub mod addresses;
pub mod attach;
pub mod attacher;
pub mod counters;
pub mod error;
pub mod exposure;
pub mod filter;
pub mod flows;
pub mod interfaces;
pub mod ipsec;
mod migrate;
mod netlink;
pub mod object;
pub mod pins;
pub mod ring;
pub mod sock_diag;
pub mod tables;

use aya::EbpfLoader;
use jpat_common::map_name;

use self::{
    attach::Attached,
    attacher::{Answer, Attacher, Earlier, Order, Refused},
    error::DataPathError,
    filter::Filter,
    interfaces::Target,
    migrate::{Heritage, InForce},
    pins::PinDir,
    ring::Rings,
    tables::Tables,
};
use crate::config::AttachMode;

/// What to open.
#[derive(Clone, Debug)]
pub struct Request {
    /// Directory on a bpffs.
    pub pins: std::path::PathBuf,
    /// Entries of the grant map, where it is made anew.
    pub grants: u32,
    /// Entries of the flow map, and of the two that count its flows for each grant, where they are made anew.
    pub flows: u32,
}

/// The maps whose capacities a request says.
const FLOW_MAPS: [&str; 3] = [map_name::FLOWS, map_name::FLOWS_OPENED, map_name::FLOWS_CLOSED];

/// The loaded program with its maps and links.
pub struct DataPath {
    attacher: Attacher,
    pins: PinDir,
    tables: Tables,
    rings: Option<Rings>,
    filter: Filter,
    origin: Origin,
    capacity: u32,
    flow_capacity: u32,
}

/// Where the maps are from.
enum Origin {
    /// They are empty.
    New,
    /// They are pinned, and programs of an earlier controller may be at work on them.
    Pinned,
    /// They hold what an older layout left. Its program is at work on those that look the same in both.
    Older(Heritage),
}

impl DataPath {
    /// Loads the program, over the pinned maps of an earlier controller where there are some. Maps of an older layout are
    /// copied. What is at work on the devices stays as it is.
    ///
    /// # Errors
    /// No bpffs, pins of a layout that cannot be taken over, a missing privilege, or a program that the kernel refuses.
    pub fn open(request: &Request) -> Result<Self, DataPathError> {
        let mut pins = PinDir::new(&request.pins)?;
        let origin = match migrate::in_force(&pins)? {
            InForce::Own { older } => {
                pins.set_older(older);
                Origin::Pinned
            }
            InForce::Older(heritage) => {
                pins.discard()?;
                pins.set_older(Some(heritage.dir.clone()));
                Origin::Older(heritage)
            }
            InForce::Nobody if pins.is_partial() => {
                pins.discard()?;
                Origin::New
            }
            InForce::Nobody if pins.has_maps() => Origin::Pinned,
            InForce::Nobody => Origin::New,
        };
        let mut loader = EbpfLoader::new();
        let paths: Vec<_> = map_name::PINNED.iter().map(|name| (*name, pins.map(name))).collect();
        let (capacity, flow_capacity) = match &origin {
            Origin::New => (request.grants, request.flows),
            Origin::Pinned => {
                pins.check_layout()?;
                for (name, path) in &paths {
                    loader.map_pin_path(name, path);
                }
                (pins.capacity(map_name::GRANTS)?, pins.capacity(map_name::FLOWS)?)
            }
            Origin::Older(heritage) => {
                for (name, path) in heritage.kept() {
                    loader.map_pin_path(name, path);
                }
                (heritage.capacity, heritage.flow_capacity.unwrap_or(request.flows))
            }
        };
        loader.map_max_entries(map_name::GRANTS, capacity);
        for name in FLOW_MAPS {
            loader.map_max_entries(name, flow_capacity);
        }
        let mut ebpf = loader.load(object::OBJECT).map_err(DataPathError::load)?;
        let rings = Rings::new(&mut ebpf)?;
        let filter = Filter::new(&mut ebpf)?;
        let mut tables = Tables::new(&mut ebpf)?;
        if let Origin::Older(heritage) = &origin {
            heritage.fill(&mut tables)?;
            tables.finish_hints()?;
        }
        let attacher = Attacher::new(ebpf, pins.clone())?;
        Ok(Self { attacher, pins, tables, rings: Some(rings), filter, origin, capacity, flow_capacity })
    }

    /// Whether an earlier controller's maps are in use, or what was in them.
    #[must_use]
    pub const fn adopted(&self) -> bool {
        !matches!(self.origin, Origin::New)
    }

    /// Whether the maps are those that an earlier controller's programs may be at work on.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self.origin, Origin::Pinned)
    }

    /// The older layout whose state was taken over, if any.
    #[must_use]
    pub const fn migrated_from(&self) -> Option<u32> {
        match &self.origin {
            Origin::Older(heritage) => Some(heritage.number),
            Origin::New | Origin::Pinned => None,
        }
    }

    /// Entries of the grant map: those of the pinned one, whatever was asked for.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Entries of the flow map: those of the pinned one, whatever was asked for.
    #[must_use]
    pub const fn flow_capacity(&self) -> u32 {
        self.flow_capacity
    }

    /// The maps.
    #[must_use]
    pub const fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The maps, for writing.
    pub const fn tables_mut(&mut self) -> &mut Tables {
        &mut self.tables
    }

    /// The maps of flows, to be read by another thread.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn flow_reader(&self) -> Result<flows::FlowReader, DataPathError> {
        self.tables.flow_reader(self.flow_capacity)
    }

    /// The knock rings; `None` after the first call.
    pub const fn take_rings(&mut self) -> Option<Rings> {
        self.rings.take()
    }

    /// What knocks must be to reach the rings, for writing.
    pub const fn filter_mut(&mut self) -> &mut Filter {
        &mut self.filter
    }

    /// What is attached, and how.
    pub fn attached(&self) -> impl Iterator<Item = &Attached> {
        self.attacher.attached()
    }

    /// Has the attacher do something.
    ///
    /// # Errors
    /// Why it did not.
    pub fn order(&mut self, order: &Order) -> Result<Answer, Refused> {
        self.attacher.handle(order)
    }

    /// What this kernel does without, and what that means.
    #[must_use]
    pub fn degraded(&self) -> Vec<String> {
        self.attacher.degraded()
    }

    /// The program's log lines: one for every packet.
    ///
    /// # Errors
    /// An object without them.
    #[cfg(feature = "debug-log")]
    pub fn log(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>, aya_log::Error> {
        aya_log::EbpfLogger::init(self.attacher.ebpf())
    }

    /// Puts the program on the interfaces where no earlier controller's is, until [`Self::pin`] for the life of this process.
    ///
    /// # Errors
    /// No such interface, another XDP program on it, or a hook that cannot be had. What was attached goes with this value.
    pub fn attach_new(&mut self, targets: &[Target], mode: AttachMode) -> Result<(), DataPathError> {
        self.attach(targets, mode, Earlier::Leave)
    }

    /// Switches the pinned links of an earlier controller over to this program, each in one step. Where such a link is
    /// dead, the program is attached anew.
    ///
    /// # Errors
    /// As [`Self::attach_new`]; or pins of another network namespace.
    pub fn adopt(&mut self, targets: &[Target], mode: AttachMode) -> Result<(), DataPathError> {
        self.attach(targets, mode, Earlier::TakeOver)
    }

    fn attach(&mut self, targets: &[Target], mode: AttachMode, earlier: Earlier) -> Result<(), DataPathError> {
        for target in targets {
            if !self.attached().any(|attached| attached.ifindex == target.ifindex) {
                self.order(&Order::Attach { target: target.clone(), mode, earlier, pin: false })?;
            }
        }
        Ok(())
    }

    /// Takes the pinned links of an older layout over, after its counters. Until [`Self::adopt`] its program stays at work
    /// behind them. Nothing happens where there is none.
    ///
    /// # Errors
    /// The bpffs refuses. The older layout is in force as before, unless one of its links was taken over: then the next
    /// start goes on from there.
    pub fn take_over(&mut self) -> Result<(), DataPathError> {
        if let Origin::Older(heritage) = &self.origin {
            heritage.fill_counters(&mut self.tables)?;
            self.pin_maps()?;
        }
        self.pins.take_over()
    }

    /// Pins maps and links that are not pinned yet: from here on the death of this process changes nothing.
    ///
    /// # Errors
    /// The bpffs refuses; what was pinned up to there stays pinned.
    pub fn pin(&mut self) -> Result<(), DataPathError> {
        self.pin_maps()?;
        self.order(&Order::Pin)?;
        Ok(())
    }

    fn pin_maps(&mut self) -> Result<(), DataPathError> {
        self.tables.pin(&self.pins)?;
        self.origin = Origin::Pinned;
        Ok(())
    }

    /// Removes what older layouts left that is not in use any more.
    ///
    /// # Errors
    /// A pin that cannot be removed.
    pub fn remove_older(&self) -> Result<(), DataPathError> {
        self.pins.remove_older()
    }

    /// Takes back what this process pinned, where nothing was in force before it.
    ///
    /// # Errors
    /// A pin that cannot be removed.
    pub fn unpin(&self) -> Result<pins::Removed, DataPathError> {
        self.pins.discard()
    }

    /// Whether every map and link is pinned.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.attacher.is_pinned() && map_name::PINNED.iter().all(|name| self.pins.map(name).exists())
    }

    /// Takes away pinned links to interfaces that are not attached now (they left the configuration).
    ///
    /// # Errors
    /// A pin that cannot be removed.
    pub fn drop_stale_links(&mut self) -> Result<Vec<u32>, DataPathError> {
        match self.order(&Order::ReleaseOthers)? {
            Answer::Released(released) => Ok(released),
            Answer::Attached(_) | Answer::Left | Answer::Pinned => Ok(Vec::new()),
        }
    }
}

/// Takes enforcement away: unlinks every pin of this instance, links first.
///
/// # Errors
/// A pin that cannot be removed; the others were removed all the same.
pub fn detach(pins: &std::path::Path) -> Result<pins::Removed, DataPathError> {
    PinDir::new(pins)?.remove()
}

/// As [`detach`], but the directory stays, whose lock the caller holds.
///
/// # Errors
/// As [`detach`].
pub fn clear(pins: &std::path::Path) -> Result<pins::Removed, DataPathError> {
    PinDir::new(pins)?.clear()
}
