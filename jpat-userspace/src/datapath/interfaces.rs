//! Which devices the program goes on.

mod netlink;

use std::{collections::BTreeSet, io};

use crate::config::InterfacePattern;

/// Hardware types of if_arp.h.
const ETHERNET: u16 = 1;
const LOOPBACK: u16 = 772;

/// A network device of this network namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Hardware type (`ARPHRD_*`).
    pub hardware: u16,
    /// Whether it is up.
    pub up: bool,
    /// What made it (`IFLA_INFO_KIND`): "veth", "bond", "vxlan"; nothing for a physical or virtio device.
    pub kind: Option<String>,
    /// What it is a port of (`IFLA_INFO_SLAVE_KIND`): "bridge", "bond".
    pub port_of: Option<String>,
    /// Ids of the XDP programs on it.
    pub xdp_programs: Vec<u32>,
}

impl Device {
    /// Whether frames on it begin with an Ethernet header, which the program needs.
    #[must_use]
    pub const fn has_ethernet(&self) -> bool {
        matches!(self.hardware, ETHERNET | LOOPBACK)
    }

    /// Whether "external" means it: a physical or bond device, and no port of a bridge. A member of a bond is left to
    /// the bond, whose XDP program the kernel puts on every member.
    #[must_use]
    pub fn is_external(&self) -> bool {
        let outward = matches!(self.kind.as_deref(), None | Some("bond"));
        self.hardware == ETHERNET && outward && !matches!(self.port_of.as_deref(), Some("bridge" | "bond"))
    }
}

/// What `listen.interfaces` comes to on this host.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resolution {
    /// Names of the devices, sorted, each once.
    pub names: Vec<String>,
    /// Positions of the patterns that no device with an Ethernet header matches.
    pub unmatched: Vec<usize>,
}

/// The devices of this network namespace, asked of the kernel: `/sys/class/net` may show another namespace's.
///
/// # Errors
/// What the kernel says; `EAFNOSUPPORT` where a sandbox forbids netlink sockets.
pub fn list() -> io::Result<Vec<Device>> {
    netlink::links()
}

/// The devices that the patterns name.
#[must_use]
pub fn resolve(patterns: &[InterfacePattern], devices: &[Device]) -> Resolution {
    let (mut names, mut unmatched) = (BTreeSet::new(), Vec::new());
    for (at, pattern) in patterns.iter().enumerate() {
        let matching = devices.iter().filter(|device| device.has_ethernet() && matches(pattern, device));
        let mut matching = matching.map(|device| device.name.clone()).peekable();
        if matching.peek().is_none() {
            unmatched.push(at);
        }
        names.extend(matching);
    }
    Resolution { names: names.into_iter().collect(), unmatched }
}

fn matches(pattern: &InterfacePattern, device: &Device) -> bool {
    match pattern {
        InterfacePattern::Name(name) => *name == device.name,
        InterfacePattern::Glob(glob) => {
            device.hardware != LOOPBACK && glob_matches(glob.as_bytes(), device.name.as_bytes())
        }
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
mod tests {
    use super::*;

    fn device(name: &str, hardware: u16, kind: Option<&str>, port_of: Option<&str>) -> Device {
        let (kind, port_of) = (kind.map(str::to_owned), port_of.map(str::to_owned));
        Device { name: name.into(), index: 1, hardware, up: true, kind, port_of, xdp_programs: Vec::new() }
    }

    fn host() -> Vec<Device> {
        vec![
            device("lo", LOOPBACK, None, None),
            device("eth0", ETHERNET, None, None),
            device("eth1", ETHERNET, None, Some("bond")),
            device("eth2", ETHERNET, None, Some("bridge")),
            device("bond0", ETHERNET, Some("bond"), None),
            device("br0", ETHERNET, Some("bridge"), None),
            device("veth7", ETHERNET, Some("veth"), Some("bridge")),
            device("wg0", 65_534, Some("wireguard"), None),
        ]
    }

    fn resolved(patterns: &[InterfacePattern]) -> (Vec<String>, Vec<usize>) {
        let Resolution { names, unmatched } = resolve(patterns, &host());
        (names, unmatched)
    }

    #[test]
    fn external_is_what_faces_the_network() {
        assert_eq!(resolved(&[InterfacePattern::External]), (vec!["bond0".into(), "eth0".into()], vec![]));
    }

    #[test]
    fn globs_take_ethernet_devices_but_loopback() {
        let glob = |text: &str| InterfacePattern::Glob(text.into());
        assert_eq!(resolved(&[glob("eth?"), glob("e*0")]).0, ["eth0", "eth1", "eth2"]);
        assert!(!resolved(&[glob("*")]).0.iter().any(|name| name == "lo" || name == "wg0"));
        assert_eq!(resolved(&[glob("wl*")]), (vec![], vec![0]));
    }

    #[test]
    fn a_name_is_that_device_or_unmatched() {
        let name = |text: &str| InterfacePattern::Name(text.into());
        assert_eq!(resolved(&[name("br0"), name("eth9"), name("wg0")]), (vec!["br0".into()], vec![1, 2]));
    }

    #[test]
    fn the_kernel_lists_the_devices_of_this_namespace() {
        let devices = list().unwrap();
        let loopback = devices.iter().find(|device| device.name == "lo").unwrap();
        assert_eq!((loopback.index, loopback.hardware, loopback.is_external()), (1, LOOPBACK, false));
        let names: Vec<_> =
            nix::net::if_::if_nameindex().unwrap().iter().map(|i| i.name().to_string_lossy().into_owned()).collect();
        assert_eq!(devices.iter().map(|device| device.name.clone()).collect::<Vec<_>>(), names);
    }
}
