//! T24: TCP flags. T26: ICMP. T27: the knock port. T28: lengths of TCP and UDP.

use jpat_common::{
    knock::MAX_PAYLOAD,
    reason::{DropReason, PassReason},
};
use jpat_ebpf::verdict::Verdict;

use super::{
    Case, Expected, dropped, no_grant, of_service, passed,
    scene::{Family, Scene, patched},
};
use crate::packet::{HOP_BY_HOP, ICMP, ICMPV6, SYN, TCP, UDP, extended, fragment};

pub(super) fn cases(scene: &Scene) -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::BOTH {
        cases.extend(flags(scene, family));
        cases.extend(lengths(scene, family));
        cases.extend(knocks(scene, family));
    }
    cases.extend(icmp(scene));
    cases
}

fn flags(scene: &Scene, family: Family) -> Vec<Case> {
    let (path, name) = (scene.path(), family.name());
    let segment = |flags, payload: &[u8]| path.frame(family, TCP, &path.tcp(family, scene.host.port, flags, payload));
    let mut cases: Vec<_> = (0..64)
        .map(|flags| Case::one(format!("T24/{name}/flags-{flags:06b}"), no_grant(segment(flags, b""))))
        .collect();
    let with_options = |options: &[u8]| {
        let mut bytes = path.tcp(family, scene.host.port, SYN, options);
        bytes[12] = ((20 + options.len() as u8) / 4) << 4;
        no_grant(path.frame(family, TCP, &path.summed(family, TCP, bytes)))
    };
    cases.extend([
        Case::one(format!("T24/{name}/syn-with-data"), no_grant(segment(SYN, b"GET / HTTP/1.0\r\n\r\n"))),
        Case::one(format!("T24/{name}/ecn-setup-syn"), no_grant(segment(0xc2, b""))),
        Case::one(format!("T24/{name}/ack-with-data"), no_grant(segment(0x18, b"data"))),
        Case::one(format!("T24/{name}/syn-fast-open"), with_options(&[34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1])),
        Case::one(
            format!("T24/{name}/syn-with-a-token-option"),
            with_options(&[253, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ),
        Case::all(
            format!("T24/{name}/handshake-without-its-syn"),
            vec![no_grant(segment(0x10, b"")), no_grant(segment(0x18, b"data")), no_grant(segment(0x11, b""))],
        ),
        Case::all(
            format!("T24/{name}/simultaneous-open"),
            vec![no_grant(segment(SYN, b"")), no_grant(segment(0x12, b""))],
        ),
    ]);
    let granted = scene.granted_path();
    let syn = granted.frame(family, TCP, &granted.tcp(family, scene.host.port, SYN, b""));
    let expected = Expected { frame: syn, verdict: Verdict::Pass(PassReason::Grant), of_service: true };
    cases.push(Case::one(format!("T24/{name}/control-a-grant-opens"), expected).granted());
    cases
}

fn lengths(scene: &Scene, family: Family) -> Vec<Case> {
    let (path, name, port) = (scene.path(), family.name(), scene.host.port);
    let tcp = path.tcp(family, port, SYN, b"");
    let udp = path.udp(family, port, b"hello");
    let frame = |protocol, segment: &[u8]| path.frame(family, protocol, segment);
    let offset = |byte: u8| of_service(frame(TCP, &patched(tcp.clone(), 12, &[byte])), DropReason::BadTcpHeader);
    let length = |bytes: u16| frame(UDP, &patched(udp.clone(), 4, &bytes.to_be_bytes()));
    let bad = |bytes| of_service(length(bytes), DropReason::BadUdpLength);
    let one = |what: &str, expected| Case::one(format!("T28/{name}/{what}"), expected);
    let mut cases = vec![
        one("tcp-offset-0", offset(0)),
        one("tcp-offset-4", offset(0x40)),
        one("tcp-offset-beyond", offset(0x60)),
        one("tcp-offset-15", offset(0xf0)),
        one("tcp-cut-behind-the-ports", dropped(frame(TCP, &tcp[..4]), DropReason::TruncatedL4)),
        one("tcp-cut-in-the-ports", dropped(frame(TCP, &tcp[..3]), DropReason::TruncatedL4)),
        one("tcp-cut-by-one", dropped(frame(TCP, &tcp[..19]), DropReason::TruncatedL4)),
        one("tcp-absent", dropped(frame(TCP, &[]), DropReason::TruncatedL4)),
        one("tcp-wrong-checksum", no_grant(frame(TCP, &patched(tcp.clone(), 16, &[0xde, 0xad])))),
        one("udp-cut", dropped(frame(UDP, &udp[..7]), DropReason::TruncatedL4)),
        one("udp-length-0", bad(0)),
        one("udp-length-7", bad(7)),
        one("udp-length-beyond", bad(14)),
        one("udp-length-65535", bad(65_535)),
        one("udp-length-8", no_grant(length(8))),
        one("udp-length-below-the-packet", no_grant(length(12))),
        one("udp-wrong-checksum", no_grant(frame(UDP, &patched(udp.clone(), 6, &[0xde, 0xad])))),
        one("udp-no-checksum", no_grant(frame(UDP, &patched(udp.clone(), 6, &[0, 0])))),
    ];
    let padded = no_grant([frame(TCP, &tcp), vec![0; 46]].concat());
    cases.push(one("padding-behind-the-segment", padded));
    cases
}

fn knocks(scene: &Scene, family: Family) -> Vec<Case> {
    let (path, name, port) = (scene.path(), family.name(), scene.host.knock_port);
    let datagram = path.udp(family, port, b"eyJ.eyJ.sig");
    let taken = |frame| Expected { frame, verdict: Verdict::Knock, of_service: false };
    let one = |what: &str, expected| Case::one(format!("T27/{name}/{what}"), expected);
    let first = match family {
        Family::V4 => path.ip(family, &path.v4(UDP, 0x2000, &[], &datagram[..16])),
        Family::V6 => path.frame(family, 44, &fragment(UDP, 0, true, &datagram[..16])),
    };
    let bare = |payload: &[u8]| path.frame(family, UDP, &path.udp(family, port, payload));
    let tcp = path.tcp(family, port, SYN, b"");
    vec![
        one("knock-is-taken", taken(path.frame(family, UDP, &datagram))),
        one("knock-of-one-byte", taken(bare(b"e"))),
        one("knock-of-the-most", taken(bare(&[b'e'; MAX_PAYLOAD]))),
        one("knock-empty", dropped(bare(b""), DropReason::KnockEmpty)),
        one("knock-too-long", dropped(bare(&[b'x'; MAX_PAYLOAD + 1]), DropReason::KnockTooLong)),
        one("knock-first-fragment", dropped(first, DropReason::KnockFragmented)),
        one(
            "knock-of-udp-length-0",
            dropped(path.frame(family, UDP, &patched(datagram.clone(), 4, &[0, 0])), DropReason::KnockBadLength),
        ),
        one("knock-cut", dropped(path.frame(family, UDP, &datagram[..7]), DropReason::TruncatedL4)),
        one("knock-from-port-53", taken(path.frame(family, UDP, &path.sent_from(family, UDP, 53, datagram.clone())))),
        one("tcp-to-the-knock-port", passed(path.frame(family, TCP, &tcp), PassReason::UnprotectedPort)),
    ]
}

fn icmp(scene: &Scene) -> Vec<Case> {
    let path = scene.path();
    let quoted4 = &scene.syn(Family::V4)[14..];
    let quoted6 = &scene.syn(Family::V6)[14..];
    let mut cases = Vec::new();
    for (what, message) in [
        ("echo", vec![8, 0, 0, 0, 0, 1, 0, 1]),
        ("echo-reply", vec![0, 0, 0, 0, 0, 1, 0, 1]),
        ("timestamp", [vec![13, 0], vec![0; 18]].concat()),
        ("address-mask", [vec![17, 0], vec![0; 10]].concat()),
        ("redirect", [&[5, 1, 0, 0, 192, 0, 2, 66], quoted4].concat()),
        ("fragmentation-needed", [&[3, 4, 0, 0, 0, 0, 5, 0], quoted4].concat()),
        ("port-unreachable", [&[3, 3, 0, 0, 0, 0, 0, 0], quoted4].concat()),
        ("cut", vec![8, 0, 0, 0]),
    ] {
        let frame = path.frame(Family::V4, ICMP, &path.summed(Family::V4, ICMP, message));
        cases.push(Case::one(format!("T26/v4/{what}"), passed(frame, PassReason::Icmp)));
    }
    let target = scene.host.peer.v6;
    for (what, message) in [
        ("echo", vec![128, 0, 0, 0, 0, 1, 0, 1]),
        ("packet-too-big", [&[2, 0, 0, 0, 0, 0, 5, 0], quoted6].concat()),
        ("router-solicitation", [vec![133, 0], vec![0; 6]].concat()),
        ("neighbour-solicitation", [&[135, 0, 0, 0, 0, 0, 0, 0], &target[..]].concat()),
        ("neighbour-advertisement", [&[136, 0, 0, 0, 0x60, 0, 0, 0], &target[..]].concat()),
        ("node-information", [vec![139, 0], vec![0; 14]].concat()),
    ] {
        let frame = path.frame(Family::V6, ICMPV6, &path.summed(Family::V6, ICMPV6, message));
        cases.push(Case::one(format!("T26/v6/{what}"), passed(frame, PassReason::Icmp)));
    }
    let report = path.summed(Family::V6, ICMPV6, [vec![131, 0], vec![0; 22]].concat());
    let (next, behind) = extended(&[HOP_BY_HOP], ICMPV6, &report);
    cases.push(Case::one("T26/v6/listener-report", passed(path.frame(Family::V6, next, &behind), PassReason::Icmp)));
    for (what, family, protocol) in [("icmpv6-in-ipv4", Family::V4, ICMPV6), ("icmp-in-ipv6", Family::V6, ICMP)] {
        let frame = path.frame(family, protocol, &[8, 0, 0, 0, 0, 1, 0, 1]);
        cases.push(Case::one(format!("T26/{what}"), passed(frame, PassReason::OtherProtocol)));
    }
    for (what, protocol) in [("sctp", 132), ("dccp", 33), ("udp-lite", 136), ("igmp", 2), ("ospf", 89)] {
        let segment = path.tcp(Family::V4, scene.host.port, SYN, b"");
        cases.push(Case::one(
            format!("T26/other-protocol-{what}"),
            passed(path.frame(Family::V4, protocol, &segment), PassReason::OtherProtocol),
        ));
    }
    cases
}
