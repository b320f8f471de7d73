//! TCP: all flags, options, offsets. A port that answers any of them tells that it is there.

use jpat_common::reason::DropReason::{BadTcpHeader, NoGrant};
use jpat_tests::packet::{SYN, TCP};

use crate::evasion::{
    case::{Case, Reach, drop},
    shot::{Kind, Shot, TCP4, TCP6},
};

const FIN: u8 = 0x01;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

/// What a listener makes of a segment that belongs to no connection (RFC 9293 §3.10.7.2, and Linux refuses SYN with FIN).
const fn answers(flags: u8) -> bool {
    flags & RST == 0 && (flags & ACK != 0 || (flags & SYN != 0 && flags & FIN == 0))
}

fn segment(shot: &Shot, kind: Kind, flags: u8, options: &[u8]) -> Vec<u8> {
    let segment = shot.ends(kind.family).tcp(flags, options, &shot.payload());
    shot.frame(kind.ether_type(), &shot.packet(kind.family, TCP, &segment))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [TCP4, TCP6] {
        for flags in 0..64 {
            let case = Case::of_several(format!("flags_{flags:02x}"), kind, &[drop(NoGrant); 4], move |shot| {
                [0, ECE, CWR, ECE | CWR].map(|congestion| segment(shot, kind, flags | congestion, &[])).into()
            });
            cases.push(case.reaches(if answers(flags) { Reach::Service } else { Reach::Transport }));
        }
        let named: [(&str, &[u8]); 8] = [
            ("maximum_segment_size", &[2, 4, 5, 0xb4]),
            ("everything_a_client_sends", &[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7]),
            ("fast_open_cookie_request", &[34, 2, 1, 1]),
            ("fast_open_cookie", &[34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1]),
            ("multipath", &[30, 12, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8]),
            ("experimental_knock", &[253, 8, 1, 2, 3, 4, 5, 6]),
            ("40_bytes_of_options", &[1; 40]),
            ("option_of_length_0", &[254, 0, 0, 0]),
        ];
        for (name, options) in named {
            cases.push(Case::new(name, kind, NoGrant, move |shot| segment(shot, kind, SYN, options)));
        }
        for words in [0, 1, 4, 15] {
            cases.push(
                Case::new(format!("offset_{words}"), kind, BadTcpHeader, move |shot| {
                    let mut segment = shot.ends(kind.family).tcp(SYN, &[], &shot.payload()[..32]);
                    segment[12] = words << 4;
                    shot.frame(kind.ether_type(), &shot.packet(kind.family, TCP, &segment))
                })
                .reaches(Reach::Transport),
            );
        }
        for (name, at, bytes) in [
            ("sequence_number_0", 4, &[0_u8; 4][..]),
            ("window_0", 14, &[0; 2]),
            ("urgent_pointer", 18, &[0xff; 2]),
            ("accurate_ecn_flag", 12, &[0x51]),
            ("reserved_bits", 12, &[0x5f]),
        ] {
            cases.push(Case::new(name, kind, NoGrant, move |shot| {
                let ends = shot.ends(kind.family);
                let mut segment = ends.tcp(SYN, &[], &shot.payload());
                segment[at..at + bytes.len()].copy_from_slice(bytes);
                ends.sum_again(&mut segment);
                shot.frame(kind.ether_type(), &shot.packet(kind.family, TCP, &segment))
            }));
        }
        cases.push(Case::of_several("a_handshake_without_its_answer", kind, &[drop(NoGrant); 3], move |shot| {
            [SYN, ACK, ACK | 0x08].map(|flags| segment(shot, kind, flags, &[])).into()
        }));
        cases.push(Case::new("without_data", kind, NoGrant, move |shot| {
            let segment = shot.ends(kind.family).tcp(SYN, &[], &[]);
            shot.frame(kind.ether_type(), &shot.packet(kind.family, TCP, &segment))
        }));
    }
    cases
}
