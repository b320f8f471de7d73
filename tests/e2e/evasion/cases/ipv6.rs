//! IPv6 extension headers: each kind, chains of every length, options that a stack answers, routing headers, lies.

use jpat_common::reason::DropReason::{
    BadIpHeader, MappedAddress, NoGrant, RoutingHeader0, SecondFragmentHeader, TooManyExtensions, TruncatedExtension,
};
use jpat_tests::{
    crafted::{Ends, extended},
    packet::{AUTHENTICATION, DESTINATION_OPTIONS, ETHER_IPV6, FRAGMENT, HIP, HOP_BY_HOP, MOBILITY, ROUTING, SHIM6},
};

use crate::evasion::{
    case::{Case, Reach},
    shot::{Kind, Shot, TCP6, UDP6},
};

fn chain(shot: &Shot, kind: Kind, kinds: &[u8]) -> Vec<u8> {
    let (next, behind) = extended(shot.mark.into(), kinds, kind.protocol(), &shot.segment(kind));
    shot.packet(kind.family, next, &behind)
}

/// One header of 8 bytes or more with this content behind its length.
fn one(shot: &Shot, kind: Kind, header: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind.protocol(), ((content.len() + 2) / 8 - 1) as u8];
    bytes.extend(content);
    bytes.extend(shot.segment(kind));
    shot.packet(kind.family, header, &bytes)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [TCP6, UDP6] {
        for count in 0..=8 {
            let reason = if count <= 6 { NoGrant } else { TooManyExtensions };
            let case = Case::new(format!("{count}_destination_options"), kind, reason, move |shot| {
                shot.frame(ETHER_IPV6, &chain(shot, kind, &vec![DESTINATION_OPTIONS; count]))
            });
            cases.push(if count <= 6 { case } else { case.lost() });
        }
        for (name, header, reach) in [
            ("hop_by_hop", HOP_BY_HOP, Reach::Service),
            ("routing_2", ROUTING, Reach::Service),
            ("atomic_fragment", FRAGMENT, Reach::Service),
            // Stacks without IPsec, mobility, HIP or Shim6 do not go on behind these.
            ("authentication", AUTHENTICATION, Reach::Device),
            ("mobility", MOBILITY, Reach::Device),
            ("hip", HIP, Reach::Device),
            ("shim6", SHIM6, Reach::Device),
        ] {
            let case =
                Case::new(name, kind, NoGrant, move |shot| shot.frame(ETHER_IPV6, &chain(shot, kind, &[header])));
            cases.push(case.reaches(reach));
        }
        let mixed: [(&str, &[u8]); 5] = [
            ("hop_by_hop_and_atomic_fragment", &[HOP_BY_HOP, FRAGMENT]),
            ("atomic_fragment_and_destination_options", &[FRAGMENT, DESTINATION_OPTIONS]),
            ("options_routing_options", &[DESTINATION_OPTIONS, ROUTING, DESTINATION_OPTIONS]),
            ("all_of_rfc_8200", &[HOP_BY_HOP, DESTINATION_OPTIONS, ROUTING, FRAGMENT, DESTINATION_OPTIONS]),
            ("routing_twice", &[ROUTING, ROUTING]),
        ];
        for (name, kinds) in mixed {
            cases.push(Case::new(name, kind, NoGrant, move |shot| shot.frame(ETHER_IPV6, &chain(shot, kind, kinds))));
        }
        cases.push(
            Case::new("hop_by_hop_second", kind, NoGrant, move |shot| {
                shot.frame(ETHER_IPV6, &chain(shot, kind, &[DESTINATION_OPTIONS, HOP_BY_HOP]))
            })
            .reaches(Reach::Device),
        );
        for (name, kinds) in [
            ("atomic_fragment_twice", &[FRAGMENT, FRAGMENT][..]),
            ("atomic_fragment_options_atomic_fragment", &[FRAGMENT, DESTINATION_OPTIONS, FRAGMENT]),
        ] {
            cases.push(
                Case::new(name, kind, SecondFragmentHeader, move |shot| {
                    shot.frame(ETHER_IPV6, &chain(shot, kind, kinds))
                })
                // Other stacks took these (CVE-2023-4809); Linux does not.
                .reaches(Reach::Device)
                .lost(),
            );
        }
        // Type, segments left.
        for (name, routing_type, left, reason, reach) in [
            ("routing_0_used_up", 0, 0, RoutingHeader0, Reach::Service),
            ("routing_0_to_go", 0, 1, RoutingHeader0, Reach::Device),
            ("routing_1_used_up", 1, 0, NoGrant, Reach::Service),
            ("routing_3_to_go", 3, 1, NoGrant, Reach::Device),
            ("routing_4_to_go", 4, 1, NoGrant, Reach::Device),
            ("routing_253_used_up", 253, 0, NoGrant, Reach::Service),
            ("routing_253_to_go", 253, 1, NoGrant, Reach::Device),
        ] {
            let case = Case::new(name, kind, reason, move |shot| {
                let content = [&[routing_type, left, 0, 0, 0, 0], &shot.ip6().destination.octets()[..]].concat();
                shot.frame(ETHER_IPV6, &one(shot, kind, ROUTING, &content))
            });
            let case = case.reaches(reach);
            cases.push(if reason == RoutingHeader0 { case.lost() } else { case });
        }
        // What a stack must do with an option it does not know (RFC 8200 §4.2).
        for (name, option, reach) in [
            ("unknown_option_skip", 0x1e, Reach::Service),
            ("unknown_option_discard", 0x5e, Reach::Device),
            ("unknown_option_answer", 0x9e, Reach::Device),
            ("unknown_option_answer_unless_multicast", 0xde, Reach::Device),
            ("home_address_option", 0xc9, Reach::Device),
        ] {
            for (place, header) in [("destination", DESTINATION_OPTIONS), ("hop_by_hop", HOP_BY_HOP)] {
                let case = Case::new(format!("{place}_{name}"), kind, NoGrant, move |shot| {
                    shot.frame(ETHER_IPV6, &one(shot, kind, header, &[option, 4, 0, 0, 0, 0]))
                });
                cases.push(case.reaches(reach));
            }
        }
        cases.push(Case::new("router_alert", kind, NoGrant, move |shot| {
            shot.frame(ETHER_IPV6, &one(shot, kind, HOP_BY_HOP, &[5, 2, 0, 0, 1, 0]))
        }));
        cases.push(Case::new("options_of_256_bytes", kind, NoGrant, move |shot| {
            let content = [[0x1e, 252].as_slice(), &[0; 252]].concat();
            shot.frame(ETHER_IPV6, &one(shot, kind, DESTINATION_OPTIONS, &content))
        }));
        for (name, words) in [("extension_beyond_the_packet", 40), ("extension_of_2048_bytes", 255)] {
            cases.push(
                Case::new(name, kind, TruncatedExtension, move |shot| {
                    let mut packet = chain(shot, kind, &[DESTINATION_OPTIONS]);
                    packet[41] = words;
                    shot.frame(ETHER_IPV6, &packet)
                })
                .reaches(Reach::Device)
                .lost(),
            );
        }
        cases.push(
            Case::new("extension_cut", kind, TruncatedExtension, move |shot| {
                shot.frame(ETHER_IPV6, &shot.packet(kind.family, DESTINATION_OPTIONS, &[kind.protocol(), 0, 1]))
            })
            .reaches(Reach::Device)
            .lost(),
        );
        cases.push(
            Case::new("mapped_source", kind, MappedAddress, move |shot| {
                let mut header = shot.ip6();
                header.source = shot.ip4().source.to_ipv6_mapped();
                let ends = Ends { source: header.source.into(), ..shot.ends(kind.family) };
                shot.frame(ETHER_IPV6, &header.packet(kind.protocol(), &shot.segment_of(kind, &ends)))
            })
            .reaches(if kind.is_tcp { Reach::Transport } else { Reach::Service })
            .lost(),
        );
        cases.push(
            Case::new("version_4", kind, BadIpHeader, move |shot| {
                let mut packet = shot.plain(kind);
                packet[0] = 0x40;
                shot.frame(ETHER_IPV6, &packet)
            })
            .reaches(Reach::Device)
            .lost(),
        );
    }
    cases
}
