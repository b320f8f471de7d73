//! T30: the host's own and other odd addresses, as source and as destination.

use jpat_common::{
    addr,
    reason::{DropReason, PassReason},
};

use super::{
    Case, dropped, no_grant, passed,
    scene::{Family, Path, Peer, Scene},
};
use crate::packet::{SYN, TCP, UDP};

pub(super) fn cases(scene: &Scene) -> Vec<Case> {
    let mut cases = Vec::new();
    let host = &scene.host;
    let syn = |from: Peer, to: Peer, family| {
        let path = Path { from, to };
        path.frame(family, TCP, &path.tcp(family, host.port, SYN, &[]))
    };
    let web = |from: Peer, to: Peer, family| {
        let path = Path { from, to };
        path.frame(family, UDP, &path.udp(family, host.port, b"hello"))
    };
    let knock = |from: Peer, family| {
        let path = Path { from, to: host.peer };
        path.frame(family, UDP, &path.udp(family, host.knock_port, b"eyJ.eyJ.sig"))
    };
    let mut sources = vec![
        ("own-v4", Family::V4, Peer { v4: host.peer.v4, ..scene.stranger }),
        ("own-v6", Family::V6, Peer { v6: host.peer.v6, ..scene.stranger }),
    ];
    for (name, v4) in [
        ("loopback-v4", [127, 0, 0, 1]),
        ("loopback-v4-other", [127, 9, 9, 9]),
        ("unspecified-v4", [0; 4]),
        ("broadcast-v4", [255; 4]),
        ("multicast-v4", [224, 0, 0, 1]),
        ("link-local-v4", [169, 254, 7, 7]),
    ] {
        sources.push((name, Family::V4, Peer { v4, ..scene.stranger }));
    }
    for (name, head, last) in [
        ("loopback-v6", [0, 0], 1),
        ("unspecified-v6", [0, 0], 0),
        ("multicast-v6", [0xff, 2], 1),
        ("link-local-v6", [0xfe, 0x80], 9),
    ] {
        sources.push((name, Family::V6, Peer { v6: address6(head, last), ..scene.stranger }));
    }
    for (name, family, from) in sources {
        cases.push(Case::one(format!("T30/from-{name}/tcp"), no_grant(syn(from, host.peer, family))));
        cases.push(Case::one(format!("T30/from-{name}/udp"), no_grant(web(from, host.peer, family))));
        // A host's own address is an ordinary one to the program; it earns nothing without a token.
        if !name.starts_with("own") {
            let expected = dropped(knock(from, family), DropReason::KnockBadSource);
            cases.push(Case::one(format!("T30/from-{name}/knock"), expected));
        }
    }
    let mut destinations = vec![("broadcast", Family::V4, Peer { mac: [0xff; 6], v4: host.broadcast, ..host.peer })];
    for (name, v4) in [
        ("limited-broadcast", [255; 4]),
        ("all-hosts", [224, 0, 0, 1]),
        ("mdns-v4", [224, 0, 0, 251]),
        ("unspecified-v4", [0; 4]),
        ("loopback-v4", [127, 0, 0, 1]),
        ("loopback-v4-other", [127, 9, 9, 9]),
    ] {
        destinations.push((name, Family::V4, Peer { v4, ..host.peer }));
    }
    for (name, head, last) in [
        ("all-nodes", [0xff, 2], 1),
        ("mdns-v6", [0xff, 2], 0xfb),
        ("unspecified-v6", [0, 0], 0),
        ("loopback-v6", [0, 0], 1),
    ] {
        destinations.push((name, Family::V6, Peer { v6: address6(head, last), ..host.peer }));
    }
    for (name, family, to) in destinations {
        cases.push(Case::one(format!("T30/to-{name}/tcp"), no_grant(syn(scene.stranger, to, family))));
        cases.push(Case::one(format!("T30/to-{name}/udp"), no_grant(web(scene.stranger, to, family))));
    }
    // An IPv4-mapped address in an IPv6 packet (RFC 4942 §2.2) would be taken for that IPv4 address.
    let mapped_granted = Peer { v6: addr::from_v4(scene.granted.v4), ..scene.stranger };
    let mapped_host = Peer { v6: addr::from_v4(host.peer.v4), ..host.peer };
    let mapped = |frame| dropped(frame, DropReason::MappedAddress);
    cases.extend([
        Case::one("T30/from-mapped-granted", mapped(syn(mapped_granted, host.peer, Family::V6))),
        Case::one("T30/to-mapped-host", mapped(syn(scene.stranger, mapped_host, Family::V6))),
        Case::one("T30/mapped-both", mapped(syn(mapped_granted, mapped_host, Family::V6))),
        Case::one("T30/mapped-knock", mapped(knock(mapped_granted, Family::V6))),
    ]);
    for family in Family::BOTH {
        let name = family.name();
        let foreign = Peer { mac: [2, 9, 9, 9, 9, 9], ..host.peer };
        let everybody = Peer { mac: [0xff; 6], ..host.peer };
        let elsewhere = Peer { v4: [198, 51, 100, 77], v6: address6([0x20, 1], 77), ..host.peer };
        let reason = PassReason::OtherDestination;
        cases.extend([
            Case::one(format!("T30/{name}/to-another-mac"), no_grant(syn(scene.stranger, foreign, family))),
            Case::one(format!("T30/{name}/to-the-broadcast-mac"), no_grant(syn(scene.stranger, everybody, family))),
            Case::one(format!("T30/{name}/to-another-host"), passed(syn(scene.stranger, elsewhere, family), reason)),
        ]);
    }
    cases
}

fn address6(head: [u8; 2], last: u8) -> [u8; 16] {
    let mut address = [0; 16];
    address[..2].copy_from_slice(&head);
    address[15] = last;
    address
}
