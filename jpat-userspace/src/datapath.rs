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
pub mod flows;
pub mod interfaces;
pub mod ipsec;
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
    interfaces::Target,
    pins::PinDir,
    ring::Ring,
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
    ring: Option<Ring>,
    adopted: bool,
    capacity: u32,
    flow_capacity: u32,
}

impl DataPath {
    /// Loads the program, over the pinned maps of an earlier controller where there are some.
    ///
    /// # Errors
    /// No bpffs, pins of another layout, a missing privilege, or a program that the kernel refuses.
    pub fn open(request: &Request) -> Result<Self, DataPathError> {
        let pins = PinDir::new(&request.pins)?;
        if pins.is_partial() {
            pins.clear()?;
        }
        let adopted = pins.has_maps();
        let mut loader = EbpfLoader::new();
        let paths: Vec<_> = map_name::PINNED.iter().map(|name| (*name, pins.map(name))).collect();
        if adopted {
            pins.check_layout()?;
            for (name, path) in &paths {
                loader.map_pin_path(name, path);
            }
        }
        let capacity = if adopted { pins.capacity(map_name::GRANTS)? } else { request.grants };
        loader.map_max_entries(map_name::GRANTS, capacity);
        let flow_capacity = if adopted { pins.capacity(map_name::FLOWS)? } else { request.flows };
        for name in FLOW_MAPS {
            loader.map_max_entries(name, flow_capacity);
        }
        let mut ebpf = loader.load(object::OBJECT).map_err(DataPathError::load)?;
        let ring = Ring::new(ebpf.take_map(map_name::KNOCKS).ok_or(DataPathError::NoMap(map_name::KNOCKS))?)?;
        let tables = Tables::new(&mut ebpf)?;
        let attacher = Attacher::new(ebpf, pins.clone())?;
        Ok(Self { attacher, pins, tables, ring: Some(ring), adopted, capacity, flow_capacity })
    }

    /// Whether the maps of an earlier controller are in use.
    #[must_use]
    pub const fn adopted(&self) -> bool {
        self.adopted
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

    /// The knock ring; `None` after the first call.
    pub const fn take_ring(&mut self) -> Option<Ring> {
        self.ring.take()
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

    /// Pins maps and links that are not pinned yet: from here on the death of this process changes nothing.
    ///
    /// # Errors
    /// The bpffs refuses; what was pinned up to there stays pinned.
    pub fn pin(&mut self) -> Result<(), DataPathError> {
        self.tables.pin(&self.pins)?;
        self.order(&Order::Pin)?;
        self.adopted = true;
        Ok(())
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
