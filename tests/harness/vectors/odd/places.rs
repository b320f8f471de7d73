//! Whose packets are judged, and tunnels to them.

use jpat_common::{
    reason::{DropReason, PassReason},
    settings::{FLAG_ALWAYS_ALLOW, FLAG_ANY_DESTINATION, FLAG_DROP_TUNNELS},
};
use jpat_ebpf::verdict::Verdict;

use super::{syn, v4, v6};
use crate::{
    packet::{ETHER_IPV4, ETHER_IPV6, TCP, UDP, ethernet, ipv4, ipv6, udp},
    vectors::Vector,
    world::{ALLOWED, BROADCAST4, HOST4, OTHER4, OTHER6, STRANGER, WEB, WEB_PORT},
};

fn to4(destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(ETHER_IPV4, &ipv4(STRANGER.v4, destination, protocol, 0, &[], payload))
}

fn to6(destination: [u8; 16], protocol: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(ETHER_IPV6, &ipv6(STRANGER.v6, destination, protocol, payload))
}

/// Destinations that are judged without being an address of the host, and settings that change it.
pub(in crate::vectors) fn destinations() -> Vec<Vector> {
    let no_grant = Verdict::Drop(DropReason::NoGrant);
    let web = udp(WEB_PORT, b"hello");
    let mut vectors: Vec<_> = [BROADCAST4, [255; 4], [224, 0, 0, 251], [239, 1, 2, 3], [0; 4], [127, 0, 0, 1]]
        .map(|to| Vector::new(format!("to4/{to:?}"), to4(to, UDP, &web), WEB, no_grant))
        .into();
    for (head, tail) in [([0xff, 0x02], 1), ([0xff, 0x0e], 0xfb), ([0, 0], 0), ([0, 0], 1)] {
        let mut to = [0; 16];
        (to[0], to[1], to[15]) = (head[0], head[1], tail);
        vectors.push(Vector::new(format!("to6/{head:x?}-{tail}"), to6(to, UDP, &web), WEB, no_grant));
    }
    let allowed = ethernet(ETHER_IPV4, &ipv4(ALLOWED.v4, HOST4, TCP, 0, &[], &syn()));
    vectors.extend([
        Vector::pass("to4/private-neighbour", to4([192, 0, 2, 2], TCP, &syn()), PassReason::OtherDestination),
        Vector::new("to4/any", to4(OTHER4, TCP, &syn()), WEB, no_grant).with(FLAG_ANY_DESTINATION),
        Vector::new("to6/any", to6(OTHER6, TCP, &syn()), WEB, no_grant).with(FLAG_ANY_DESTINATION),
        Vector::new("always-allow-off", allowed, WEB, no_grant).with(FLAG_ALWAYS_ALLOW),
    ]);
    vectors
}

/// Protocols and ports that carry other packets.
pub(in crate::vectors) fn tunnels() -> Vec<Vector> {
    let inner = to4(HOST4, TCP, &syn())[14..].to_vec();
    let dropped = |name, frame| Vector::drop(name, frame, DropReason::Tunnel).with(FLAG_DROP_TUNNELS);
    let mut vectors = Vec::new();
    for protocol in [4, 41, 47, 50, 55, 94, 97, 108, 115, 137, 143] {
        vectors.push(Vector::pass(format!("tunnel4/{protocol}/pass"), v4(protocol, &inner), PassReason::Tunnel));
        vectors.push(Vector::pass(format!("tunnel6/{protocol}/pass"), v6(protocol, &inner), PassReason::Tunnel));
        vectors.push(dropped(format!("tunnel4/{protocol}/drop"), v4(protocol, &inner)));
        vectors.push(dropped(format!("tunnel6/{protocol}/drop"), v6(protocol, &inner)));
    }
    for port in [1701, 2152, 4500, 4789, 4790, 6080, 6081, 6635, 8472] {
        let frame = v4(UDP, &udp(port, &inner));
        vectors.push(Vector::pass(format!("tunnel4/udp-{port}/pass"), frame.clone(), PassReason::UnprotectedPort));
        vectors.push(dropped(format!("tunnel4/udp-{port}/drop"), frame));
    }
    let allowed = ethernet(ETHER_IPV4, &ipv4(ALLOWED.v4, HOST4, 47, 0, &[], &inner));
    vectors.push(Vector::pass("tunnel4/allowed", allowed, PassReason::AlwaysAllow).with(FLAG_DROP_TUNNELS));
    let elsewhere = to4(OTHER4, 47, &inner);
    vectors.push(
        Vector::pass("tunnel4/another-destination", elsewhere, PassReason::OtherDestination).with(FLAG_DROP_TUNNELS),
    );
    vectors
}
