//! Inner message and reply as bytes: one encoding of each, and nothing else is read.

use jpat_userspace::{
    clock::UnixTime,
    knock::{
        header,
        reply::{Outcome, Reply},
        sealed::{Inner, Verb},
    },
    refusal::Refusal,
};
use proptest::{collection::vec, prelude::*};

use crate::{
    reference::{Item, head, map, unhex},
    vectors::{
        case::{cases, entries, padded, token},
        read,
    },
};

fn good() -> Vec<(u64, Item)> {
    let cases = cases();
    let case = cases.iter().find(|case| case.names_address && !case.services.is_empty()).unwrap();
    entries(case, &token(None))
}

/// A message of which one head is written by hand.
fn with_head(key: u64, head_of: &[u8]) -> Vec<u8> {
    let entries = good();
    let mut bytes = head(5, entries.len() as u64);
    for (at, value) in &entries {
        bytes.extend(head(0, *at));
        let written = value.write();
        if *at == key {
            let short = match value {
                Item::Unsigned(n) => head(0, *n),
                Item::Bytes(content) => head(2, content.len() as u64),
                Item::Text(content) => head(3, content.len() as u64),
                Item::Array(items) => head(4, items.len() as u64),
                Item::True => panic!("no such value in a knock"),
            };
            bytes.extend([head_of, &written[short.len()..]].concat());
        } else {
            bytes.extend(written);
        }
    }
    padded(bytes)
}

