//! Packets in packets, with `tunnels = "drop"`, at a host that unpacks some of them: it has a VXLAN device and takes
//! segment routing, so that without the program what is inside reaches the listener.

use anyhow::Result;
use jpat_common::reason::{
    DropReason::{L2Encapsulation, NoGrant, Tunnel},
    PassReason,
};
use jpat_ebpf::verdict::Verdict;
use jpat_tests::{
    crafted::Ends,
    network::Family,
    packet::{DESTINATION_OPTIONS, ETHER_IPV4, ETHER_IPV6, ROUTING, UDP, extended},
};

use crate::{
    evasion::{
        case::{Case, Reach},
        shot::{KINDS, Kind, Shot, TCP6, UDP4, UDP6},
    },
    stage::Stage,
};

const VXLAN_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 5];
const VXLAN_PORT: u16 = 4_789;

type Frame = Box<dyn Fn(&Shot) -> Vec<u8> + Send + Sync>;

/// `vx0` and segment routing on the host.
pub(super) fn prepare(stage: &Stage) -> Result<()> {
    stage.net.host.ip(&format!(
        "link add name vx0 address 02:00:00:00:00:05 type vxlan id 5 local 192.0.2.1 dstport {VXLAN_PORT}\n\
         link set vx0 up\n\
         link add name vx1 address 02:00:00:00:00:05 type vxlan id 6 local 2001:db8::1 dstport {VXLAN_PORT}\n\
         link set vx1 up"
    ))?;
    stage.net.host.run(|| {
        for device in ["all", "wire0", "eth0"] {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{device}/seg6_enabled"), "1")?;
        }
        Ok(())
    })
}

/// The stranger's packet of `outer` around `bytes`.
fn carried(shot: &Shot, outer: Family, protocol: u8, bytes: &[u8]) -> Vec<u8> {
    let ether_type = if outer == Family::V4 { ETHER_IPV4 } else { ETHER_IPV6 };
    shot.frame(ether_type, &shot.packet(outer, protocol, bytes))
}

fn in_udp(shot: &Shot, outer: Family, port: u16, bytes: &[u8]) -> Vec<u8> {
    let datagram = Ends { port, ..shot.ends(outer) }.udp(bytes);
    carried(shot, outer, UDP, &datagram)
}

/// An Ethernet frame inside.
fn inner_frame(shot: &Shot, inner: Kind) -> Vec<u8> {
    shot.frame_to(VXLAN_MAC, inner.ether_type(), &shot.plain(inner))
}

/// A routing header of this type that is used up, in front of `next`.
fn routed(routing_type: u8, next: u8, behind: &[u8]) -> Vec<u8> {
    let mut header = vec![next, 2, routing_type, 0, 0, 0, 0, 0];
    header.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    header.extend(behind);
    header
}

const fn ip_protocol(kind: Kind) -> u8 {
    match kind.family {
        Family::V4 => 4,
        Family::V6 => 41,
    }
}

