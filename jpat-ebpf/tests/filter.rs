//! The filter in front of the rings, on the host: the order of its questions, their borders, and the hash.

#[path = "../../tests/harness/knocks.rs"]
pub mod knocks;

use jpat_common::{
    knock::{FORM_BARE, FORM_SEALED, MAX_PAYLOAD},
    reason::DropReason,
    sealed::{BARE_BUDGET, Budget, ENC_AT, KEY_ID_AT, MIN_PAYLOAD, TAG_AT, TIME_AT},
};
use jpat_ebpf::{filter::Admitted, frame::Cursor};
use knocks::{AMPLE, FOREIGN, GUESTS, Gate, STAFF, STAFF_NEXT, Sealed, TagKey, WINDOW_MS, tag, tag_of};
use proptest::{collection::vec, prelude::*};

const NOW_NS: u64 = 1_000_000_000_000_123;
const NS_PER_MS: u64 = 1_000_000;

fn admit(gate: &Gate, payload: &[u8]) -> Result<Admitted, DropReason> {
    gate.admit(Cursor::over(payload), NOW_NS)
}

fn sealed(group: u32, payload: &[u8]) -> Result<Admitted, DropReason> {
    Ok(Admitted::Sealed { group, tag: tag_of(payload).expect("a tag") })
}

#[test]
fn p5_a_sound_knock_is_admitted_under_its_group_and_once() {
    let gate = Gate::new();
    for (number, key) in (0..).zip([STAFF, STAFF_NEXT, GUESTS]) {
        for length in (MIN_PAYLOAD..=MAX_PAYLOAD).step_by(8) {
            let knock = Sealed::new(key, NOW_NS, length, number).bytes();
            assert_eq!(knock.len(), length);
            let admitted = admit(&gate, &knock);
            assert_eq!(admitted, sealed(key.group, &knock), "{length} bytes under {key:?}");
            assert_eq!(admitted.map(|admitted| (admitted.form(), admitted.group())), Ok((FORM_SEALED, key.group)));
            assert_eq!(admit(&gate, &knock), Err(DropReason::KnockTagSeen), "{length} bytes again");
        }
    }
    let bare = admit(&gate, b"eyJ.eyJ.sig");
    assert_eq!(bare.map(|admitted| (admitted.form(), admitted.group())), Ok((FORM_BARE, BARE_BUDGET)));
    assert_eq!(admit(&gate, b"eyJ.eyJ.sig"), bare, "bare knocks have no tag");
}

/// From a knock for which everything is wrong, one thing after the other is put right: the reason is always the first of
/// what is still wrong.
#[test]
fn p5_questions_are_asked_in_the_order_of_the_protocol() {
    let gate = Gate::new();
    gate.set_budget(STAFF.group, Budget { interval_ns: 0, ..AMPLE });
    let stale = Sealed { version: 2, ..Sealed::new(FOREIGN, NOW_NS, 160, 1) }.shifted(WINDOW_MS + 1);
    let mut bytes = stale.bytes();
    bytes[1] = b'j';
    bytes[100] ^= 1;
    bytes.push(0);
    let last = |bytes: &[u8], reason| assert_eq!(admit(&gate, bytes), Err(reason));
    last(&bytes, DropReason::KnockSealedLength);
    bytes.pop();
    last(&bytes, DropReason::KnockNoForm);
    bytes[1] = b'P';
    last(&bytes, DropReason::KnockVersion);
    bytes[4] = 1;
    last(&bytes, DropReason::KnockUnknownKey);
    bytes[KEY_ID_AT..][..2].copy_from_slice(&STAFF.map_key());
    gate.remember(tag_of(&bytes).expect("a tag"));
    last(&bytes, DropReason::KnockTime);
    bytes[TIME_AT..TAG_AT].copy_from_slice(&Sealed::new(STAFF, NOW_NS, 160, 1).bytes()[TIME_AT..TAG_AT]);
    last(&bytes, DropReason::KnockTagSeen);
    gate.forget();
    last(&bytes, DropReason::KnockBadTag);
    let signed = [&bytes[..TAG_AT], &bytes[ENC_AT..]].concat();
    bytes[TAG_AT..ENC_AT].copy_from_slice(&tag(&STAFF, &signed));
    last(&bytes, DropReason::KnockBudget);
    gate.set_budget(STAFF.group, AMPLE);
    assert_eq!(admit(&gate, &bytes), sealed(STAFF.group, &bytes));
}

