//! T18: IPv4 options and header lengths. T19: IPv6 extension headers. T28: lengths of IP.

use jpat_common::reason::{DropReason, PassReason};

use super::{
    Case, dropped, no_grant, passed,
    scene::{Family, Scene, patched, patched_v4},
};
use crate::packet::{
    AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HIP, HOP_BY_HOP, MOBILITY, ROUTING, SHIM6, SYN, TCP, UDP, extended,
};

/// Every kind of header that a chain may hold.
const KINDS: [(&str, u8); 8] = [
    ("hop-by-hop", HOP_BY_HOP),
    ("routing", ROUTING),
    ("fragment", FRAGMENT),
    ("destination-options", DESTINATION_OPTIONS),
    ("authentication", AUTHENTICATION),
    ("mobility", MOBILITY),
    ("hip", HIP),
    ("shim6", SHIM6),
];

pub(super) fn cases(scene: &Scene) -> Vec<Case> {
    let mut cases = options(scene);
    cases.extend(extensions(scene));
    cases.extend(lengths(scene));
    cases
}

fn options(scene: &Scene) -> Vec<Case> {
    let (path, host) = (scene.path(), &scene.host);
    let syn = path.tcp(Family::V4, host.port, SYN, &[]);
    let web = path.udp(Family::V4, host.port, b"hello");
    let with = |options: &[u8]| path.ip(Family::V4, &path.v4(TCP, 0, options, &syn));
    let broken =
        |first: u8, reason| dropped(path.ip(Family::V4, &patched_v4(path.v4(TCP, 0, &[], &syn), 0, &[first])), reason);
    let forged = path.tcp(Family::V4, host.free_port, SYN, &[]);
    let mut cases: Vec<_> = (1..=10_u8)
        .map(|words| {
            let name = format!("T18/ihl-{}", words + 5);
            Case::one(name, no_grant(with(&vec![1; usize::from(words) * 4])))
        })
        .collect();
    cases.extend((0..5_u8).map(|ihl| Case::one(format!("T18/ihl-{ihl}"), broken(0x40 | ihl, DropReason::BadIpHeader))));
    cases.extend([
        Case::one("T18/udp-behind-options", no_grant(path.ip(Family::V4, &path.v4(UDP, 0, &[1; 8], &web)))),
        // The whole frame is shorter than the header that it announces.
        Case::one("T18/ihl-beyond-the-frame", broken(0x4f, DropReason::TruncatedL3)),
        Case::one("T18/ports-forged-in-options", no_grant(with(&forged))),
        Case::one("T18/loose-source-route", no_grant(with(&[131, 7, 4, 192, 0, 2, 99, 0]))),
        Case::one("T18/router-alert", no_grant(with(&[148, 4, 0, 0]))),
        Case::one("T18/option-of-length-0", no_grant(with(&[7, 0, 0, 0]))),
        Case::one("T18/version-6-in-ipv4", broken(0x65, DropReason::BadIpHeader)),
        Case::one("T18/version-0", broken(0x05, DropReason::BadIpHeader)),
    ]);
    cases
}

fn extensions(scene: &Scene) -> Vec<Case> {
    let (path, host) = (scene.path(), &scene.host);
    let syn = path.tcp(Family::V6, host.port, SYN, &[]);
    let six = |next, payload: &[u8]| path.ip(Family::V6, &path.v6(next, payload));
    let chained = |kinds: &[u8]| {
        let (next, payload) = extended(kinds, TCP, &syn);
        six(next, &payload)
    };
    let mut cases = Vec::new();
    for (name, kind) in KINDS {
        cases.push(Case::one(format!("T19/{name}"), no_grant(chained(&[kind]))));
        let (next, payload) = extended(&[kind], TCP, &syn);
        let cut = |length: usize| dropped(six(next, &payload[..length]), DropReason::TruncatedExtension);
        cases.push(Case::one(format!("T19/{name}-absent"), cut(0)));
        cases.push(Case::one(format!("T19/{name}-cut"), cut(4)));
        if kind != FRAGMENT {
            let lying = six(next, &patched(payload, 1, &[255]));
            cases.push(Case::one(
                format!("T19/{name}-that-claims-the-most"),
                dropped(lying, DropReason::TruncatedExtension),
            ));
        }
    }
    let mixed =
        [HOP_BY_HOP, DESTINATION_OPTIONS, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION_OPTIONS, MOBILITY, HIP];
    for count in 0..=8 {
        for (name, kinds) in [("destination-options", [DESTINATION_OPTIONS; 8]), ("mixed", mixed)] {
            let frame = chained(&kinds[..count]);
            let expected = if count <= 6 { no_grant(frame) } else { dropped(frame, DropReason::TooManyExtensions) };
            cases.push(Case::one(format!("T19/{count}-{name}"), expected));
        }
    }
    let routing_0 = extended(&[ROUTING], TCP, &syn);
    cases.extend([
        Case::one(
            "T19/routing-type-0",
            dropped(six(ROUTING, &patched(routing_0.1, 2, &[0])), DropReason::RoutingHeader0),
        ),
        Case::one("T19/no-next-header", passed(six(59, &syn), PassReason::OtherProtocol)),
        Case::one(
            "T19/experiment-253",
            passed(six(253, &extended(&[DESTINATION_OPTIONS], TCP, &syn).1), PassReason::OtherProtocol),
        ),
        Case::one("T19/esp", passed(six(50, &[0; 40]), PassReason::Tunnel)),
        Case::one("T19/esp-behind-options", passed(six(60, &extended(&[60], 50, &[0; 40]).1), PassReason::Tunnel)),
    ]);
    for count in [1_usize, 6, 7] {
        let segment = path.tcp(Family::V4, host.port, SYN, &[]);
        let (next, payload) = extended(&vec![AUTHENTICATION; count], TCP, &segment);
        let frame = path.ip(Family::V4, &path.v4(next, 0, &[], &payload));
        let expected = if count <= 6 { no_grant(frame) } else { dropped(frame, DropReason::TooManyExtensions) };
        cases.push(Case::one(format!("T19/v4-{count}-authentication"), expected));
    }
    cases
}

