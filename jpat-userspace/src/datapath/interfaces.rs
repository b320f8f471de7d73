//! The devices of this network namespace, and which of them the program goes on.

mod changes;
mod layer;
mod netlink;
mod source_routing;

use std::{collections::BTreeMap, io, path::Path};

pub use self::{
    changes::{Changes, Told},
    layer::{LinkLayer, Unreadable},
};
use crate::config::InterfacePattern;

/// Hardware types of if_arp.h.
const ETHERNET: u16 = 1;
const RAW_IP: u16 = 519;
const LOOPBACK: u16 = 772;

/// A network device of this network namespace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Hardware type (`ARPHRD_*`).
    pub hardware: u16,
    /// Whether it is up.
    pub up: bool,
    /// Longest packet, in bytes.
    pub mtu: u32,
    /// What made it (`IFLA_INFO_KIND`): "veth", "bond", "vxlan"; nothing for a physical or virtio device.
    pub kind: Option<String>,
    /// What it is a port of (`IFLA_INFO_SLAVE_KIND`): "bridge", "bond".
    pub port_of: Option<String>,
    /// Index of that device (`IFLA_MASTER`).
    pub master: Option<u32>,
    /// Index of the device below (`IFLA_LINK`), where that is in this namespace. A veth's is its peer's, a tunnel's the
    /// one that it sends through.
    pub lower: Option<u32>,
    /// A "tun" device without an Ethernet header, whatever its hardware type says, which its owner may choose.
    pub is_tun: bool,
    /// UDP port of a tunnel that has one, host order.
    pub port: Option<u16>,
    /// The tunnel is wrapped in UDP once more (FOU, GUE).
    pub is_wrapped: bool,
    /// It takes packets out of IPv6 segment routing or RPL source routing.
    pub unpacks_source_routing: bool,
    /// Ids of the XDP programs on it.
    pub xdp_programs: Vec<u32>,
}

/// A device to attach to.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Target {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub interface: String,
    /// What packets on it begin with.
    pub link_layer: LinkLayer,
}

impl Device {
    /// What packets on it begin with when the program sees them.
    ///
    /// # Errors
    /// Why that is not known: then no program may judge them.
    pub fn link_layer(&self) -> Result<LinkLayer, Unreadable> {
        layer::link_layer(self, layer::kernel())
    }

    /// Whether it is this namespace's own loopback.
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        self.hardware == LOOPBACK
    }

    /// Whether "external" means it: a physical or bond device, and no port of a bridge. A member of a bond is left to
    /// the bond, whose XDP program the kernel puts on every member.
    #[must_use]
    pub fn is_external(&self) -> bool {
        let outward = match self.kind.as_deref() {
            None => matches!(self.hardware, ETHERNET | RAW_IP),
            Some(kind) => kind == "bond" && self.hardware == ETHERNET,
        };
        outward && !matches!(self.port_of.as_deref(), Some("bridge" | "bond"))
    }
}

/// What `listen.interfaces` comes to on this host.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resolution {
    /// Devices to attach to, in the order of their names, each once.
    pub targets: Vec<Target>,
    /// Devices that the patterns mean and no program can judge, by name, and why.
    pub unreadable: BTreeMap<String, Unreadable>,
    /// Positions of the patterns that no device matches.
    pub unmatched: Vec<usize>,
}

impl Resolution {
    /// Whether it is about to be attached to.
    #[must_use]
    pub fn is_target(&self, device: &Device) -> bool {
        self.targets.iter().any(|target| target.ifindex == device.index)
    }
}

/// The devices of this network namespace, asked of the kernel: `/sys/class/net` may show another namespace's.
///
/// # Errors
/// What the kernel says; `EAFNOSUPPORT` where a sandbox forbids netlink sockets.
pub fn list() -> io::Result<Vec<Device>> {
    let mut devices = netlink::links()?;
    source_routing::mark(&mut devices, Path::new("/proc/sys/net/ipv6/conf"));
    Ok(devices)
}

/// The devices that the patterns name.
#[must_use]
pub fn resolve(patterns: &[InterfacePattern], devices: &[Device]) -> Resolution {
    let (mut targets, mut resolution) = (BTreeMap::new(), Resolution::default());
    for (at, pattern) in patterns.iter().enumerate() {
        let mut is_matched = false;
        for device in devices.iter().filter(|device| matches(pattern, device)) {
            is_matched = true;
            let (ifindex, interface) = (device.index, device.name.clone());
            match device.link_layer() {
                Ok(link_layer) => {
                    targets.insert(interface.clone(), Target { ifindex, interface, link_layer });
                }
                Err(why) => {
                    resolution.unreadable.insert(interface, why);
                }
            }
        }
        if !is_matched {
            resolution.unmatched.push(at);
        }
    }
    resolution.targets = targets.into_values().collect();
    resolution
}

fn matches(pattern: &InterfacePattern, device: &Device) -> bool {
    match pattern {
        InterfacePattern::Name(name) => *name == device.name,
        InterfacePattern::Glob(glob) => !device.is_loopback() && glob_matches(glob.as_bytes(), device.name.as_bytes()),
        InterfacePattern::External => device.is_external(),
    }
}

/// `*` stands for any characters, `?` for one.
fn glob_matches(glob: &[u8], name: &[u8]) -> bool {
    match (glob.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) if glob_matches(rest, name) => true,
        (Some((b'*', _)), Some((_, name))) => glob_matches(glob, name),
        (Some((b'?', glob)), Some((_, name))) => glob_matches(glob, name),
        (Some((want, glob)), Some((have, name))) => want == have && glob_matches(glob, name),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests;
