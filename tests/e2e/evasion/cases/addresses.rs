//! Sources that are not the stranger's, and destinations that mean the host without being its address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jpat_common::reason::{
    DropReason::{MappedAddress, NoGrant},
    PassReason::OtherDestination,
};
use jpat_tests::crafted::Ends;

use crate::evasion::{
    case::{Case, Reach, pass},
    shot::{Kind, Shot, TCP4, TCP6, UDP4, UDP6},
};

const ANY4: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

fn between(shot: &Shot, kind: Kind, source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let segment = shot.segment_of(kind, &Ends { source, destination, ..shot.ends(kind.family) });
    let packet = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = shot.ip4();
            (header.source, header.destination) = (source, destination);
            header.packet(kind.protocol(), &segment)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut header = shot.ip6();
            (header.source, header.destination) = (source, destination);
            header.packet(kind.protocol(), &segment)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
    };
    shot.frame(kind.ether_type(), &packet)
}

fn from(name: &str, kind: Kind, source: impl Into<IpAddr>, reach: Reach) -> Case {
    let source = source.into();
    let case = Case::new(format!("from_{name}"), kind, NoGrant, move |shot| {
        between(shot, kind, source, shot.ends(kind.family).destination)
    });
    // What TCP answers goes to the forged address.
    case.reaches(if kind.is_tcp { reach.min(Reach::Transport) } else { reach })
}

fn to(name: &str, kind: Kind, destination: impl Into<IpAddr>, reach: Reach) -> Case {
    let destination = destination.into();
    Case::new(format!("to_{name}"), kind, NoGrant, move |shot| {
        between(shot, kind, shot.ends(kind.family).source, destination)
    })
    .reaches(reach)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [TCP4, UDP4] {
        let group = if kind.is_tcp { Reach::Transport } else { Reach::Service };
        cases.extend([
            from("the_host_itself", kind, Ipv4Addr::new(192, 0, 2, 1), Reach::Service),
            from("loopback", kind, Ipv4Addr::LOCALHOST, Reach::Service),
            from("loopback_2", kind, Ipv4Addr::new(127, 1, 2, 3), Reach::Service),
            from("nowhere", kind, Ipv4Addr::new(198, 51, 100, 7), Reach::Service),
            from("link_local", kind, Ipv4Addr::new(169, 254, 7, 7), Reach::Service),
            from("class_e", kind, Ipv4Addr::new(240, 0, 0, 1), Reach::Service),
            from("broadcast", kind, Ipv4Addr::BROADCAST, Reach::Device),
            from("directed_broadcast", kind, Ipv4Addr::new(192, 0, 2, 255), Reach::Service).reaches(Reach::Service),
            from("multicast", kind, Ipv4Addr::new(224, 0, 0, 1), Reach::Device),
            from("unspecified", kind, ANY4, Reach::Device),
            to("broadcast", kind, Ipv4Addr::BROADCAST, group),
            to("directed_broadcast", kind, Ipv4Addr::new(192, 0, 2, 255), group),
            to("all_hosts", kind, Ipv4Addr::new(224, 0, 0, 1), group),
            to("a_group_of_nobody", kind, Ipv4Addr::new(239, 1, 2, 3), Reach::Device),
            to("loopback", kind, Ipv4Addr::LOCALHOST, Reach::Service),
            to("loopback_2", kind, Ipv4Addr::new(127, 1, 2, 3), Reach::Service),
            to("unspecified", kind, ANY4, Reach::Device),
            Case::new("unspecified_to_unspecified", kind, NoGrant, move |shot| {
                between(shot, kind, ANY4.into(), ANY4.into())
            })
            .reaches(group),
            Case::of_several("to_another_host", kind, &[pass(OtherDestination)], move |shot| {
                let other = Ipv4Addr::new(198, 51, 100, 9);
                vec![between(shot, kind, shot.ends(kind.family).source, other.into())]
            })
            .reaches(Reach::Device)
            .no_knock(),
        ]);
    }
    let six = |text: [u16; 8]| Ipv6Addr::from(text);
    for kind in [TCP6, UDP6] {
        let group = if kind.is_tcp { Reach::Transport } else { Reach::Service };
        let host = Ipv4Addr::new(192, 0, 2, 1);
        cases.extend([
            from("the_host_itself", kind, six([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]), Reach::Service),
            from("loopback", kind, Ipv6Addr::LOCALHOST, Reach::Device),
            from("unspecified", kind, Ipv6Addr::UNSPECIFIED, Reach::Service),
            from("multicast", kind, six([0xff02, 0, 0, 0, 0, 0, 0, 1]), Reach::Device),
            from("nowhere", kind, six([0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 7]), Reach::Service),
            from("link_local", kind, six([0xfe80, 0, 0, 0, 0, 0, 0, 0x66]), Reach::Service),
            from("unique_local", kind, six([0xfd00, 0, 0, 0, 0, 0, 0, 7]), Reach::Service),
            from("ipv4_compatible", kind, six([0, 0, 0, 0, 0, 0, 0xc000, 0x0242]), Reach::Service),
            from("nat64", kind, six([0x64, 0xff9b, 0, 0, 0, 0, 0xc000, 0x0242]), Reach::Service),
            from("6to4", kind, six([0x2002, 0xc000, 0x0242, 0, 0, 0, 0, 1]), Reach::Service),
            to("all_nodes", kind, six([0xff02, 0, 0, 0, 0, 0, 0, 1]), group),
            to("all_nodes_of_the_interface", kind, six([0xff01, 0, 0, 0, 0, 0, 0, 1]), Reach::Device),
            to("its_solicited_node", kind, six([0xff02, 0, 0, 0, 0, 1, 0xff00, 1]), group),
            to("a_group_of_nobody", kind, six([0xff0e, 0, 0, 0, 0, 0, 1, 3]), Reach::Device),
            to("its_link_local_address", kind, six([0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1]), Reach::Service),
            to("loopback", kind, Ipv6Addr::LOCALHOST, Reach::Device),
            to("unspecified", kind, Ipv6Addr::UNSPECIFIED, Reach::Device),
            Case::new("to_mapped", kind, MappedAddress, move |shot| {
                between(shot, kind, shot.ends(kind.family).source, host.to_ipv6_mapped().into())
            })
            .reaches(Reach::Device)
            .lost(),
            Case::of_several("to_another_host", kind, &[pass(OtherDestination)], move |shot| {
                let other = six([0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 9]);
                vec![between(shot, kind, shot.ends(kind.family).source, other.into())]
            })
            .reaches(Reach::Device)
            .no_knock(),
        ]);
    }
    cases
}
