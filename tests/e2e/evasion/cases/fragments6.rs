//! IPv6 fragments: headers in front, behind and in pieces; atomic ones; overlaps (RFC 5722); more headers than one
//! (CVE-2023-4809).

use jpat_common::reason::{
    DropReason::{FirstFragment, MalformedFragment, NoGrant, SecondFragmentHeader, TinyFragment, TruncatedExtension},
    PassReason::{LaterFragment, UnprotectedPort},
};
use jpat_tests::{
    crafted::{fragment, pieces},
    packet::{DESTINATION_OPTIONS, ETHER_IPV6, FRAGMENT, HOP_BY_HOP, ROUTING, extended},
};

use crate::evasion::{
    arena::FREE,
    case::{Case, Reach, drop, pass},
    shot::{Kind, Shot, TCP6, UDP6},
};

/// A fragment whose fragmentable part begins with `next`.
fn piece_of(shot: &Shot, next: u8, offset: usize, more: bool, bytes: &[u8]) -> Vec<u8> {
    let behind = fragment(shot.mark.into(), next, offset, more, bytes);
    shot.frame(ETHER_IPV6, &shot.ip6().packet(FRAGMENT, &behind))
}

fn piece(shot: &Shot, kind: Kind, offset: usize, more: bool, bytes: &[u8]) -> Vec<u8> {
    piece_of(shot, kind.protocol(), offset, more, bytes)
}

fn cut_of(shot: &Shot, next: u8, bytes: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    pieces(bytes, cuts).into_iter().map(|(offset, more, bytes)| piece_of(shot, next, offset, more, bytes)).collect()
}

fn cut(shot: &Shot, kind: Kind, cuts: &[usize]) -> Vec<Vec<u8>> {
    cut_of(shot, kind.protocol(), &shot.segment(kind), cuts)
}

/// With these extension headers in the fragmentable part.
fn behind(shot: &Shot, kind: Kind, kinds: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let (next, bytes) = extended(kinds, kind.protocol(), &shot.segment(kind));
    cut_of(shot, next, &bytes, cuts)
}

/// With these extension headers in front of the fragment header.
fn in_front(shot: &Shot, kind: Kind, kinds: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let segment = shot.segment(kind);
    let frame = |(offset, more, bytes): (usize, bool, &[u8])| {
        let inner = fragment(shot.mark.into(), kind.protocol(), offset, more, bytes);
        let (next, packet) = extended(kinds, FRAGMENT, &inner);
        shot.frame(ETHER_IPV6, &shot.ip6().packet(next, &packet))
    };
    pieces(&segment, cuts).into_iter().map(frame).collect()
}

fn free(shot: &Shot, kind: Kind) -> Vec<u8> {
    Shot { port: FREE, ..*shot }.segment(kind)
}

