//! IPv4 fragments: what completes a datagram for a protected port never finds its beginning.

use jpat_common::reason::{
    DropReason::{FirstFragment, NoGrant, TinyFragment, TruncatedExtension},
    PassReason::{LaterFragment, UnprotectedPort},
};
use jpat_tests::{
    crafted::pieces,
    packet::{AUTHENTICATION, ETHER_IPV4, extended, tagged},
};

use crate::evasion::{
    arena::FREE,
    case::{Case, Reach, drop, pass},
    shot::{Kind, Shot, TCP4, UDP4},
};

const MORE: u16 = 0x2000;
const DO_NOT: u16 = 0x4000;
const RESERVED: u16 = 0x8000;

fn piece(shot: &Shot, kind: Kind, flags: u16, offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut header = shot.ip4();
    header.fragment = flags | (offset / 8) as u16;
    shot.frame(ETHER_IPV4, &header.packet(kind.protocol(), bytes))
}

fn cut(shot: &Shot, kind: Kind, cuts: &[usize]) -> Vec<Vec<u8>> {
    let segment = shot.segment(kind);
    let frame =
        |(offset, more, bytes): (usize, bool, &[u8])| piece(shot, kind, if more { MORE } else { 0 }, offset, bytes);
    pieces(&segment, cuts).into_iter().map(frame).collect()
}

/// The same segment for the unprotected port.
fn free(shot: &Shot, kind: Kind) -> Vec<u8> {
    Shot { port: FREE, ..*shot }.segment(kind)
}

