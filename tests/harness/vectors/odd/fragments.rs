//! Fragments: first ones for a protected port never pass, so later ones may.

use jpat_common::reason::{DropReason, PassReason};
use jpat_ebpf::verdict::Verdict;

use super::{syn, v6};
use crate::{
    packet::{
        DESTINATION_OPTIONS, ETHER_IPV4, ETHER_IPV6, FRAGMENT, ICMP, SYN, TCP, UDP, ethernet, extended, fragment, ipv4,
        ipv6, tcp, udp,
    },
    vectors::Vector,
    world::{ALLOWED, FREE_PORT, GRANTED, HOST4, HOST6, KNOCK_PORT, OTHER4, OTHER6, STRANGER, Sender, WEB, WEB_PORT},
};

const MORE: u16 = 0x2000;
const DO_NOT: u16 = 0x4000;

fn four(sender: &Sender, destination: [u8; 4], protocol: u8, field: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(ETHER_IPV4, &ipv4(sender.v4, destination, protocol, field, &[], payload))
}

fn six(sender: &Sender, next: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(ETHER_IPV6, &ipv6(sender.v6, HOST6, next, payload))
}

/// Fragments of both versions.
pub(in crate::vectors) fn fragments() -> Vec<Vector> {
    let mut vectors = of_ipv4();
    vectors.extend(of_ipv6());
    vectors
}

fn of_ipv4() -> Vec<Vector> {
    let first = Verdict::Drop(DropReason::FirstFragment);
    let data = [0; 16];
    let web = udp(WEB_PORT, &data);
    let free = udp(FREE_PORT, &data);
    vec![
        Vector::new("frag4/first/granted", four(&GRANTED, HOST4, UDP, MORE, &web), WEB, first),
        Vector::new("frag4/first/stranger", four(&STRANGER, HOST4, TCP, MORE, &syn()), WEB, first),
        Vector::drop(
            "frag4/first/knock",
            four(&STRANGER, HOST4, UDP, MORE, &udp(KNOCK_PORT, &data)),
            DropReason::KnockFragmented,
        ),
        Vector::pass("frag4/first/allowed", four(&ALLOWED, HOST4, UDP, MORE, &web), PassReason::AlwaysAllow),
        Vector::pass("frag4/first/unprotected", four(&STRANGER, HOST4, UDP, MORE, &free), PassReason::UnprotectedPort),
        Vector::pass(
            "frag4/first/another-destination",
            four(&STRANGER, OTHER4, UDP, MORE, &web),
            PassReason::OtherDestination,
        ),
        Vector::pass("frag4/first/icmp", four(&STRANGER, HOST4, ICMP, MORE, &[8; 16]), PassReason::Icmp),
        Vector::drop("frag4/tiny/tcp", four(&GRANTED, HOST4, TCP, MORE, &syn()[..16]), DropReason::TinyFragment),
        Vector::drop("frag4/tiny/tcp-8", four(&ALLOWED, HOST4, TCP, MORE, &syn()[..8]), DropReason::TinyFragment),
        Vector::drop("frag4/tiny/udp", four(&GRANTED, HOST4, UDP, MORE, &web[..4]), DropReason::TinyFragment),
        Vector::pass("frag4/middle", four(&STRANGER, HOST4, TCP, MORE | 1, &syn()), PassReason::LaterFragment),
        Vector::pass("frag4/last", four(&STRANGER, HOST4, TCP, 2, &syn()), PassReason::LaterFragment),
        Vector::pass("frag4/last-at-the-end", four(&STRANGER, HOST4, TCP, 0x1fff, &syn()), PassReason::LaterFragment),
        Vector::new(
            "frag4/do-not-fragment",
            four(&STRANGER, HOST4, TCP, DO_NOT, &syn()),
            WEB,
            Verdict::Drop(DropReason::NoGrant),
        ),
        Vector::new("frag4/reserved-flag", four(&STRANGER, HOST4, TCP, 0x8000 | MORE, &syn()), WEB, first),
    ]
}

fn of_ipv6() -> Vec<Vector> {
    let first = Verdict::Drop(DropReason::FirstFragment);
    let (options, behind) = extended(&[DESTINATION_OPTIONS], TCP, &syn());
    let atomic_twice = fragment(FRAGMENT, 0, false, &fragment(TCP, 0, false, &syn()));
    let later_after_atomic = fragment(FRAGMENT, 0, false, &fragment(TCP, 8, true, &syn()));
    let (hop, extended_later) = extended(&[0], FRAGMENT, &fragment(TCP, 8, false, &syn()));
    let odd = [0; 13];
    vec![
        Vector::new("frag6/first/granted", six(&GRANTED, FRAGMENT, &fragment(TCP, 0, true, &syn())), WEB, first),
        Vector::new("frag6/first/stranger", v6(FRAGMENT, &fragment(TCP, 0, true, &syn())), WEB, first),
        Vector::new("frag6/first/options", v6(FRAGMENT, &fragment(options, 0, true, &behind)), WEB, first),
        Vector::drop(
            "frag6/first/knock",
            v6(FRAGMENT, &fragment(UDP, 0, true, &udp(KNOCK_PORT, &odd))),
            DropReason::KnockFragmented,
        ),
        Vector::pass(
            "frag6/first/unprotected",
            v6(FRAGMENT, &fragment(TCP, 0, true, &tcp(FREE_PORT, SYN, &[]))),
            PassReason::UnprotectedPort,
        ),
        Vector::drop("frag6/tiny/tcp", v6(FRAGMENT, &fragment(TCP, 0, true, &syn()[..16])), DropReason::TinyFragment),
        Vector::drop(
            "frag6/tiny/options",
            v6(FRAGMENT, &fragment(options, 0, true, &behind[..4])),
            DropReason::TruncatedExtension,
        ),
        Vector::drop("frag6/atomic-twice", v6(FRAGMENT, &atomic_twice), DropReason::SecondFragmentHeader),
        Vector::drop("frag6/later-after-atomic", v6(FRAGMENT, &later_after_atomic), DropReason::SecondFragmentHeader),
        Vector::pass("frag6/middle", v6(FRAGMENT, &fragment(TCP, 8, true, &[0; 16])), PassReason::LaterFragment),
        Vector::pass("frag6/last-odd", v6(FRAGMENT, &fragment(TCP, 8, false, &odd)), PassReason::LaterFragment),
        Vector::pass("frag6/later/hop-by-hop", v6(hop, &extended_later), PassReason::LaterFragment),
        Vector::drop("frag6/middle-odd", v6(FRAGMENT, &fragment(TCP, 8, true, &odd)), DropReason::MalformedFragment),
        Vector::pass(
            "frag6/last-to-65535",
            v6(FRAGMENT, &fragment(TCP, 65_528, false, &[0; 7])),
            PassReason::LaterFragment,
        ),
        Vector::drop(
            "frag6/beyond-65535",
            v6(FRAGMENT, &fragment(TCP, 65_528, false, &[0; 8])),
            DropReason::MalformedFragment,
        ),
        Vector::drop("frag6/header-cut", v6(FRAGMENT, &[TCP, 0, 0, 9]), DropReason::TruncatedExtension),
        Vector::pass(
            "frag6/middle-odd/another-destination",
            ethernet(ETHER_IPV6, &ipv6(STRANGER.v6, OTHER6, FRAGMENT, &fragment(TCP, 8, true, &odd))),
            PassReason::OtherDestination,
        ),
    ]
}