#[test]
fn p5_the_window_ends_after_three_hundred_seconds_on_both_sides() {
    for now_ns in [NOW_NS, NOW_NS / NS_PER_MS * NS_PER_MS, NOW_NS / NS_PER_MS * NS_PER_MS + NS_PER_MS - 1] {
        for (by_ms, is_inside) in [
            (0, true),
            (WINDOW_MS, true),
            (-WINDOW_MS, true),
            (WINDOW_MS + 1, false),
            (-WINDOW_MS - 1, false),
            (i64::from(i32::MAX), false),
        ] {
            let knock = Sealed::new(STAFF, now_ns, 160, 1).shifted(by_ms).bytes();
            let admitted = Gate::new().admit(Cursor::over(&knock), now_ns);
            let expected = if is_inside { sealed(STAFF.group, &knock) } else { Err(DropReason::KnockTime) };
            assert_eq!(admitted, expected, "{by_ms} ms from {now_ns}");
        }
    }
    let mut gate = Gate::new();
    gate.wall_offset_ns = None;
    let by_boot = Sealed { time_ms: NOW_NS / NS_PER_MS, ..Sealed::new(STAFF, NOW_NS, 160, 1) };
    for knock in [Sealed::new(STAFF, NOW_NS, 160, 1), by_boot] {
        assert_eq!(admit(&gate, &knock.bytes()), Err(DropReason::KnockTime), "nobody knows the time");
    }
    // A clock before 1970 wraps, and refuses.
    gate.wall_offset_ns = Some(u64::MAX - NOW_NS - 5);
    assert_eq!(admit(&gate, &Sealed::new(STAFF, NOW_NS, 160, 1).bytes()), Err(DropReason::KnockTime));
}

#[test]
fn p6_no_bit_and_no_length_can_be_changed() {
    let gate = Gate::new();
    // A knock whose first byte is changed into an `e` is a bare one; nobody wants those here.
    gate.set_budget(BARE_BUDGET, Budget { interval_ns: 0, ..AMPLE });
    for length in [MIN_PAYLOAD, MIN_PAYLOAD + 8, MIN_PAYLOAD + 16, MIN_PAYLOAD + 24, 800, MAX_PAYLOAD] {
        let knock = Sealed::new(STAFF, NOW_NS, length, 1).bytes();
        for at in 0..length {
            // Each other byte; of a long one each bit, for that is a matter of time.
            for change in (1..=u8::MAX).filter(|change| length < 200 || change.is_power_of_two()) {
                let mut changed = knock.clone();
                changed[at] ^= change;
                assert!(admit(&gate, &changed).is_err(), "byte {at} of {length} ^ {change}");
            }
        }
        let long = [knock.clone(), vec![0; MAX_PAYLOAD]].concat();
        for other in (0..MAX_PAYLOAD + 100).filter(|other| *other != length) {
            assert!(admit(&gate, &long[..other]).is_err(), "{other} bytes of {length}");
        }
        // Words in another order.
        for at in (ENC_AT..length - 8).step_by(8) {
            let mut changed = knock.clone();
            changed[at..at + 16].rotate_left(8);
            assert_eq!(admit(&gate, &changed), Err(DropReason::KnockBadTag), "words at {at} of {length}");
        }
        assert_eq!(admit(&gate, &knock), sealed(STAFF.group, &knock), "nothing of all that was remembered");
    }
}

