//! Below the transport header.

use jpat_common::reason::{DropReason, PassReason};
use jpat_ebpf::verdict::Verdict;

use super::{patched, syn, syn4, syn6, v4, v6};
use crate::{
    packet::{
        AUTHENTICATION, DESTINATION_OPTIONS, ETHER_IPV4, ETHER_IPV6, HOP_BY_HOP, ICMP, ICMPV6, ROUTING, SYN, TCP, UDP,
        ethernet, extended, ipv4, ipv6, tagged, tcp, udp,
    },
    vectors::Vector,
    world::{FREE_PORT, GRANTED, HOST4, HOST6, OTHER4, OTHER6, STRANGER, WEB, WEB_PORT},
};

/// Where the IP header starts in an untagged frame.
const IP: usize = 14;
const L4_IN_V4: usize = IP + 20;
const L4_IN_V6: usize = IP + 40;

/// Between the MAC addresses and the IP header.
pub(in crate::vectors) fn link_layer() -> Vec<Vector> {
    let packet = &syn4()[IP..];
    let tag = |tpids: &[u16]| tpids.iter().fold(syn4(), |frame, tpid| tagged(*tpid, 0, &frame));
    let pppoe = |protocol: [u8; 2]| ethernet(0x8864, &[&[0x11, 0, 0, 1, 0, 42], &protocol[..], packet].concat());
    let llc = |header: &[u8]| ethernet(60, &[header, packet].concat());
    let mut vectors = vec![
        Vector::drop("l2/3-tags", tag(&[0x8100, 0x8100, 0x88a8]), DropReason::TooManyTags),
        Vector::drop("l2/4-tags", tag(&[0x8100, 0x8100, 0x88a8, 0x88a8]), DropReason::TooManyTags),
        Vector::drop("l2/cut-in-a-tag", tag(&[0x8100])[..15].to_vec(), DropReason::TruncatedL2),
        Vector::drop("l2/pppoe-session-ipv4", pppoe([0, 0x21]), DropReason::L2Encapsulation),
        Vector::drop("l2/pppoe-session-ipv6", pppoe([0, 0x57]), DropReason::L2Encapsulation),
        Vector::drop("l2/pppoe-session-compressed-number", pppoe([0x21, 0x45]), DropReason::L2Encapsulation),
        Vector::drop("l2/pppoe-cut", pppoe([0, 0x21])[..20].to_vec(), DropReason::TruncatedL2),
        Vector::pass("l2/pppoe-session-lcp", pppoe([0xc0, 0x21]), PassReason::NotIp),
        Vector::pass("l2/pppoe-discovery", ethernet(0x8863, &[0x11, 9, 0, 0, 0, 0]), PassReason::NotIp),
        Vector::drop("l2/llc-ip", llc(&[6, 6, 3]), DropReason::L2Encapsulation),
        Vector::drop("l2/snap-ipv4", llc(&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0]), DropReason::L2Encapsulation),
        Vector::drop("l2/snap-802.1h-ipv6", llc(&[0xaa, 0xaa, 3, 0, 0, 0xf8, 0x86, 0xdd]), DropReason::L2Encapsulation),
        Vector::drop("l2/snap-tag", llc(&[0xaa, 0xaa, 3, 0, 0, 0, 0x81, 0, 0, 1]), DropReason::L2Encapsulation),
        Vector::drop("l2/snap-mpls", llc(&[0xaa, 0xaa, 3, 0, 0, 0, 0x88, 0x47]), DropReason::L2Encapsulation),
        Vector::drop("l2/snap-cut", llc(&[0xaa, 0xaa, 3])[..18].to_vec(), DropReason::TruncatedL2),
        Vector::pass("l2/snap-arp", llc(&[0xaa, 0xaa, 3, 0, 0, 0, 8, 6]), PassReason::NotIp),
        Vector::pass("l2/snap-cdp", llc(&[0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0]), PassReason::NotIp),
        Vector::pass("l2/spanning-tree", llc(&[0x42, 0x42, 3, 0, 0, 0, 0, 0]), PassReason::NotIp),
        Vector::pass("l2/arp", ethernet(0x0806, &[0; 28]), PassReason::NotIp),
        Vector::pass("l2/arp-in-a-tag", tagged(0x8100, 1, &ethernet(0x0806, &[0; 28])), PassReason::NotIp),
        Vector::pass("l2/lldp", ethernet(0x88cc, &[0; 46]), PassReason::NotIp),
        Vector::pass("l2/eapol", ethernet(0x888e, &[0; 46]), PassReason::NotIp),
    ];
    for ether_type in
        [0x8847, 0x8848, 0x4305, 0x88e5, 0x88e7, 0x892f, 0x88fb, 0x894f, 0x22f3, 0x6558, 0x880b, 0x8926, 0x893f, 0xed3e]
    {
        let frame = ethernet(ether_type, &[&[0, 0, 1, 64], packet].concat());
        vectors.push(Vector::drop(
            format!("l2/{ether_type:#06x}-in-a-tag"),
            tagged(0x8100, 1, &frame),
            DropReason::L2Encapsulation,
        ));
        vectors.push(Vector::drop(format!("l2/{ether_type:#06x}"), frame, DropReason::L2Encapsulation));
    }
    vectors
}

