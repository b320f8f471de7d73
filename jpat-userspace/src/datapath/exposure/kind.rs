//! What a device's kind says about where its packets come from.

use std::fmt;

use super::super::{interfaces::Device, ipsec::Ipsec};

/// Fed by other devices of this namespace alone: as safe as those.
const FED_BY_OTHERS: [&str; 10] =
    ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec", "hsr", "batadv", "bridge", "vrf"];
/// The other end is on this host, or there is none, or no IP comes through.
const LOCAL: [&str; 10] =
    ["veth", "netkit", "dummy", "ifb", "nlmon", "vsockmon", "netdevsim", "openvswitch", "vcan", "vxcan"];
/// Their outer packets are tunnel packets by their IP protocol.
const DROPPED: [&str; 14] = [
    "gre",
    "gretap",
    "erspan",
    "ip6gre",
    "ip6gretap",
    "ip6erspan",
    "ip6tnl",
    "ipip",
    "sit",
    "vti",
    "vti6",
    "xfrm",
    "gtp",
    "l2tp",
];
/// UDP ports by which the program knows VXLAN and GENEVE.
const TUNNEL_PORTS: [u16; 4] = [4789, 4790, 6081, 8472];
/// Their outer packets look like any others, or a process makes them.
const TUNNELS: [&str; 8] = ["wireguard", "tun", "ppp", "ovpn", "bareudp", "amt", "vxlan", "geneve"];

/// How packets reach a protected port unjudged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Way {
    /// A physical device, or a bond of some.
    Physical,
    /// A tunnel of this kind.
    Tunnel {
        /// As the kernel calls it.
        kind: String,
        /// Whether `listen.tunnels = "drop"` knows its outer packets.
        is_dropped: bool,
    },
    /// A device of a kind that is not known here.
    Unknown(String),
    /// IPsec, without a device.
    Ipsec(Ipsec),
    /// IPv6 source routing, on attached devices as well.
    SourceRouting,
}

impl Way {
    pub(super) const fn is_dropped(&self) -> bool {
        matches!(self, Self::Tunnel { is_dropped: true, .. })
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Physical => f.write_str("physical"),
            Self::Tunnel { kind, .. } => write!(f, "{kind} tunnel"),
            Self::Unknown(kind) => f.write_str(kind),
            Self::Ipsec(_) => f.write_str("IPsec"),
            Self::SourceRouting => f.write_str("IPv6 source routing"),
        }
    }
}

/// Whether only devices of this namespace give it packets, which are looked at by themselves.
pub(super) fn is_fed_by_others(device: &Device) -> bool {
    match device.kind.as_deref() {
        Some("bridge" | "vrf" | "batadv" | "hsr") => true,
        Some(kind) => FED_BY_OTHERS.contains(&kind) && device.lower.is_some(),
        None => matches!(device.port_of.as_deref(), Some("bond" | "team")),
    }
}

/// How packets come out of it that nobody judged; `None` where they do not come from outside.
pub(super) fn way(device: &Device) -> Option<Way> {
    if device.is_loopback() || is_fed_by_others(device) {
        return None;
    }
    let Some(kind) = device.kind.as_deref() else { return Some(Way::Physical) };
    let tunnel = |is_dropped| Some(Way::Tunnel { kind: kind.to_owned(), is_dropped });
    match kind {
        "bond" | "team" => Some(Way::Physical),
        "vxlan" | "geneve" => tunnel(device.port.is_some_and(|port| TUNNEL_PORTS.contains(&port))),
        _ if LOCAL.contains(&kind) => None,
        _ if DROPPED.contains(&kind) => tunnel(!device.is_wrapped),
        _ if TUNNELS.contains(&kind) => tunnel(false),
        _ => Some(Way::Unknown(kind.to_owned())),
    }
}

pub(super) fn remedy(way: &Way, device: &Device, devices: &[Device], drops_tunnels: bool) -> String {
    let elsewhere = "bind protected services to addresses that cannot be reached through it";
    let bridge = (device.port_of.as_deref() == Some("bridge")).then_some(device.master).flatten();
    let bridge = bridge.and_then(|bridge| devices.iter().find(|device| device.index == bridge));
    let list = match (bridge, device.link_layer()) {
        (Some(bridge), _) => {
            format!("list \"{}\" in listen.interfaces, or its bridge \"{}\"", device.name, bridge.name)
        }
        (None, Ok(_)) if device.is_external() => {
            format!("list \"{}\" or \"external\" in listen.interfaces", device.name)
        }
        (None, Ok(_)) => format!("list \"{}\" in listen.interfaces", device.name),
        (None, Err(why)) => format!("it cannot be attached to ({why}): {elsewhere}"),
    };
    if way.is_dropped() && !drops_tunnels {
        return format!("{list}, or set listen.tunnels = \"drop\"");
    }
    list
}
