//! What is cut off, what lies about its length, and what has an odd life or a wrong sum.

use jpat_common::reason::DropReason::{
    BadIpHeader, BadIpLength, BadUdpLength, NoGrant, TruncatedExtension, TruncatedL3, TruncatedL4,
};
use jpat_tests::{
    crafted::seal,
    network::Family,
    packet::{ETHER_IPV4, ETHER_IPV6, HOP_BY_HOP, extended},
};

use crate::evasion::{
    case::{Case, Reach},
    shot::{KINDS, Kind, Shot, TCP4, TCP6, UDP4, UDP6},
};

/// A plain packet with some bytes of its IP header replaced, and the sum made right.
fn patched(shot: &Shot, kind: Kind, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut packet = shot.plain(kind);
    packet[at..at + bytes.len()].copy_from_slice(bytes);
    if kind.family == Family::V4 { seal(packet) } else { packet }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in KINDS {
        let header = if kind.is_tcp { 20 } else { 8 };
        for kept in [0, 1, 4, 7, 8, 12, 16, 19].into_iter().filter(|kept| *kept < header) {
            let case = Case::new(format!("cut_after_{kept}"), kind, TruncatedL4, move |shot| {
                shot.frame(kind.ether_type(), &shot.packet(kind.family, kind.protocol(), &shot.segment(kind)[..kept]))
            });
            cases.push(case.reaches(Reach::Device).lost());
        }
        let ip = if kind.family == Family::V4 { 20 } else { 40 };
        for kept in [0, 1, 9, 19, 39].into_iter().filter(|kept| *kept < ip) {
            let case = Case::new(format!("ip_header_cut_after_{kept}"), kind, TruncatedL3, move |shot| {
                shot.frame(kind.ether_type(), &shot.plain(kind)[..kept])
            });
            cases.push(case.reaches(Reach::Device).lost());
        }
        cases.push(
            Case::new("frame_cut_in_the_data", kind, BadIpLength, move |shot| {
                let packet = shot.plain(kind);
                shot.frame(kind.ether_type(), &packet[..packet.len() - 5])
            })
            .reaches(Reach::Device)
            .lost(),
        );
        cases.push(Case::new("padding_behind_the_packet", kind, NoGrant, move |shot| {
            shot.frame(kind.ether_type(), &[shot.plain(kind), vec![0xee; 60]].concat())
        }));
        for life in [0, 1, 2, 255] {
            let at = if kind.family == Family::V4 { 8 } else { 7 };
            cases.push(Case::new(format!("hops_left_{life}"), kind, NoGrant, move |shot| {
                shot.frame(kind.ether_type(), &patched(shot, kind, at, &[life]))
            }));
        }
        cases.push(
            Case::new("wrong_transport_checksum", kind, NoGrant, move |shot| {
                let mut segment = shot.segment(kind);
                let at = if kind.is_tcp { 16 } else { 6 };
                segment[at] ^= 0x55;
                shot.frame(kind.ether_type(), &shot.packet(kind.family, kind.protocol(), &segment))
            })
            .reaches(Reach::Transport),
        );
        cases.push(Case::new("odd_traffic_class", kind, NoGrant, move |shot| {
            let (at, bytes): (usize, &[u8]) = if kind.family == Family::V4 { (1, &[0xff]) } else { (0, &[0x6f]) };
            shot.frame(kind.ether_type(), &patched(shot, kind, at, bytes))
        }));
        let version = if kind.family == Family::V4 { 0x65 } else { 0x50 };
        cases.push(
            Case::new("another_version", kind, BadIpHeader, move |shot| {
                shot.frame(kind.ether_type(), &patched(shot, kind, 0, &[version]))
            })
            .reaches(Reach::Device)
            .lost(),
        );
        let crossed = if kind.family == Family::V4 { ETHER_IPV6 } else { ETHER_IPV4 };
        cases.push(
            Case::new("under_the_other_ether_type", kind, BadIpHeader, move |shot| {
                shot.frame(crossed, &shot.plain(kind))
            })
            .reaches(Reach::Device)
            .lost(),
        );
    }
    for kind in [TCP4, UDP4] {
        cases.push(
            Case::new("wrong_header_checksum", kind, NoGrant, move |shot| {
                let mut packet = shot.plain(kind);
                packet[10] ^= 0x55;
                shot.frame(ETHER_IPV4, &packet)
            })
            .reaches(Reach::Device),
        );
        for (name, length, reason) in [
            ("total_length_0", 0, BadIpLength),
            ("total_length_19", 19, BadIpLength),
            ("total_length_of_the_header", 20, TruncatedL4),
            ("total_length_in_the_header", 27, TruncatedL4),
            ("total_length_beyond_the_frame", 1_400, BadIpLength),
            ("total_length_65535", 65_535, BadIpLength),
        ] {
            let case = Case::new(name, kind, reason, move |shot| {
                shot.frame(ETHER_IPV4, &patched(shot, kind, 2, &u16::to_be_bytes(length)))
            });
            cases.push(case.reaches(Reach::Device).lost());
        }
    }
    for kind in [TCP6, UDP6] {
        for (name, length, reason) in [
            ("payload_length_0", 0, TruncatedL4),
            ("payload_length_in_the_header", 7, TruncatedL4),
            ("payload_length_beyond_the_frame", 1_400, BadIpLength),
        ] {
            let case = Case::new(name, kind, reason, move |shot| {
                shot.frame(ETHER_IPV6, &patched(shot, kind, 4, &u16::to_be_bytes(length)))
            });
            cases.push(case.reaches(Reach::Device).lost());
        }
        // Linux takes the frame's length where a hop-by-hop header could hold the jumbo option and does not.
        cases.push(
            Case::new("payload_length_0_with_hop_by_hop", kind, TruncatedExtension, move |shot| {
                let (next, behind) = extended(&[HOP_BY_HOP], kind.protocol(), &shot.segment(kind));
                let mut packet = shot.packet(kind.family, next, &behind);
                packet[4..6].fill(0);
                shot.frame(ETHER_IPV6, &packet)
            })
            .lost(),
        );
        for (name, length, claimed) in [
            ("jumbogram", 70_000_u32, 0_u16),
            ("jumbo_option_below_65536", 100, 0),
            ("jumbo_option_and_length", 70_000, 0xffff),
        ] {
            let reason = if claimed == 0 { TruncatedExtension } else { NoGrant };
            let case = Case::new(name, kind, reason, move |shot| {
                let mut behind = vec![kind.protocol(), 0, 0xc2, 4];
                behind.extend(length.to_be_bytes());
                behind.extend(shot.segment(kind));
                let mut packet = shot.packet(kind.family, HOP_BY_HOP, &behind);
                if claimed == 0 {
                    packet[4..6].fill(0);
                }
                shot.frame(ETHER_IPV6, &packet)
            });
            let case = case.reaches(Reach::Device);
            cases.push(if claimed == 0 { case.lost() } else { case });
        }
    }
    for kind in [UDP4, UDP6] {
        for (name, length, reason, reach) in [
            // RFC 2675 §4 lets IPv6 mean "as long as the packet" by it, and Linux does so in every packet.
            ("udp_length_0", 0, BadUdpLength, if kind == UDP6 { Reach::Service } else { Reach::Transport }),
            ("udp_length_7", 7, BadUdpLength, Reach::Transport),
            ("udp_length_8", 8, NoGrant, Reach::Transport),
            ("udp_length_20", 20, NoGrant, Reach::Service),
            ("udp_length_beyond_the_packet", 49, BadUdpLength, Reach::Transport),
            ("udp_length_65535", 65_535, BadUdpLength, Reach::Transport),
        ] {
            let case = Case::new(name, kind, reason, move |shot| {
                let datagram = shot.ends(kind.family).udp_of_length(length, &shot.payload());
                shot.frame(kind.ether_type(), &shot.packet(kind.family, kind.protocol(), &datagram))
            });
            cases.push(case.reaches(reach));
        }
    }
    cases.push(Case::new("no_checksum", UDP4, NoGrant, move |shot| {
        let mut datagram = shot.segment(UDP4);
        datagram[6..8].fill(0);
        shot.frame(ETHER_IPV4, &shot.packet(Family::V4, UDP4.protocol(), &datagram))
    }));
    cases.push(
        Case::new("no_checksum", UDP6, NoGrant, move |shot| {
            let mut datagram = shot.segment(UDP6);
            datagram[6..8].fill(0);
            shot.frame(ETHER_IPV6, &shot.packet(Family::V6, UDP6.protocol(), &datagram))
        })
        .reaches(Reach::Transport),
    );
    // As traceroute asks: each hop further than the last, a port that counts up would leave the protected one.
    for kind in KINDS {
        let judged = [crate::evasion::case::drop(NoGrant); 30];
        cases.push(Case::of_several("traceroute", kind, &judged, move |shot| {
            let at = if kind.family == Family::V4 { 8 } else { 7 };
            (1..=30).map(|life| shot.frame(kind.ether_type(), &patched(shot, kind, at, &[life]))).collect()
        }));
    }
    cases
}