/// IP headers, extension headers, and lengths.
pub(in crate::vectors) fn headers() -> Vec<Vector> {
    let no_grant = Verdict::Drop(DropReason::NoGrant);
    let to_other = |next, payload: &[u8]| ethernet(ETHER_IPV6, &ipv6(STRANGER.v6, OTHER6, next, payload));
    let chain = |kinds: &[u8]| extended(kinds, TCP, &syn());
    let six = |kinds: &[u8]| v6(chain(kinds).0, &chain(kinds).1);
    let mapped = jpat_common::addr::from_v4;
    let granted4 = ethernet(ETHER_IPV4, &ipv4(GRANTED.v4, HOST4, TCP, 0, &[], &syn()));
    let granted_udp = ethernet(ETHER_IPV4, &ipv4(GRANTED.v4, HOST4, UDP, 0, &[], &udp(WEB_PORT, b"hello")));
    let granted_udp_length = |length: u8| patched(granted_udp.clone(), L4_IN_V4 + 5, &[length]);
    let padded = [granted4.clone(), vec![0; 6]].concat();
    let web = |name: &str, frame, reason| Vector::new(name, frame, WEB, Verdict::Drop(reason));
    vec![
        Vector::drop("v4/version-6", patched(syn4(), IP, &[0x65]), DropReason::BadIpHeader),
        Vector::drop("v6/version-4", patched(syn6(), IP, &[0x45]), DropReason::BadIpHeader),
        Vector::drop("v4/ihl-4", patched(syn4(), IP, &[0x44]), DropReason::BadIpHeader),
        Vector::drop("v4/ihl-0", patched(syn4(), IP, &[0x40]), DropReason::BadIpHeader),
        Vector::drop("v4/ihl-beyond-the-frame", patched(syn4(), IP, &[0x4f]), DropReason::TruncatedL3),
        Vector::drop("v4/total-length-0", patched(syn4(), IP + 2, &[0, 0]), DropReason::BadIpLength),
        Vector::drop("v4/total-length-below-ihl", patched(syn4(), IP + 2, &[0, 19]), DropReason::BadIpLength),
        Vector::drop("v4/total-length-above-the-frame", patched(syn4(), IP + 2, &[0, 41]), DropReason::BadIpLength),
        Vector::drop("v4/total-length-in-tcp", patched(syn4(), IP + 2, &[0, 39]), DropReason::TruncatedL4),
        Vector::drop("v4/total-length-at-tcp", patched(syn4(), IP + 2, &[0, 20]), DropReason::TruncatedL4),
        Vector::drop("v6/payload-length-in-tcp", patched(syn6(), IP + 4, &[0, 19]), DropReason::TruncatedL4),
        Vector::drop("v6/payload-length-above-the-frame", patched(syn6(), IP + 4, &[0, 21]), DropReason::BadIpLength),
        // Linux does not cut such a packet at its length.
        Vector::drop(
            "v6/payload-length-0-with-hop-by-hop",
            patched(six(&[HOP_BY_HOP]), IP + 4, &[0, 0]),
            DropReason::TruncatedExtension,
        ),
        Vector::new(
            "v4/forged-ports-in-options",
            ethernet(ETHER_IPV4, &ipv4(STRANGER.v4, HOST4, TCP, 0, &tcp(FREE_PORT, SYN, &[]), &syn())),
            WEB,
            no_grant,
        ),
        Vector::new("v4/padding-behind-the-packet", padded, WEB, Verdict::Pass(PassReason::Grant)),
        web("v4/tcp-offset-4", patched(granted4.clone(), L4_IN_V4 + 12, &[0x40]), DropReason::BadTcpHeader),
        web("v4/tcp-offset-0", patched(granted4.clone(), L4_IN_V4 + 12, &[0x00]), DropReason::BadTcpHeader),
        web("v4/tcp-offset-beyond", patched(granted4, L4_IN_V4 + 12, &[0x60]), DropReason::BadTcpHeader),
        web("v6/tcp-offset-beyond", patched(syn6(), L4_IN_V6 + 12, &[0xf0]), DropReason::BadTcpHeader),
        web("v4/udp-length-0", granted_udp_length(0), DropReason::BadUdpLength),
        web("v4/udp-length-7", granted_udp_length(7), DropReason::BadUdpLength),
        web("v4/udp-length-beyond", granted_udp_length(14), DropReason::BadUdpLength),
        Vector::new("v4/udp-length-8", granted_udp_length(8), WEB, Verdict::Pass(PassReason::Grant)),
        Vector::pass(
            "v4/tcp-offset-0/unprotected",
            v4(TCP, &patched(tcp(FREE_PORT, SYN, &[]), 12, &[0])),
            PassReason::UnprotectedPort,
        ),
        Vector::drop("v6/7-extensions", six(&[DESTINATION_OPTIONS; 7]), DropReason::TooManyExtensions),
        Vector::drop("v6/8-ah", six(&[AUTHENTICATION; 8]), DropReason::TooManyExtensions),
        Vector::drop("v4/7-ah", v4(AUTHENTICATION, &chain(&[AUTHENTICATION; 7]).1), DropReason::TooManyExtensions),
        Vector::drop("v6/routing-0", patched(six(&[ROUTING]), L4_IN_V6 + 2, &[0]), DropReason::RoutingHeader0),
        Vector::drop("v6/extension-beyond", patched(six(&[60]), L4_IN_V6 + 1, &[4]), DropReason::TruncatedExtension),
        Vector::drop("v6/extension-of-2048", patched(six(&[60]), L4_IN_V6 + 1, &[255]), DropReason::TruncatedExtension),
        Vector::drop("v6/extension-cut", v6(HOP_BY_HOP, &[TCP, 0, 1]), DropReason::TruncatedExtension),
        Vector::drop("v6/extension-absent", v6(DESTINATION_OPTIONS, &[]), DropReason::TruncatedExtension),
        Vector::drop("v4/ah-cut", v4(AUTHENTICATION, &[TCP, 4, 0, 0]), DropReason::TruncatedExtension),
        Vector::drop("v4/ah-absent", v4(AUTHENTICATION, &[]), DropReason::TruncatedExtension),
        Vector::drop(
            "v6/mapped-source",
            ethernet(ETHER_IPV6, &ipv6(mapped(GRANTED.v4), HOST6, TCP, &syn())),
            DropReason::MappedAddress,
        ),
        Vector::drop(
            "v6/mapped-destination",
            ethernet(ETHER_IPV6, &ipv6(STRANGER.v6, mapped(HOST4), TCP, &syn())),
            DropReason::MappedAddress,
        ),
        Vector::pass(
            "v4/ihl-4/another-destination",
            patched(ethernet(ETHER_IPV4, &ipv4(STRANGER.v4, OTHER4, TCP, 0, &[], &syn())), IP, &[0x44]),
            PassReason::OtherDestination,
        ),
        Vector::pass("v6/tcp-cut/another-destination", to_other(TCP, &syn()[..12]), PassReason::OtherDestination),
        Vector::pass(
            "v6/7-extensions/another-destination",
            to_other(60, &chain(&[60; 7]).1),
            PassReason::OtherDestination,
        ),
        Vector::pass("v4/icmp", v4(ICMP, &[8, 0, 0, 0, 0, 0, 0, 0]), PassReason::Icmp),
        Vector::pass("v6/neighbour-solicitation", v6(ICMPV6, &[135; 24]), PassReason::Icmp),
        Vector::pass("v4/icmpv6", v4(ICMPV6, &[135; 24]), PassReason::OtherProtocol),
        Vector::pass("v4/sctp", v4(132, &syn()), PassReason::OtherProtocol),
        Vector::pass("v4/hop-by-hop-is-no-ipv4-header", v4(HOP_BY_HOP, &chain(&[60]).1), PassReason::OtherProtocol),
        Vector::pass("v6/no-next-header", v6(59, &syn()), PassReason::OtherProtocol),
    ]
}
