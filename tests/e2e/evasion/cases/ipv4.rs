//! IPv4 headers: every header length, options, and AH in front of the transport header.

use jpat_common::reason::DropReason::{BadIpHeader, NoGrant, TooManyExtensions, TruncatedExtension, TruncatedL3};
use jpat_tests::{
    crafted::seal,
    packet::{AUTHENTICATION, ETHER_IPV4, extended},
};

use crate::evasion::{
    case::{Case, Reach},
    shot::{Shot, TCP4, UDP4},
};

const NO_OPERATION: u8 = 1;
const UNKNOWN: u8 = 0x5e;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [TCP4, UDP4] {
        let with_options = move |shot: &Shot, options: Vec<u8>| {
            let mut header = shot.ip4();
            header.options = options;
            shot.frame(ETHER_IPV4, &header.packet(kind.protocol(), &shot.segment(kind)))
        };
        for words in 0..5_u8 {
            cases.push(
                Case::new(format!("ihl_{words}"), kind, BadIpHeader, move |shot| {
                    let mut packet = shot.plain(kind);
                    packet[0] = 0x40 | words;
                    shot.frame(ETHER_IPV4, &seal(packet))
                })
                .reaches(Reach::Device)
                .lost(),
            );
        }
        for words in 5..16_usize {
            cases.push(Case::new(format!("ihl_{words}"), kind, NoGrant, move |shot| {
                with_options(shot, vec![NO_OPERATION; (words - 5) * 4])
            }));
        }
        cases.push(
            Case::new("ihl_beyond_the_packet", kind, TruncatedL3, move |shot| {
                let mut header = shot.plain(kind);
                header.truncate(40);
                header[0] = 0x4f;
                header[3] = 40;
                shot.frame(ETHER_IPV4, &seal(header))
            })
            .reaches(Reach::Device)
            .lost(),
        );
        cases.push(Case::new("forged_ports_in_options", kind, NoGrant, move |shot| {
            // An unknown option whose data is a header for the unprotected port, where a parser that takes 20 bytes for
            // the length of every header finds ports.
            let free = Shot { port: crate::evasion::arena::FREE, ..*shot };
            let forged = &free.segment(kind)[2..20];
            with_options(shot, [&[UNKNOWN, 20], forged].concat())
        }));
        let named: [(&str, &[u8]); 10] = [
            ("record_route", &[7, 15, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("loose_source_route_used_up", &[131, 7, 8, 192, 0, 2, 9]),
            ("strict_source_route_used_up", &[137, 7, 8, 192, 0, 2, 9]),
            ("timestamps", &[68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            ("router_alert", &[148, 4, 0, 0]),
            ("stream_id", &[136, 4, 0, 7]),
            ("quick_start", &[25, 8, 0, 0, 0, 0, 0, 0]),
            ("unknown_option", &[0x5e, 6, 1, 2, 3, 4]),
            ("end_of_list_first", &[0, 7, 200, 9, 9, 9, 9, 9]),
            ("no_operations", &[1, 1, 1, 1, 1, 1, 1, 1]),
        ];
        for (name, options) in named {
            let case = Case::new(name, kind, NoGrant, move |shot| with_options(shot, options.to_vec()));
            // TCP's answer takes the route back.
            let is_elsewhere = kind.is_tcp && name.contains("source_route");
            cases.push(if is_elsewhere { case.reaches(Reach::Transport) } else { case });
        }
        for (name, options) in [
            ("option_of_length_0", &[0x5e, 0, 0, 0]),
            ("option_beyond_the_header", &[0x5e, 60, 0, 0]),
            ("source_route_to_elsewhere", &[131, 7, 4, 198]),
        ] {
            // The stack answers these with a Parameter Problem: that nothing comes back is part of the case.
            let case = Case::new(name, kind, NoGrant, move |shot| with_options(shot, options.to_vec()));
            cases.push(case.reaches(Reach::Device));
        }
        for count in 1..=8 {
            let reason = if count <= 6 { NoGrant } else { TooManyExtensions };
            let case = Case::new(format!("{count}_authentication_headers"), kind, reason, move |shot| {
                let (next, behind) = extended(&vec![AUTHENTICATION; count], kind.protocol(), &shot.segment(kind));
                shot.frame(ETHER_IPV4, &shot.packet(kind.family, next, &behind))
            });
            let case = case.reaches(Reach::Device);
            cases.push(if count <= 6 { case } else { case.lost() });
        }
        cases.push(
            Case::new("authentication_header_cut", kind, TruncatedExtension, move |shot| {
                let (next, behind) = extended(&[AUTHENTICATION], kind.protocol(), &[]);
                shot.frame(ETHER_IPV4, &shot.packet(kind.family, next, &behind[..20]))
            })
            .reaches(Reach::Device)
            .lost(),
        );
    }
    cases
}
