//! T17: fragments. No first fragment for a protected port passes, so later ones complete nothing.

use jpat_common::reason::{DropReason, PassReason};

use super::{
    Case, dropped, no_grant, of_service, passed,
    scene::{Family, Scene},
};
use crate::packet::{DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ICMP, SYN, TCP, UDP, extended, fragment};

/// IPv4 flags.
const MORE: u16 = 0x2000;
const DO_NOT: u16 = 0x4000;
const RESERVED: u16 = 0x8000;

pub(super) fn cases(scene: &Scene) -> Vec<Case> {
    let mut cases = v4(scene);
    cases.extend(v6(scene));
    cases.extend(v6_doubled(scene));
    cases
}

fn v4(scene: &Scene) -> Vec<Case> {
    let (path, host) = (scene.path(), &scene.host);
    let four = |protocol, field, payload: &[u8]| path.ip(Family::V4, &path.v4(protocol, field, &[], payload));
    let syn = path.tcp(Family::V4, host.port, SYN, &[0; 12]);
    let free = path.tcp(Family::V4, host.free_port, SYN, &[0; 12]);
    let web = path.udp(Family::V4, host.port, &[b'x'; 16]);
    let granted = scene.granted_path();
    let of_granted = |protocol, segment: &[u8]| granted.ip(Family::V4, &granted.v4(protocol, MORE, &[], segment));
    let granted_syn = granted.tcp(Family::V4, host.port, SYN, &[0; 12]);
    let first = |frame| of_service(frame, DropReason::FirstFragment);
    let later = |frame| passed(frame, PassReason::LaterFragment);
    let one = |name: &str, expected| Case::one(format!("T17/v4/{name}"), expected);
    vec![
        one("first-tcp", first(four(TCP, MORE, &syn[..24]))),
        one("first-udp", first(four(UDP, MORE, &web[..16]))),
        one("first-tcp-granted", first(of_granted(TCP, &granted_syn[..24]))).granted(),
        one("first-with-do-not-fragment", first(four(TCP, MORE | DO_NOT, &syn[..24]))),
        one("first-with-reserved-flag", first(four(TCP, MORE | RESERVED, &syn[..24]))),
        one("middle", later(four(TCP, MORE | 3, &syn[24..]))),
        one("last", later(four(TCP, 3, &syn[24..]))),
        one("last-that-looks-like-a-syn", later(four(TCP, 1, &syn))),
        one("last-at-the-highest-offset", later(four(TCP, 0x1fff, &syn[..7]))),
        one("last-at-offset-32768", later(four(TCP, 0x1000, &syn))),
        one("reserved-flag-alone-is-whole", no_grant(four(TCP, RESERVED, &syn))),
        one("do-not-fragment-is-whole", no_grant(four(TCP, DO_NOT, &syn))),
        one("tiny-tcp-of-8", dropped(four(TCP, MORE, &syn[..8]), DropReason::TinyFragment)),
        one("tiny-tcp-of-16", dropped(four(TCP, MORE, &syn[..16]), DropReason::TinyFragment)),
        one("tiny-udp-of-4", dropped(four(UDP, MORE, &web[..4]), DropReason::TinyFragment)),
        one("tiny-tcp-granted", dropped(of_granted(TCP, &granted_syn[..8]), DropReason::TinyFragment)).granted(),
        one("empty-first", dropped(four(TCP, MORE, &[]), DropReason::TinyFragment)),
        Case::all("T17/v4/in-two", vec![first(four(TCP, MORE, &syn[..24])), later(four(TCP, 3, &syn[24..]))]),
        Case::all("T17/v4/in-two-backwards", vec![later(four(TCP, 3, &syn[24..])), first(four(TCP, MORE, &syn[..24]))]),
        Case::all(
            "T17/v4/overlap-of-the-ports",
            vec![
                passed(four(TCP, MORE, &free[..24]), PassReason::UnprotectedPort),
                first(four(TCP, MORE, &syn[..24])),
                later(four(TCP, 3, &syn[24..])),
            ],
        ),
        // RFC 1858 §4: the second fragment starts at byte 8 and overwrites the flags.
        Case::all(
            "T17/v4/overlap-of-the-flags",
            vec![passed(four(TCP, MORE, &free[..24]), PassReason::UnprotectedPort), later(four(TCP, 1, &syn[8..]))],
        ),
        Case::all(
            "T17/v4/tiny-then-the-rest",
            vec![dropped(four(TCP, MORE, &syn[..8]), DropReason::TinyFragment), later(four(TCP, 1, &syn[8..]))],
        ),
        one("first-icmp", passed(four(ICMP, MORE, &[8; 16]), PassReason::Icmp)),
        one("first-unprotected", passed(four(TCP, MORE, &free[..24]), PassReason::UnprotectedPort)),
    ]
}