pub(super) fn cases() -> Vec<Case> {
    let (first, later) = (drop(FirstFragment), pass(LaterFragment));
    let mut cases = Vec::new();
    for kind in [TCP6, UDP6] {
        cases.push(Case::of_several("two_fragments", kind, &[first, later], move |shot| cut(shot, kind, &[24])));
        cases.push(Case::of_several("three_fragments", kind, &[first, later, later], move |shot| {
            cut(shot, kind, &[24, 32])
        }));
        cases.push(Case::of_several("last_first", kind, &[first, later, later], move |shot| {
            cut(shot, kind, &[24, 32]).into_iter().rev().collect()
        }));
        cases.push(Case::of_several("first_fragment_twice", kind, &[first, first, later], move |shot| {
            let frames = cut(shot, kind, &[24]);
            vec![frames[0].clone(), frames[0].clone(), frames[1].clone()]
        }));
        let tiny = if kind.is_tcp { drop(TinyFragment) } else { first };
        for (name, cuts) in [("tiny_first_fragment_8", &[8][..]), ("tiny_first_fragment_16", &[16])] {
            let case = Case::of_several(name, kind, &[tiny, later], move |shot| cut(shot, kind, cuts));
            // RFC 7112 asks for the whole header chain in the first fragment.
            cases.push(if kind.is_tcp { case.reaches(Reach::Device) } else { case });
        }
        cases.push(Case::new("atomic_fragment", kind, NoGrant, move |shot| {
            piece(shot, kind, 0, false, &shot.segment(kind))
        }));
        cases.push(Case::of_several("options_behind_the_fragment_header", kind, &[first, later], move |shot| {
            behind(shot, kind, &[DESTINATION_OPTIONS], &[32])
        }));
        cases.push(Case::of_several("five_headers_behind_the_fragment_header", kind, &[first, later], move |shot| {
            behind(shot, kind, &[DESTINATION_OPTIONS; 5], &[64])
        }));
        for (name, cuts) in [("options_and_segment_cut_between", 8), ("two_options_cut_between", 8)] {
            let kinds: &[u8] = if name.starts_with("two") { &[DESTINATION_OPTIONS; 2] } else { &[DESTINATION_OPTIONS] };
            let reason = if kinds.len() == 2 { TruncatedExtension } else { TinyFragment };
            let case =
                Case::of_several(name, kind, &[drop(reason), later], move |shot| behind(shot, kind, kinds, &[cuts]));
            // Linux goes without the whole chain in the first fragment where even the first header is cut short.
            cases.push(if kinds.len() == 2 { case.free(Reach::Device) } else { case.reaches(Reach::Device) });
        }
        cases.push(
            Case::of_several(
                "options_of_which_only_the_beginning_is_there",
                kind,
                &[drop(TruncatedExtension), later],
                {
                    move |shot| {
                        let options = [&[kind.protocol(), 2, 1, 20][..], &[0; 20], &shot.segment(kind)].concat();
                        cut_of(shot, DESTINATION_OPTIONS, &options, &[16])
                    }
                },
            )
            .reaches(Reach::Device),
        );
        for (name, kinds) in [
            ("hop_by_hop_in_front", &[HOP_BY_HOP][..]),
            ("routing_in_front", &[ROUTING]),
            ("three_headers_in_front", &[HOP_BY_HOP, DESTINATION_OPTIONS, ROUTING]),
        ] {
            cases.push(Case::of_several(name, kind, &[first, later], move |shot| in_front(shot, kind, kinds, &[24])));
        }
        cases.push(
            Case::of_several(
                "two_fragment_headers",
                kind,
                &[drop(SecondFragmentHeader), drop(SecondFragmentHeader)],
                move |shot| in_front(shot, kind, &[FRAGMENT], &[24]),
            )
            .reaches(Reach::Device)
            .lost(),
        );
        cases.push(
            Case::of_several("a_fragmented_fragment", kind, &[drop(SecondFragmentHeader), later], move |shot| {
                let inner = fragment(u32::from(shot.mark) | 0x1_0000, kind.protocol(), 0, false, &shot.segment(kind));
                cut_of(shot, FRAGMENT, &inner, &[32])
            })
            .reaches(Reach::Device),
        );
        cases.push(
            Case::of_several("last_fragment_alone", kind, &[later], move |shot| {
                vec![piece(shot, kind, 24, false, &shot.segment(kind))]
            })
            .reaches(Reach::Device),
        );
        cases.push(
            Case::of_several("first_fragment_alone", kind, &[first], move |shot| {
                vec![piece(shot, kind, 0, true, &shot.segment(kind)[..40])]
            })
            .reaches(Reach::Device),
        );
        cases.push(Case::of_several("next_header_differs_in_the_last", kind, &[first, later], move |shot| {
            let segment = shot.segment(kind);
            vec![piece(shot, kind, 0, true, &segment[..24]), piece_of(shot, 59, 24, false, &segment[24..])]
        }));
        cases.push(
            Case::of_several("next_header_lies_in_the_first", kind, &[pass(UnprotectedPort), later], move |shot| {
                // The lure is a whole header of the other protocol for the unprotected port.
                let lure = free(shot, Kind { is_tcp: !kind.is_tcp, ..kind });
                let segment = shot.segment(kind);
                let other = if kind.is_tcp { 17 } else { 6 };
                vec![piece_of(shot, other, 0, true, &lure[..24]), piece(shot, kind, 24, false, &segment[24..])]
            })
            .reaches(Reach::Device)
            // A datagram with a right sum, for the port that it names.
            .free(if kind.is_tcp { Reach::Transport } else { Reach::Device }),
        );
        cases.push(
            Case::of_several(
                "overlap_of_the_header_by_a_second_first",
                kind,
                &[pass(UnprotectedPort), first, later],
                move |shot| {
                    let (lure, segment) = (free(shot, kind), shot.segment(kind));
                    vec![
                        piece(shot, kind, 0, true, &lure[..24]),
                        piece(shot, kind, 0, true, &segment[..32]),
                        piece(shot, kind, 32, false, &segment[32..]),
                    ]
                },
            )
            .reaches(Reach::Device),
        );
        cases.push(
            Case::of_several("overlap_of_the_header_from_behind", kind, &[pass(UnprotectedPort), later], move |shot| {
                let lure = free(shot, kind);
                vec![piece(shot, kind, 0, true, &lure[..40]), piece(shot, kind, 8, false, &shot.segment(kind)[8..])]
            })
            .reaches(Reach::Device),
        );
        cases.push(
            Case::of_several("overlap_in_the_data", kind, &[first, later, later], move |shot| {
                let segment = shot.segment(kind);
                vec![
                    piece(shot, kind, 0, true, &segment[..32]),
                    piece(shot, kind, 24, true, &segment[24..40]),
                    piece(shot, kind, 40, false, &segment[40..]),
                ]
            })
            .reaches(Reach::Device),
        );
        cases.push(
            Case::of_several("middle_of_an_odd_length", kind, &[drop(MalformedFragment)], move |shot| {
                vec![piece(shot, kind, 24, true, &shot.segment(kind)[..13])]
            })
            .reaches(Reach::Device)
            .lost(),
        );
        cases.push(
            Case::of_several("fragment_beyond_65535", kind, &[drop(MalformedFragment)], move |shot| {
                vec![piece(shot, kind, 65_528, false, &shot.segment(kind))]
            })
            .reaches(Reach::Device)
            .lost(),
        );
        cases.push(
            Case::of_several("first_of_an_odd_length", kind, &[first], move |shot| {
                vec![piece(shot, kind, 0, true, &shot.segment(kind)[..29])]
            })
            .reaches(Reach::Device),
        );
        cases.push(
            Case::new("fragment_header_cut", kind, TruncatedExtension, move |shot| {
                shot.frame(ETHER_IPV6, &shot.ip6().packet(FRAGMENT, &[kind.protocol(), 0, 0, 1]))
            })
            .reaches(Reach::Device)
            .lost(),
        );
    }
    cases
}
