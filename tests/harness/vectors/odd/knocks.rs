//! Datagrams for the knock port.

use jpat_common::{
    knock::MAX_PAYLOAD,
    reason::{DropReason, PassReason},
};
use jpat_ebpf::verdict::Verdict;

use super::{patched, v4, v6};
use crate::{
    packet::{ETHER_IPV4, ETHER_IPV6, UDP, ethernet, ipv4, ipv6, udp},
    vectors::Vector,
    world::{ALLOWED, HOST4, HOST6, KNOCK_PORT, OTHER4, STRANGER},
};

/// Sizes, sources and places.
pub(in crate::vectors) fn knocks() -> Vec<Vector> {
    let mut vectors = Vec::new();
    for length in [1, 2, 7, 8, 9, 15, 16, 17, 100, 1231, MAX_PAYLOAD] {
        let mut payload: Vec<u8> = (0..length).map(|at| (at * 7 + length) as u8).collect();
        payload[0] = b'e';
        let datagram = udp(KNOCK_PORT, &payload);
        vectors.push(Vector::new(format!("knock4/{length}"), v4(UDP, &datagram), 0, Verdict::Knock));
        vectors.push(Vector::new(format!("knock6/{length}"), v6(UDP, &datagram), 0, Verdict::Knock));
    }
    let knock = udp(KNOCK_PORT, b"eyJ.eyJ.sig");
    for source in [[0, 0, 0, 0], [127, 0, 0, 1], [169, 254, 7, 7], [224, 0, 0, 1], [255; 4]] {
        let frame = ethernet(ETHER_IPV4, &ipv4(source, HOST4, UDP, 0, &[], &knock));
        vectors.push(Vector::drop(format!("knock4/from-{source:?}"), frame, DropReason::KnockBadSource));
    }
    for (head, tail) in [([0, 0], 0), ([0, 0], 1), ([0xfe, 0x80], 1), ([0xff, 0x02], 1)] {
        let mut source = [0; 16];
        (source[0], source[1], source[15]) = (head[0], head[1], tail);
        let frame = ethernet(ETHER_IPV6, &ipv6(source, HOST6, UDP, &knock));
        vectors.push(Vector::drop(format!("knock6/from-{head:x?}-{tail}"), frame, DropReason::KnockBadSource));
    }
    let udp_length = |length: [u8; 2]| patched(v4(UDP, &knock), 14 + 20 + 4, &length);
    vectors.extend([
        Vector::drop("knock4/empty", v4(UDP, &udp(KNOCK_PORT, b"")), DropReason::KnockEmpty),
        Vector::drop("knock6/1233", v6(UDP, &udp(KNOCK_PORT, &[b'x'; MAX_PAYLOAD + 1])), DropReason::KnockTooLong),
        Vector::drop("knock4/udp-length-0", udp_length([0, 0]), DropReason::KnockBadLength),
        Vector::drop("knock4/udp-length-beyond", udp_length([0, 20]), DropReason::KnockBadLength),
        Vector::new("knock4/udp-length-below", udp_length([0, 11]), 0, Verdict::Knock),
        Vector::new("knock4/padded", [v4(UDP, &knock), vec![0xee; 20]].concat(), 0, Verdict::Knock),
        Vector::new(
            "knock4/always-allowed-too",
            ethernet(ETHER_IPV4, &ipv4(ALLOWED.v4, HOST4, UDP, 0, &[], &knock)),
            0,
            Verdict::Knock,
        ),
        Vector::new(
            "knock4/broadcast",
            ethernet(ETHER_IPV4, &ipv4(STRANGER.v4, [255; 4], UDP, 0, &[], &knock)),
            0,
            Verdict::Knock,
        ),
        Vector::pass(
            "knock4/another-destination",
            ethernet(ETHER_IPV4, &ipv4(STRANGER.v4, OTHER4, UDP, 0, &[], &knock)),
            PassReason::OtherDestination,
        ),
    ]);
    vectors
}