#[test]
fn p6_a_length_or_number_has_one_form() {
    assert!(Inner::decode(&padded(map(&good()))).is_ok());
    let entries = good();
    let mut tried = 0;
    for (key, value) in &entries {
        let (major, n) = match value {
            Item::Unsigned(n) => (0, *n),
            Item::Bytes(content) => (2, content.len() as u64),
            Item::Text(content) => (3, content.len() as u64),
            Item::Array(items) => (4, items.len() as u64),
            Item::True => continue,
        };
        let right = head(major, n);
        assert!(Inner::decode(&with_head(*key, &right)).is_ok());
        let major = major << 5;
        let longer = [
            vec![major | 24, n as u8],
            [&[major | 25], (n as u16).to_be_bytes().as_slice()].concat(),
            [&[major | 26], (n as u32).to_be_bytes().as_slice()].concat(),
            [&[major | 27], n.to_be_bytes().as_slice()].concat(),
        ];
        let others = [0x40, 0x60, 0x80, 0xa0, 0xc0].map(|major| vec![major | (right[0] & 0x1f)]);
        let indefinite = vec![vec![major | 31], vec![major | 28], vec![0xf6]];
        for wrong in longer.into_iter().filter(|head| head.len() > right.len()).chain(indefinite) {
            assert_eq!(Inner::decode(&with_head(*key, &wrong)), Err(Refusal::BadInner), "key {key}: {wrong:02x?}");
            tried += 1;
        }
        if right.len() == 1 {
            for wrong in others.into_iter().filter(|head| *head != right) {
                assert_eq!(Inner::decode(&with_head(*key, &wrong)), Err(Refusal::BadInner), "key {key}: {wrong:02x?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 50, "{tried}");
}

#[test]
fn p6_map_keys_are_those_of_the_table_in_order_and_once() {
    let entries = good();
    for at in 0..entries.len() {
        for other in 0..entries.len() {
            let mut swapped = entries.clone();
            swapped.swap(at, other);
            let read = Inner::decode(&padded(map(&swapped)));
            assert_eq!(read.is_ok(), at == other, "{at} {other}");
        }
        let mut twice = entries.clone();
        twice.insert(at, entries[at].clone());
        assert_eq!(Inner::decode(&padded(map(&twice))), Err(Refusal::BadInner));
        let mut absent = entries.clone();
        absent.remove(at);
        assert_eq!(Inner::decode(&padded(map(&absent))).is_ok(), entries[at].0 > 7, "without key {}", entries[at].0);
    }
    for unknown in [0, 12, 13, 23, 24, 255, u64::MAX] {
        let mut more = entries.clone();
        more.push((unknown, Item::Unsigned(0)));
        assert_eq!(Inner::decode(&padded(map(&more))), Err(Refusal::BadInner), "{unknown}");
    }
    let text_key = [head(5, 8), map(&entries[..7])[1..].to_vec(), Item::text("8").write(), vec![0]].concat();
    assert_eq!(Inner::decode(&padded(text_key)), Err(Refusal::BadInner));
    let mut claims_more = map(&entries);
    claims_more[0] += 1;
    assert_eq!(Inner::decode(&padded(claims_more)), Err(Refusal::BadInner));
}

#[test]
fn p6_padding_is_the_least_and_zero() {
    let message = map(&good());
    let least = message.len().next_multiple_of(8);
    for length in 0..least + 24 {
        let mut bytes = message.clone();
        bytes.resize(length, 0);
        assert_eq!(Inner::decode(&bytes).is_ok(), length == least, "{length} of {least}");
    }
    // One message of each length of padding, so that every place of it is tried.
    let mut places = 0;
    for extra in 0..8 {
        let mut entries = good();
        entries[6].1 = Item::Bytes(vec![7; 64 + extra]);
        let message = map(&entries);
        let bytes = padded(message.clone());
        assert!(Inner::decode(&bytes).is_ok());
        for at in message.len()..bytes.len() {
            for bit in 0..8 {
                let mut altered = bytes.clone();
                altered[at] ^= 1 << bit;
                assert_eq!(Inner::decode(&altered), Err(Refusal::BadInner));
            }
            places += 1;
        }
    }
    assert_eq!(places, 28);
}

#[test]
fn a_length_on_the_wire_allocates_nothing() {
    for bytes in [[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], [0xbb, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]] {
        assert!(Inner::decode(&bytes).is_err() && Reply::decode(&bytes).is_err());
    }
    let mut entries = good();
    entries.truncate(7);
    let mut bytes = map(&entries);
    bytes[0] += 1;
    bytes.extend([8, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(Inner::decode(&padded(bytes)), Err(Refusal::BadInner));
}

#[test]
fn a_reply_has_one_encoding() {
    for case in cases() {
        let message = unhex(read(case.name)["reply"]["message"].as_str().unwrap());
        assert!(Reply::decode(&message).is_ok());
        for length in 0..message.len() {
            assert!(Reply::decode(&message[..length]).is_err());
        }
        assert!(Reply::decode(&[message.as_slice(), &[0]].concat()).is_err());
    }
    let (zero, one) = (Item::Unsigned(0), Item::Unsigned(1));
    let pair = |name: &str| Item::Array(vec![Item::text(name), Item::Unsigned(5)]);
    let bad: [&[(u64, Item)]; 14] = [
        &[],
        &[(1, zero.clone()), (2, one.clone())],
        &[(1, zero.clone()), (2, one.clone()), (4, Item::text("x"))],
        &[(1, one.clone()), (2, one.clone()), (3, Item::Array(vec![]))],
        &[(1, one.clone()), (2, one.clone()), (3, Item::Array(vec![])), (4, Item::text("x"))],
        &[(1, one.clone()), (2, one.clone()), (4, Item::text("x")), (5, Item::True)],
        &[(1, Item::Unsigned(2)), (2, one.clone()), (4, Item::text("x"))],
        &[(1, zero.clone()), (2, one.clone()), (3, Item::Array(vec![pair("b"), pair("a")]))],
        &[(1, zero.clone()), (2, one.clone()), (3, Item::Array(vec![pair("a"), pair("a")]))],
        &[(1, zero.clone()), (2, one.clone()), (3, Item::Array(vec![pair("")]))],
        &[(1, zero), (2, one.clone()), (3, Item::Array(vec![pair("\u{1b}[2J")]))],
        &[(1, one.clone()), (2, one.clone()), (4, Item::text(""))],
        &[(1, one.clone()), (2, one.clone()), (4, Item::text("\u{1b}[2J"))],
        &[(1, one.clone()), (2, one), (4, Item::text(&"a".repeat(65)))],
    ];
    for entries in bad {
        assert!(Reply::decode(&map(entries)).is_err(), "{:02x?}", map(entries));
    }
}

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}"
}

proptest! {
    #[test]
    fn p6_what_is_read_was_written(
        nonce in any::<[u8; 16]>(),
        server in "[!-~]{1,64}",
        verb in 1_u64..=3,
        parts in (vec(any::<u8>(), 1..80), vec(any::<u8>(), 1..400), vec(any::<u8>(), 0..300)),
        services in proptest::option::of(proptest::collection::btree_set(name(), 1..=16)),
        v4 in proptest::option::of(any::<[u8; 4]>()),
        proof in proptest::option::of((vec(any::<u8>(), 64), any::<bool>())),
        time in 0_u64..1 << 48,
    ) {
        let mut entries = vec![
            (1, Item::Unsigned(time)), (2, Item::Bytes(nonce.to_vec())), (3, Item::Text(server.clone())),
            (4, Item::Unsigned(verb)), (5, Item::Bytes(parts.0)), (6, Item::Bytes(parts.1)), (7, Item::Bytes(parts.2)),
        ];
        if let Some(services) = &services {
            entries.push((8, Item::Array(services.iter().map(|name| Item::text(name)).collect())));
        }
        if let Some(v4) = v4 {
            entries.push((9, Item::Bytes(v4.to_vec())));
        }
        if let Some((signature, with_key)) = &proof {
            if *with_key {
                entries.push((10, Item::Bytes(vec![3; 32])));
            }
            entries.push((11, Item::Bytes(signature.clone())));
        }
        let inner = Inner::decode(&padded(map(&entries))).unwrap();
        prop_assert_eq!(inner.time_ms, time);
        prop_assert_eq!(inner.nonce, nonce);
        prop_assert_eq!(inner.server, server);
        prop_assert_eq!(inner.verb, [Verb::Open, Verb::Renew, Verb::Close][verb as usize - 1]);
        prop_assert_eq!(inner.services, services.map(|names| names.into_iter().collect::<Vec<_>>()));
        prop_assert_eq!(inner.address, v4.map(Into::into));
        prop_assert_eq!(inner.proof.is_some(), proof.is_some());
    }

    #[test]
    fn p6_one_altered_byte_of_a_message_is_another_message_or_none(at in any::<prop::sample::Index>(), xor in 1_u8..) {
        let bytes = padded(map(&good()));
        let mut altered = bytes.clone();
        altered[at.index(bytes.len())] ^= xor;
        let (was, is) = (Inner::decode(&bytes).unwrap(), Inner::decode(&altered));
        prop_assert_ne!(is, Ok(was));
    }

    #[test]
    fn anything_is_read_without_panic(bytes in vec(any::<u8>(), 0..1400)) {
        let _ = (Inner::decode(&bytes), Reply::decode(&bytes), header::parse(&bytes));
    }

    #[test]
    fn a_reply_that_is_read_was_written(
        services in proptest::collection::btree_map(name(), 0_u64..1 << 43, 0..12),
        repeated: bool,
        time in 0_u64..1 << 43,
    ) {
        let pair = |(name, end): (&String, &u64)| Item::Array(vec![Item::text(name), Item::Unsigned(*end)]);
        let mut entries = vec![
            (1, Item::Unsigned(0)), (2, Item::Unsigned(time)), (3, Item::Array(services.iter().map(pair).collect())),
        ];
        if repeated {
            entries.push((5, Item::True));
        }
        let ms = |ms: u64| UnixTime(ms * 1_000_000);
        let services = services.into_iter().map(|(name, end)| (name, ms(end))).collect();
        let reply = Reply { outcome: Outcome::Done { services, repeated }, server_time: ms(time) };
        prop_assert_eq!(Reply::decode(&map(&entries)), Ok(reply));
    }
}