/// The same protocols with `tunnels = "pass"`, at a host that unpacks none of them: they pass, and lead nowhere.
pub(super) fn passed() -> Vec<Case> {
    let unpacked = ["vxlan", "segment_routing", "mpls_on_the_wire", "in_udp", "l2tp", "gtp", "gue", "geneve"];
    let mut cases = cases();
    cases.retain(|case| {
        let (_, name) = case.name.split_at("v4_tcp_".len());
        name == "l2tpv3" || !unpacked.iter().any(|unpacked| name.contains(unpacked))
    });
    for case in &mut cases {
        case.judged = vec![Verdict::Pass(PassReason::Tunnel)];
        case.free = case.open;
    }
    cases
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for outer in Family::ALL {
        let name = |what: &str| format!("{what}_over_{}", outer.as_str().to_lowercase());
        for inner in KINDS {
            let mut push = |what: &str, reach, frame: Frame| {
                cases.push(Case::new(name(what), inner, Tunnel, frame).reaches(reach).lost());
            };
            let ether_type = inner.ether_type().to_be_bytes();
            let protocol = ip_protocol(inner);
            push("ip", Reach::Device, Box::new(move |shot| carried(shot, outer, protocol, &shot.plain(inner))));
            push("gre", Reach::Device, {
                let header = [&[0, 0], &ether_type[..]].concat();
                Box::new(move |shot| carried(shot, outer, 47, &[&header[..], &shot.plain(inner)].concat()))
            });
            push("gre_with_key_and_sequence", Reach::Device, {
                let header = [&[0x30, 0], &ether_type[..], &[0, 0, 0, 5, 0, 0, 0, 1]].concat();
                Box::new(move |shot| carried(shot, outer, 47, &[&header[..], &shot.plain(inner)].concat()))
            });
            push("gre_ethernet", Reach::Device, {
                Box::new(move |shot| {
                    carried(shot, outer, 47, &[&[0, 0, 0x65, 0x58][..], &inner_frame(shot, inner)].concat())
                })
            });
            push("vxlan", Reach::Service, {
                let network = if outer == Family::V4 { 5 } else { 6 };
                Box::new(move |shot| {
                    let frame = [&[8, 0, 0, 0, 0, 0, network, 0][..], &inner_frame(shot, inner)].concat();
                    in_udp(shot, outer, VXLAN_PORT, &frame)
                })
            });
        }
    }
    for outer in Family::ALL {
        let (udp, family) = (if outer == Family::V4 { UDP4 } else { UDP6 }, outer);
        for (name, protocol) in [
            ("esp", 50_u8),
            ("mobile", 55),
            ("ip_within_ip", 94),
            ("etherip", 97),
            ("ipcomp", 108),
            ("l2tpv3", 115),
            ("mpls_in_ip", 137),
            ("ethernet_in_ip", 143),
        ] {
            cases.push(
                Case::new(name, udp, Tunnel, move |shot| {
                    carried(shot, family, protocol, &[&[0, 0, 0, 1, 0, 0, 0, 1][..], &shot.plain(udp)].concat())
                })
                .reaches(Reach::Device)
                .lost(),
            );
        }
        for (name, port) in [
            ("l2tp", 1_701_u16),
            ("gtp", 2_152),
            ("esp_in_udp", 4_500),
            ("vxlan_gpe", 4_790),
            ("gue", 6_080),
            ("geneve", 6_081),
            ("mpls_in_udp", 6_635),
            ("vxlan_of_old", 8_472),
        ] {
            cases.push(
                Case::new(name, udp, Tunnel, move |shot| {
                    let frame = [&[0, 0, 0x65, 0x58, 0, 0, 5, 0][..], &inner_frame(shot, udp)].concat();
                    in_udp(shot, family, port, &frame)
                })
                .reaches(Reach::Device)
                .lost(),
            );
        }
    }
    for inner in KINDS {
        let protocol = ip_protocol(inner);
        cases.push(
            Case::new("in_segment_routing", inner, Tunnel, move |shot| {
                carried(shot, Family::V6, ROUTING, &routed(4, protocol, &shot.plain(inner)))
            })
            .lost(),
        );
        cases.push(
            Case::new("ip_behind_destination_options", inner, Tunnel, move |shot| {
                let (next, behind) = extended(&[DESTINATION_OPTIONS], protocol, &shot.plain(inner));
                carried(shot, Family::V6, next, &behind)
            })
            .reaches(Reach::Device)
            .lost(),
        );
        cases.push(
            Case::new("ip_in_ip_in_ip", inner, Tunnel, move |shot| {
                let middle = shot.packet(inner.family, protocol, &shot.plain(inner));
                carried(shot, inner.family, protocol, &middle)
            })
            .reaches(Reach::Device)
            .lost(),
        );
        cases.push(
            Case::new("mpls_on_the_wire", inner, L2Encapsulation, move |shot| {
                shot.frame(0x8847, &[&[0, 0, 1, 64][..], &shot.plain(inner)].concat())
            })
            .reaches(Reach::Device)
            .lost(),
        );
    }
    for kind in [TCP6, UDP6] {
        // With segment routing in force its header is one that the stack goes on behind.
        cases.push(Case::new("segment_routing_used_up", kind, NoGrant, move |shot| {
            carried(shot, Family::V6, ROUTING, &routed(4, kind.protocol(), &shot.segment(kind)))
        }));
    }
    cases
}