fn v6(scene: &Scene) -> Vec<Case> {
    let (path, host) = (scene.path(), &scene.host);
    let six = |next, payload: &[u8]| path.ip(Family::V6, &path.v6(next, payload));
    let cut = |offset, more, payload: &[u8]| six(FRAGMENT, &fragment(TCP, offset, more, payload));
    let syn = path.tcp(Family::V6, host.port, SYN, &[0; 12]);
    let web = path.udp(Family::V6, host.port, &[b'x'; 16]);
    let free = path.tcp(Family::V6, host.free_port, SYN, &[0; 12]);
    let granted = scene.granted_path();
    let granted_syn = granted.tcp(Family::V6, host.port, SYN, &[0; 12]);
    let of_granted = granted.ip(Family::V6, &granted.v6(FRAGMENT, &fragment(TCP, 0, true, &granted_syn[..24])));
    let (options, behind) = extended(&[DESTINATION_OPTIONS], TCP, &syn);
    let first = |frame| of_service(frame, DropReason::FirstFragment);
    let later = |frame| passed(frame, PassReason::LaterFragment);
    let malformed = |frame| dropped(frame, DropReason::MalformedFragment);
    let tiny = |frame| dropped(frame, DropReason::TinyFragment);
    let one = |name: &str, expected| Case::one(format!("T17/v6/{name}"), expected);
    vec![
        one("first-tcp", first(cut(0, true, &syn[..24]))),
        one("first-udp", first(six(FRAGMENT, &fragment(UDP, 0, true, &web[..16])))),
        one("first-tcp-granted", first(of_granted)).granted(),
        one("first-with-destination-options", first(six(FRAGMENT, &fragment(options, 0, true, &behind)))),
        one("atomic", no_grant(cut(0, false, &syn))),
        one("atomic-udp", no_grant(six(FRAGMENT, &fragment(UDP, 0, false, &web)))),
        one(
            "atomic-with-reserved-bits",
            no_grant(six(FRAGMENT, &super::scene::patched(fragment(TCP, 0, false, &syn), 3, &[6]))),
        ),
        one("middle", later(cut(8, true, &syn[..16]))),
        one("last", later(cut(24, false, &syn[24..]))),
        one("last-that-looks-like-a-syn", later(cut(8, false, &syn))),
        one("last-that-announces-a-fragment-header", later(six(FRAGMENT, &fragment(FRAGMENT, 8, false, &syn)))),
        one("tiny-tcp-of-8", tiny(cut(0, true, &syn[..8]))),
        one("tiny-tcp-of-16", tiny(cut(0, true, &syn[..16]))),
        // RFC 7112: the first fragment must hold the whole chain.
        one("tiny-options-without-tcp", tiny(six(FRAGMENT, &fragment(options, 0, true, &behind[..8])))),
        one(
            "tiny-cut-in-the-options",
            dropped(six(FRAGMENT, &fragment(options, 0, true, &behind[..4])), DropReason::TruncatedExtension),
        ),
        one("middle-of-odd-length", malformed(cut(8, true, &syn[..13]))),
        one("last-beyond-65535", malformed(cut(65_528, false, &syn[..8]))),
        one("last-up-to-65535", later(cut(65_528, false, &syn[..7]))),
        one("header-cut", dropped(six(FRAGMENT, &[TCP, 0, 0, 1]), DropReason::TruncatedExtension)),
        Case::all("T17/v6/in-two", vec![first(cut(0, true, &syn[..24])), later(cut(24, false, &syn[24..]))]),
        Case::all("T17/v6/in-two-backwards", vec![later(cut(24, false, &syn[24..])), first(cut(0, true, &syn[..24]))]),
        Case::all(
            "T17/v6/overlap-of-the-ports",
            vec![
                passed(cut(0, true, &free[..24]), PassReason::UnprotectedPort),
                first(cut(0, true, &syn[..24])),
                later(cut(24, false, &syn[24..])),
            ],
        ),
        Case::all(
            "T17/v6/overlap-of-the-flags",
            vec![passed(cut(0, true, &free[..24]), PassReason::UnprotectedPort), later(cut(8, false, &syn[8..]))],
        ),
    ]
}

/// CVE-2023-4809: more than one fragment header.
fn v6_doubled(scene: &Scene) -> Vec<Case> {
    let path = scene.path();
    let six = |next, payload: &[u8]| path.ip(Family::V6, &path.v6(next, payload));
    let syn = path.tcp(Family::V6, scene.host.port, SYN, &[0; 12]);
    let inner = |offset, more| fragment(TCP, offset, more, &syn[..24]);
    let one = |name: &str, frame| Case::one(format!("T17/v6/{name}"), dropped(frame, DropReason::SecondFragmentHeader));
    let (with_options, behind) = extended(&[DESTINATION_OPTIONS, FRAGMENT], TCP, &syn);
    let (hop, hop_behind) = extended(&[HOP_BY_HOP, FRAGMENT, FRAGMENT], TCP, &syn);
    vec![
        one("atomic-in-atomic", six(FRAGMENT, &fragment(FRAGMENT, 0, false, &inner(0, false)))),
        one("first-in-atomic", six(FRAGMENT, &fragment(FRAGMENT, 0, false, &inner(0, true)))),
        one("later-in-atomic", six(FRAGMENT, &fragment(FRAGMENT, 0, false, &inner(8, true)))),
        one("atomic-in-first", six(FRAGMENT, &fragment(FRAGMENT, 0, true, &inner(0, false)))),
        one("first-in-first", six(FRAGMENT, &fragment(FRAGMENT, 0, true, &inner(0, true)))),
        one("options-between", six(FRAGMENT, &fragment(with_options, 0, false, &behind))),
        one("behind-hop-by-hop", six(hop, &hop_behind)),
    ]
}
