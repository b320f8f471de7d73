//! Between the device and the IP header: tags, labels, sessions, LLC, and addresses of frames.

use jpat_common::reason::{
    DropReason::{L2Encapsulation, NoGrant, TooManyTags, TruncatedL2},
    PassReason::NotIp,
};
use jpat_tests::packet::tagged;

use crate::evasion::{
    case::{Case, Reach, pass},
    shot::{HOST_MAC, KINDS, Kind, Shot},
};

const C_TAG: u16 = 0x8100;
const S_TAG: u16 = 0x88a8;
const OLD_S_TAG: u16 = 0x9100;

fn plain(shot: &Shot, kind: Kind) -> Vec<u8> {
    shot.frame(kind.ether_type(), &shot.plain(kind))
}

/// The plain packet below this EtherType and header.
fn below(shot: &Shot, kind: Kind, ether_type: u16, header: &[u8]) -> Vec<u8> {
    shot.frame(ether_type, &[header, &shot.plain(kind)].concat())
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in KINDS {
        let ether_type = kind.ether_type().to_be_bytes();
        cases.push(Case::new("no_tag", kind, NoGrant, move |shot| plain(shot, kind)));
        // Priority tags (VLAN 0) of 802.1Q and 802.1ad mean the untagged network, any number of them.
        let stacks: [(&str, &[u16]); 11] = [
            ("one_priority_tag", &[C_TAG]),
            ("two_priority_tags", &[C_TAG; 2]),
            ("three_priority_tags", &[C_TAG; 3]),
            ("four_priority_tags", &[C_TAG; 4]),
            ("one_service_tag", &[S_TAG]),
            ("two_service_tags", &[S_TAG; 2]),
            ("service_tag_outside", &[C_TAG, S_TAG]),
            ("service_tag_inside", &[S_TAG, C_TAG]),
            ("three_mixed_tags", &[C_TAG, S_TAG, C_TAG]),
            ("one_old_service_tag", &[OLD_S_TAG]),
            ("old_service_tag_outside", &[C_TAG, OLD_S_TAG]),
        ];
        for (name, tags) in stacks {
            let reason = if tags.len() <= 2 { NoGrant } else { TooManyTags };
            let case = Case::new(name, kind, reason, move |shot| {
                tags.iter().fold(plain(shot, kind), |frame, tag| tagged(*tag, 0, &frame))
            });
            let case = if tags.contains(&OLD_S_TAG) { case.reaches(Reach::Device) } else { case };
            cases.push(if tags.len() > 2 { case.lost() } else { case });
        }
        for (name, vlan) in [("vlan_1", 1), ("vlan_4095", 4_095), ("vlan_0_of_priority_7", 7 << 13)] {
            let case = Case::new(name, kind, NoGrant, move |shot| tagged(C_TAG, vlan, &plain(shot, kind)));
            cases.push(if vlan == 7 << 13 { case } else { case.reaches(Reach::Device) });
        }
        cases.push(
            Case::new("tag_cut", kind, TruncatedL2, move |shot| tagged(C_TAG, 0, &plain(shot, kind))[..15].to_vec())
                .reaches(Reach::Nothing)
                .lost(),
        );
        for (name, number) in [
            ("mpls", 0x8847_u16),
            ("mpls_multicast", 0x8848),
            ("batman", 0x4305),
            ("macsec", 0x88e5),
            ("backbone_bridge", 0x88e7),
            ("hsr", 0x892f),
            ("prp", 0x88fb),
            ("nsh", 0x894f),
            ("trill", 0x22f3),
            ("ethernet_in_ethernet", 0x6558),
            ("ppp", 0x880b),
            ("vn_tag", 0x8926),
            ("e_tag", 0x893f),
            ("ife", 0xed3e),
        ] {
            for is_tagged in [false, true] {
                let place = if is_tagged { "_in_a_tag" } else { "" };
                let case = Case::new(format!("{name}{place}"), kind, L2Encapsulation, move |shot| {
                    // A label with the bottom of the stack set, as MPLS has it.
                    let frame = below(shot, kind, number, &[0, 0, 1, 64]);
                    if is_tagged { tagged(C_TAG, 0, &frame) } else { frame }
                });
                cases.push(case.reaches(Reach::Device).lost());
            }
        }
        let ppp: [(&str, &[u8]); 3] = [("", &[0, 0x21]), ("_ipv6", &[0, 0x57]), ("_compressed_number", &[0x21])];
        for (name, number) in ppp {
            let case = Case::new(format!("pppoe_session{name}"), kind, L2Encapsulation, move |shot| {
                below(shot, kind, 0x8864, &[&[0x11, 0, 0, 1, 0, 90], number].concat())
            });
            cases.push(case.reaches(Reach::Device).lost());
        }
        let llc: [(&str, Vec<u8>); 5] = [
            ("llc_ip", vec![6, 6, 3]),
            ("snap", [&[0xaa, 0xaa, 3, 0, 0, 0], &ether_type[..]].concat()),
            ("snap_of_802_1h", [&[0xaa, 0xaa, 3, 0, 0, 0xf8], &ether_type[..]].concat()),
            ("snap_tag", [&[0xaa, 0xaa, 3, 0, 0, 0, 0x81, 0, 0, 0], &ether_type[..]].concat()),
            ("snap_mpls", vec![0xaa, 0xaa, 3, 0, 0, 0, 0x88, 0x47, 0, 0, 1, 64]),
        ];
        for (name, header) in llc {
            let case = Case::new(name, kind, L2Encapsulation, move |shot| {
                let length = header.len() + shot.plain(kind).len();
                below(shot, kind, length as u16, &header)
            });
            cases.push(case.reaches(Reach::Device).lost());
        }
        // Numbers that mean nothing to anybody: the frame passes and ends at the device.
        for (name, number) in [("experimental", 0x88b5_u16), ("loopback_test", 0x9000), ("unknown_type", 0x0801)] {
            cases.push(
                Case::of_several(name, kind, &[pass(NotIp)], move |shot| vec![below(shot, kind, number, &[])])
                    .reaches(Reach::Device),
            );
        }
        // TCP takes no segment that came by a broadcast frame; UDP does.
        let group = if kind.is_tcp { Reach::Transport } else { Reach::Service };
        for (name, mac, reach) in [
            ("to_the_broadcast_mac", [0xff; 6], group),
            ("to_a_multicast_mac", [1, 0, 0x5e, 0, 0, 1], group),
            ("to_another_mac", [2, 0, 0, 0, 0, 0x99], Reach::Device),
            ("to_no_mac", [0; 6], Reach::Device),
        ] {
            let case =
                Case::new(name, kind, NoGrant, move |shot| shot.frame_to(mac, kind.ether_type(), &shot.plain(kind)));
            cases.push(case.reaches(reach));
        }
        for (name, mac) in
            [("from_the_hosts_mac", HOST_MAC), ("from_the_broadcast_mac", [0xff; 6]), ("from_no_mac", [0; 6])]
        {
            cases.push(Case::new(name, kind, NoGrant, move |shot| {
                let mut frame = plain(shot, kind);
                frame[6..12].copy_from_slice(&mac);
                frame
            }));
        }
    }
    cases
}