#[test]
fn p5_forms_are_told_apart_by_their_first_byte() {
    let gate = Gate::new();
    assert_eq!(admit(&gate, b""), Err(DropReason::KnockEmpty));
    for first in 0..=u8::MAX {
        let expected = match first {
            b'e' => Ok(Admitted::Bare),
            b'J' => Err(DropReason::KnockSealedLength),
            _ => Err(DropReason::KnockNoForm),
        };
        assert_eq!(admit(&gate, &[first]), expected, "{first:#x}");
    }
    let sound = Sealed::new(STAFF, NOW_NS, 160, 1);
    for byte in 0..=u8::MAX {
        let (version, kind) =
            (Sealed { version: byte, ..sound.clone() }.bytes(), Sealed { kind: byte, ..sound.clone() }.bytes());
        let expected = if byte == 1 { Err(DropReason::KnockTagSeen) } else { Err(DropReason::KnockVersion) };
        gate.remember(tag_of(&sound.bytes()).expect("a tag"));
        assert_eq!([admit(&gate, &version), admit(&gate, &kind)], [expected; 2], "{byte}");
    }
    for magic in [*b"jPAT", *b"JpAT", *b"JPaT", *b"JPAt", *b"J\0\0\0"] {
        let mut knock = Sealed::new(STAFF, NOW_NS, 160, 1).bytes();
        knock[..4].copy_from_slice(&magic);
        assert_eq!(admit(&gate, &knock), Err(DropReason::KnockNoForm), "{magic:x?}");
    }
}

#[test]
fn p5_a_budget_is_its_groups_own() {
    let gate = Gate::new();
    gate.set_budget(STAFF.group, Budget { interval_ns: 10 * NS_PER_MS, burst_ns: 30 * NS_PER_MS, next_ns: 0 });
    let mut number = 0;
    let mut taken = |key: TagKey, now_ns: u64, tries: u64| {
        let knocks = (0..tries).filter(|_| {
            number += 1;
            gate.admit(Cursor::over(&Sealed::new(key, now_ns, 128, number).bytes()), now_ns).is_ok()
        });
        knocks.count()
    };
    assert_eq!(taken(STAFF, NOW_NS, 10), 3, "its burst");
    assert_eq!(taken(STAFF_NEXT, NOW_NS, 10), 0, "another key of that group");
    assert_eq!(taken(GUESTS, NOW_NS, 10), 10, "another group");
    assert_eq!(taken(TagKey { secret: FOREIGN.secret, ..STAFF }, NOW_NS + 20 * NS_PER_MS, 100), 0, "bad tags");
    assert_eq!(taken(STAFF, NOW_NS + 20 * NS_PER_MS, 10), 2, "what came in the meantime");
    assert_eq!(taken(STAFF, NOW_NS + 29 * NS_PER_MS, 10), 0);
    assert_eq!(taken(STAFF, NOW_NS + 30 * NS_PER_MS, 10), 1);
    assert_eq!(taken(STAFF, NOW_NS + 3_600_000 * NS_PER_MS, 10), 3, "never more than its burst");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn p5_the_tag_is_siphash_by_another_implementation(
        secret in any::<[u8; 16]>(),
        words in 13_usize..=151,
        body in vec(any::<u8>(), MAX_PAYLOAD),
        claimed in any::<[u8; 8]>(),
    ) {
        let key = TagKey { secret, ..STAFF };
        let mut gate = Gate::new();
        gate.keys.insert(key.id, key);
        let mut knock = Sealed::new(key, NOW_NS, MIN_PAYLOAD, 0);
        knock.rest = body[..8 * words].to_vec();
        let mut bytes = knock.bytes();
        prop_assert_eq!(admit(&gate, &bytes), sealed(STAFF.group, &bytes));
        if claimed != bytes[TAG_AT..ENC_AT] {
            bytes[TAG_AT..ENC_AT].copy_from_slice(&claimed);
            prop_assert_eq!(admit(&gate, &bytes), Err(DropReason::KnockBadTag));
        }
    }

    #[test]
    fn p5_garbage_is_never_admitted_as_a_sealed_knock(
        mut garbage in vec(any::<u8>(), 0..=MAX_PAYLOAD + 8),
        front in 0..=TAG_AT,
    ) {
        let sound = Sealed::new(STAFF, NOW_NS, MIN_PAYLOAD, 0).bytes();
        let front = front.min(garbage.len());
        garbage[..front].copy_from_slice(&sound[..front]);
        let is_sealed = matches!(admit(&Gate::new(), &garbage), Ok(Admitted::Sealed { .. }));
        prop_assert!(!is_sealed);
    }
}
