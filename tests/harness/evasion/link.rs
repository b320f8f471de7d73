//! T20: what lies between the MAC addresses and IP. T23: frames above 1518 bytes.

use jpat_common::reason::{DropReason, PassReason};

use super::{
    Case, dropped, no_grant, passed,
    scene::{Family, Scene},
};
use crate::packet::{ETHER_IPV4, SYN, TCP, tagged};

pub(super) fn cases(scene: &Scene) -> Vec<Case> {
    let path = scene.path();
    let mut cases = Vec::new();
    for family in Family::BOTH {
        let frame = scene.syn(family);
        let name = family.name();
        for (label, tags) in [
            ("1q", &[(0x8100, 42)][..]),
            ("priority-tag", &[(0x8100, 0)]),
            ("priority-tag-7", &[(0x8100, 0xe000)]),
            ("ad", &[(0x88a8, 42)]),
            ("old-q-in-q", &[(0x9100, 42)]),
            ("ad+1q", &[(0x8100, 7), (0x88a8, 42)]),
            ("1q+1q", &[(0x8100, 7), (0x8100, 42)]),
            ("9100+1q", &[(0x8100, 7), (0x9100, 42)]),
            ("two-priority-tags", &[(0x8100, 0), (0x8100, 0)]),
        ] {
            let tagged = tags.iter().fold(frame.clone(), |frame, (tpid, vlan)| tagged(*tpid, *vlan, &frame));
            cases.push(Case::one(format!("T20/{name}/{label}"), no_grant(tagged)));
        }
        for count in 3..=4 {
            for tpid in [0x8100, 0x88a8] {
                let tagged = (0..count).fold(frame.clone(), |frame, _| tagged(tpid, 0, &frame));
                let expected = dropped(tagged, DropReason::TooManyTags);
                cases.push(Case::one(format!("T20/{name}/{count}-tags-{tpid:04x}"), expected));
            }
        }
        let packet = &frame[14..];
        let number: u8 = if family == Family::V4 { 0x21 } else { 0x57 };
        let session = [&[0x11, 0, 0, 1, 0, (packet.len() + 2) as u8, 0, number], packet].concat();
        let ether_type = &frame[12..14];
        let snap = |code: u8| [&[0xaa, 0xaa, 3, 0, 0, code], ether_type, packet].concat();
        let length = |payload: &[u8]| path.ethernet(payload.len() as u16, payload);
        let label = |bottom: u8| [&[0, 0, 0x10 | bottom, 64], packet].concat();
        let two_labels = [&[0, 0, 0x10, 64], &label(1)[..]].concat();
        for (label, frame) in [
            ("mpls", path.ethernet(0x8847, &label(1))),
            ("mpls-multicast", path.ethernet(0x8848, &label(1))),
            ("mpls-two-labels", path.ethernet(0x8847, &two_labels)),
            ("mpls-in-a-tag", tagged(0x8100, 42, &path.ethernet(0x8847, &label(1)))),
            ("pppoe-session", path.ethernet(0x8864, &session)),
            // Compressed numbers: the packet's own, and that of compressed datagrams (RFC 1962).
            ("pppoe-compressed-number", path.ethernet(0x8864, &[&session[..6], &[number], packet].concat())),
            ("pppoe-compressed-datagram", path.ethernet(0x8864, &[&session[..6], &[0xfd], packet].concat())),
            ("pppoe-multilink", path.ethernet(0x8864, &[&session[..6], &[0, 0x3d, 0xc0, 0], packet].concat())),
            ("pppoe-in-a-tag", tagged(0x8100, 42, &path.ethernet(0x8864, &session))),
            ("snap", length(&snap(0))),
            ("snap-802.1h", length(&snap(0xf8))),
            // A length that is none, and no EtherType either.
            ("snap-behind-1501", path.ethernet(1501, &snap(0))),
            ("snap-behind-1535", path.ethernet(1535, &snap(0))),
            ("snap-in-a-tag", tagged(0x8100, 42, &length(&snap(0)))),
            ("macsec", path.ethernet(0x88e5, &[&[0, 0, 0, 0, 0, 1], &frame[12..]].concat())),
            ("provider-backbone", path.ethernet(0x88e7, &[&[0, 0, 0, 1], &frame[..]].concat())),
            ("ethernet-in-ethernet", path.ethernet(0x6558, &frame)),
            ("batman", path.ethernet(0x4305, &frame)),
            ("network-service-header", path.ethernet(0x894f, &[&[0, 2, 1, 1], packet].concat())),
            ("hsr", path.ethernet(0x892f, &[&[0, 60, 0, 1], &frame[12..]].concat())),
            ("prp", path.ethernet(0x88fb, &[&[0, 60, 0, 1], &frame[12..]].concat())),
        ] {
            let expected = dropped(frame, DropReason::L2Encapsulation);
            cases.push(Case::one(format!("T20/{name}/{label}"), expected));
        }
        let segment = path.tcp(family, scene.host.port, SYN, &[b'x'; 3_000]);
        cases.push(Case::one(format!("T23/{name}/3-kilobytes"), no_grant(path.frame(family, TCP, &segment))));
    }
    let llc_ip = [&[6, 6, 3], &scene.syn(Family::V4)[14..]].concat();
    let cut = |frame: Vec<u8>, length: usize| dropped(frame[..length].to_vec(), DropReason::TruncatedL2);
    let discovery = path.ethernet(0x8863, &[0x11, 9, 0, 0, 0, 4, 1, 1, 0, 0]);
    let arp = path.ethernet(0x0806, &[0; 28]);
    let spanning_tree = path.ethernet(38, &[&[0x42, 0x42, 3], &[0; 35][..]].concat());
    cases.extend([
        Case::one("T20/llc-ip", dropped(path.ethernet(llc_ip.len() as u16, &llc_ip), DropReason::L2Encapsulation)),
        Case::one("T20/cut-in-a-tag", cut(tagged(0x8100, 42, &scene.syn(Family::V4)), 16)),
        Case::one("T20/cut-in-the-second-tag", cut(tagged(0x88a8, 1, &tagged(0x8100, 42, &scene.syn(Family::V4))), 20)),
        Case::one("T20/tag-and-no-more", cut(path.ethernet(0x8100, &[0, 42, 8, 0]), 17)),
        Case::one("T20/pppoe-discovery", passed(discovery, PassReason::NotIp)),
        Case::one("T20/arp", passed(arp, PassReason::NotIp)),
        Case::one("T20/spanning-tree", passed(spanning_tree, PassReason::NotIp)),
        // The EtherType says IPv4 and the header says IPv6.
        Case::one(
            "T20/v6-as-v4",
            dropped(path.ethernet(ETHER_IPV4, &scene.syn(Family::V6)[14..]), DropReason::BadIpHeader),
        ),
        Case::one(
            "T20/v4-as-v6",
            dropped(path.ethernet(0x86dd, &scene.syn(Family::V4)[14..]), DropReason::BadIpHeader),
        ),
    ]);
    cases
}