fn lengths(scene: &Scene) -> Vec<Case> {
    let (path, host) = (scene.path(), &scene.host);
    let syn = path.tcp(Family::V4, host.port, SYN, &[]);
    let four = path.v4(TCP, 0, &[], &syn);
    let six = path.v6(TCP, &path.tcp(Family::V6, host.port, SYN, &[]));
    let total = |length: u16| path.ip(Family::V4, &patched_v4(four.clone(), 2, &length.to_be_bytes()));
    let payload = |length: u16| path.ip(Family::V6, &patched(six.clone(), 4, &length.to_be_bytes()));
    let one = |name: &str, expected| Case::one(format!("T28/{name}"), expected);
    let padded = |frame: Vec<u8>| [frame, vec![0xa5; 9]].concat();
    let (hop, behind) = extended(&[HOP_BY_HOP], TCP, &six[40..]);
    vec![
        one("v4-total-length-0", dropped(total(0), DropReason::BadIpLength)),
        one("v4-total-length-below-the-header", dropped(total(19), DropReason::BadIpLength)),
        one("v4-total-length-of-the-header", dropped(total(20), DropReason::TruncatedL4)),
        one("v4-total-length-inside-tcp", dropped(total(39), DropReason::TruncatedL4)),
        one("v4-total-length-above-the-frame", dropped(total(41), DropReason::BadIpLength)),
        one("v4-total-length-65535", dropped(total(65_535), DropReason::BadIpLength)),
        one("v4-padded", no_grant(padded(path.ip(Family::V4, &four)))),
        one("v6-payload-length-inside-tcp", dropped(payload(19), DropReason::TruncatedL4)),
        one("v6-payload-length-above-the-frame", dropped(payload(21), DropReason::BadIpLength)),
        one("v6-payload-length-65535", dropped(payload(65_535), DropReason::BadIpLength)),
        one("v6-padded", no_grant(padded(path.ip(Family::V6, &six)))),
        one(
            "v6-jumbogram-that-is-none",
            dropped(path.ip(Family::V6, &patched(path.v6(hop, &behind), 4, &[0, 0])), DropReason::TruncatedExtension),
        ),
        one("v4-cut-in-the-header", dropped(path.ip(Family::V4, &four[..19]), DropReason::TruncatedL3)),
        one("v6-cut-in-the-header", dropped(path.ip(Family::V6, &six[..39]), DropReason::TruncatedL3)),
        one("v4-ttl-0", no_grant(path.ip(Family::V4, &patched_v4(four.clone(), 8, &[0])))),
        one("v6-hop-limit-0", no_grant(path.ip(Family::V6, &patched(six.clone(), 7, &[0])))),
        one("v4-wrong-header-checksum", no_grant(path.ip(Family::V4, &patched(four.clone(), 10, &[0xde, 0xad])))),
        one("v4-congestion-and-dscp", no_grant(path.ip(Family::V4, &patched_v4(four, 1, &[0xff])))),
        one("v6-flow-label", no_grant(path.ip(Family::V6, &patched(six, 1, &[0xff, 0xff, 0xff])))),
    ]
}
