//! What packets on a device begin with when generic or native XDP sees them.
//!
//! Generic XDP shows a packet from its MAC header on (`bpf_prog_run_generic_xdp`), and where a driver leaves that mark
//! is its own affair. What is listed here was read in each driver; everything else counts as not known.

use aya::util::KernelVersion;

use super::{Device, ETHERNET, LOOPBACK, RAW_IP};

/// Hardware types of if_arp.h.
const PPP: u16 = 512;
const IPIP: u16 = 768;
const IP6_TUNNEL: u16 = 769;
const SIT: u16 = 776;
const NONE: u16 = 0xfffe;

/// Until then these tunnels left the mark at the outer header (kernel commits of June 2021, "reset mac header").
const TUNNELS_SHOW_THE_INNER_PACKET: KernelVersion = KernelVersion::new(5, 14, 0);

/// What a packet begins with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkLayer {
    /// An Ethernet header.
    Ethernet,
    /// The IP header.
    Ip,
}

/// Why no program can judge what comes through a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unreadable {
    /// The driver leaves its own or the outer header in front, or not.
    #[error("what XDP sees of its packets is not known")]
    Unknown,
    /// Known since a later kernel.
    #[error("before Linux 5.14 XDP sees the outer packets on it")]
    Kernel,
    /// Packets pass by it.
    #[error("packets do not come through it but through its members")]
    Members,
}

pub(super) fn kernel() -> KernelVersion {
    // The lowest where it cannot be read.
    KernelVersion::current().unwrap_or(KernelVersion::new(0, 0, 0))
}

pub(super) fn link_layer(device: &Device, kernel: KernelVersion) -> Result<LinkLayer, Unreadable> {
    let tunnel = if kernel >= TUNNELS_SHOW_THE_INNER_PACKET { Ok(LinkLayer::Ip) } else { Err(Unreadable::Kernel) };
    match (device.hardware, device.kind.as_deref()) {
        _ if device.is_tun => Ok(LinkLayer::Ip),
        (_, Some("vrf")) => Err(Unreadable::Members),
        (ETHERNET | LOOPBACK, _) => Ok(LinkLayer::Ethernet),
        (NONE, Some("wireguard")) | (PPP | RAW_IP, _) => Ok(LinkLayer::Ip),
        (IPIP, Some("ipip")) | (IP6_TUNNEL, Some("ip6tnl")) | (SIT, Some("sit")) => tunnel,
        _ => Err(Unreadable::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(hardware: u16, kind: Option<&str>, kernel: KernelVersion) -> Result<LinkLayer, Unreadable> {
        link_layer(&Device { hardware, kind: kind.map(str::to_owned), ..Device::default() }, kernel)
    }

    #[test]
    fn p2_only_what_is_known_is_judged() {
        let kernel = KernelVersion::new(6, 1, 0);
        for (hardware, kind, wanted) in [
            (ETHERNET, None, Ok(LinkLayer::Ethernet)),
            (ETHERNET, Some("vxlan"), Ok(LinkLayer::Ethernet)),
            (ETHERNET, Some("gretap"), Ok(LinkLayer::Ethernet)),
            (ETHERNET, Some("vrf"), Err(Unreadable::Members)),
            (NONE, Some("wireguard"), Ok(LinkLayer::Ip)),
            (RAW_IP, None, Ok(LinkLayer::Ip)),
            (PPP, Some("ppp"), Ok(LinkLayer::Ip)),
            (IPIP, Some("ipip"), Ok(LinkLayer::Ip)),
            (IP6_TUNNEL, Some("ip6tnl"), Ok(LinkLayer::Ip)),
            (SIT, Some("sit"), Ok(LinkLayer::Ip)),
            // IPsec leaves the MAC header of the outer packet in front.
            (IPIP, Some("vti"), Err(Unreadable::Unknown)),
            (IP6_TUNNEL, Some("vti6"), Err(Unreadable::Unknown)),
            (NONE, Some("xfrm"), Err(Unreadable::Unknown)),
            (NONE, Some("netkit"), Err(Unreadable::Unknown)),
            // IPGRE and IP6GRE.
            (778, Some("gre"), Err(Unreadable::Unknown)),
            (823, Some("ip6gre"), Err(Unreadable::Unknown)),
            // InfiniBand, and a radio in monitor mode.
            (32, None, Err(Unreadable::Unknown)),
            (803, None, Err(Unreadable::Unknown)),
        ] {
            assert_eq!(layer(hardware, kind, kernel), wanted, "{hardware} {kind:?}");
        }
    }

    #[test]
    fn p2_old_kernels_show_outer_packets_on_ip_tunnels() {
        let old = KernelVersion::new(5, 10, 200);
        for (hardware, kind) in [(IPIP, "ipip"), (IP6_TUNNEL, "ip6tnl"), (SIT, "sit")] {
            assert_eq!(layer(hardware, Some(kind), old), Err(Unreadable::Kernel), "{kind}");
        }
        assert_eq!(layer(NONE, Some("wireguard"), old), Ok(LinkLayer::Ip));
    }

    /// `TUNSETLINK` lets the owner of a TUN device call it Ethernet.
    #[test]
    fn p2_a_tun_device_that_calls_itself_ethernet_gets_no_ethernet_program() {
        let tun = Device { hardware: ETHERNET, kind: Some("tun".into()), is_tun: true, ..Device::default() };
        assert_eq!(link_layer(&tun, kernel()), Ok(LinkLayer::Ip));
        let tap = Device { is_tun: false, ..tun };
        assert_eq!(link_layer(&tap, kernel()), Ok(LinkLayer::Ethernet));
    }
}