pub(super) fn cases() -> Vec<Case> {
    let (first, later) = (drop(FirstFragment), pass(LaterFragment));
    let mut cases = Vec::new();
    for kind in [TCP4, UDP4] {
        cases.push(Case::of_several("two_fragments", kind, &[first, later], move |shot| cut(shot, kind, &[24])));
        cases.push(Case::of_several("three_fragments", kind, &[first, later, later], move |shot| {
            cut(shot, kind, &[24, 32])
        }));
        cases.push(Case::of_several("last_first", kind, &[first, later, later], move |shot| {
            cut(shot, kind, &[24, 32]).into_iter().rev().collect()
        }));
        cases.push(Case::of_several("middle_first", kind, &[first, later, later], move |shot| {
            let mut frames = cut(shot, kind, &[24, 32]);
            frames.swap(0, 1);
            frames
        }));
        cases.push(Case::of_several("first_fragment_twice", kind, &[first, first, later], move |shot| {
            let frames = cut(shot, kind, &[24]);
            vec![frames[0].clone(), frames[0].clone(), frames[1].clone()]
        }));
        let tiny = if kind.is_tcp { drop(TinyFragment) } else { first };
        let all: &[usize] = if kind.is_tcp { &[8, 16, 24, 32, 40, 48, 56] } else { &[8, 16, 24, 32, 40] };
        for (name, cuts) in
            [("tiny_first_fragment_8", &[8][..]), ("tiny_first_fragment_16", &[16]), ("every_fragment_tiny", all)]
        {
            let mut judged = vec![later; cuts.len()];
            judged.push(tiny);
            let case = Case::of_several(name, kind, &judged, move |shot| cut(shot, kind, cuts));
            // TCP's header in pieces is refused at every port (RFC 3128).
            cases.push(if kind.is_tcp { case.free(Reach::Device) } else { case });
        }
        cases.push(Case::of_several("do_not_fragment_in_fragments", kind, &[first, later], move |shot| {
            let segment = shot.segment(kind);
            vec![piece(shot, kind, MORE | DO_NOT, 0, &segment[..24]), piece(shot, kind, DO_NOT, 24, &segment[24..])]
        }));
        cases.push(Case::of_several("reserved_flag_in_fragments", kind, &[first, later], move |shot| {
            let segment = shot.segment(kind);
            vec![piece(shot, kind, RESERVED | MORE, 0, &segment[..24]), piece(shot, kind, RESERVED, 24, &segment[24..])]
        }));
        cases.push(Case::new("reserved_flag", kind, NoGrant, move |shot| {
            piece(shot, kind, RESERVED, 0, &shot.segment(kind))
        }));
        cases.push(Case::new("do_not_fragment", kind, NoGrant, move |shot| {
            piece(shot, kind, DO_NOT, 0, &shot.segment(kind))
        }));
        cases.push(Case::of_several("fragments_with_options", kind, &[first, later], move |shot| {
            let segment = shot.segment(kind);
            let mut header = shot.ip4();
            let mut frames = Vec::new();
            for (fragment, options, bytes) in [(MORE, vec![1; 40], &segment[..24]), (3, Vec::new(), &segment[24..])] {
                (header.fragment, header.options) = (fragment, options);
                frames.push(shot.frame(ETHER_IPV4, &header.packet(kind.protocol(), bytes)));
            }
            frames
        }));
        cases.push(Case::of_several("fragments_in_priority_tags", kind, &[first, later], move |shot| {
            cut(shot, kind, &[24]).iter().map(|frame| tagged(0x8100, 0, frame)).collect()
        }));
        cases.push(
            Case::of_several("last_fragment_alone", kind, &[later], move |shot| {
                vec![piece(shot, kind, 0, 24, &shot.segment(kind))]
            })
            .reaches(Reach::Device),
        );
        cases.push(
            Case::of_several("whole_segment_as_a_later_fragment", kind, &[later], move |shot| {
                vec![piece(shot, kind, 0, 8, &shot.segment(kind))]
            })
            .reaches(Reach::Device),
        );
        cases.push(
            Case::of_several("first_fragment_alone", kind, &[first], move |shot| {
                vec![piece(shot, kind, MORE, 0, &shot.segment(kind)[..40])]
            })
            .reaches(Reach::Device),
        );
        cases.push(
            Case::of_several("empty_last_fragment", kind, &[first, later], move |shot| {
                let segment = shot.segment(kind);
                let whole = segment.len() / 8 * 8;
                vec![piece(shot, kind, MORE, 0, &segment[..whole]), piece(shot, kind, 0, whole, &[])]
            })
            .reaches(Reach::Device),
        );
        // A stack that let later bytes win would see the protected port; Linux gives the whole datagram up.
        cases.push(
            Case::of_several(
                "overlap_of_the_header_by_a_second_first",
                kind,
                &[pass(UnprotectedPort), first, later],
                move |shot| {
                    let (lure, segment) = (free(shot, kind), shot.segment(kind));
                    vec![
                        piece(shot, kind, MORE, 0, &lure[..24]),
                        piece(shot, kind, MORE, 0, &segment[..32]),
                        piece(shot, kind, 0, 32, &segment[32..]),
                    ]
                },
            )
            .reaches(Reach::Device),
        );
        cases.push(
            Case::of_several("overlap_of_the_header_from_behind", kind, &[pass(UnprotectedPort), later], move |shot| {
                let lure = free(shot, kind);
                vec![piece(shot, kind, MORE, 0, &lure[..40]), piece(shot, kind, 0, 8, &shot.segment(kind)[8..])]
            })
            .reaches(Reach::Device),
        );
        cases.push(
            Case::of_several("overlap_in_the_data", kind, &[first, later, later], move |shot| {
                let segment = shot.segment(kind);
                vec![
                    piece(shot, kind, MORE, 0, &segment[..32]),
                    piece(shot, kind, MORE, 24, &segment[24..40]),
                    piece(shot, kind, 0, 40, &segment[40..]),
                ]
            })
            .reaches(Reach::Device),
        );
        cases.push(
            Case::of_several("teardrop", kind, &[first, later], move |shot| {
                let segment = shot.segment(kind);
                vec![piece(shot, kind, MORE, 0, &segment[..40]), piece(shot, kind, 0, 24, &segment[24..28])]
            })
            .reaches(Reach::Device),
        );
        cases.push(
            Case::of_several("fragment_beyond_65535", kind, &[first, later], move |shot| {
                let segment = shot.segment(kind);
                vec![piece(shot, kind, MORE, 0, &segment[..24]), piece(shot, kind, 0, 65_528, &segment[24..])]
            })
            .reaches(Reach::Device),
        );
        cases.push(
            Case::of_several(
                "authentication_header_in_pieces",
                kind,
                &[drop(TruncatedExtension), later],
                move |shot| {
                    let (_, behind) = extended(&[AUTHENTICATION], kind.protocol(), &shot.segment(kind));
                    let mut header = shot.ip4();
                    let mut frames = Vec::new();
                    for (fragment, bytes) in [(MORE, &behind[..16]), (2, &behind[16..])] {
                        header.fragment = fragment;
                        frames.push(shot.frame(ETHER_IPV4, &header.packet(AUTHENTICATION, bytes)));
                    }
                    frames
                },
            )
            .reaches(Reach::Device),
        );
        cases.push(
            Case::of_several("authentication_header_and_first", kind, &[first, later], move |shot| {
                let (_, behind) = extended(&[AUTHENTICATION], kind.protocol(), &shot.segment(kind));
                let mut header = shot.ip4();
                let mut frames = Vec::new();
                for (fragment, bytes) in [(MORE, &behind[..48]), (6, &behind[48..])] {
                    header.fragment = fragment;
                    frames.push(shot.frame(ETHER_IPV4, &header.packet(AUTHENTICATION, bytes)));
                }
                frames
            })
            .reaches(Reach::Device),
        );
    }
    cases
}
