//! Payloads for the knock port: bare ones, sealed ones, and such as lack one thing.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;

use crate::oracle::{
    dice::Dice,
    stage::{KEYS, SECOND, WALL_OFFSET_NS},
};

/// How many distinct sealed knocks there are of each kind in a batch: fewer than are sent, so that some come again.
const NUMBERS: usize = 60;
const MS: u64 = 1_000_000;

/// A payload; `now_ns` is when the batch begins.
pub(super) fn payload(dice: &mut Dice, now_ns: u64) -> Vec<u8> {
    match dice.below(20) {
        0..4 => bare(dice),
        4 => vec![dice.byte(); 1 + dice.below(40)],
        5..16 => sealed(dice, now_ns),
        _ => damaged(dice, now_ns),
    }
}

/// A bare knock, as far as the program looks.
pub(super) fn bare(dice: &mut Dice) -> Vec<u8> {
    let length = if dice.percent(5) { 1_232 } else { 1 + dice.below(400) };
    let mut payload: Vec<u8> = (0..length).map(|_| dice.byte()).collect();
    payload[0] = b'e';
    payload
}

/// A sealed knock that nothing is wrong with but, in some batches, its group's budget. `number` says which.
pub(super) fn fresh(dice: &mut Dice, now_ns: u64, number: usize) -> Vec<u8> {
    let (id, secret, _) = KEYS[dice.below(3)];
    let time_ms = (now_ns + WALL_OFFSET_NS) / MS + number as u64;
    tagged(&header(id, time_ms), &vec![dice.byte(); 8 * (13 + dice.below(139))], &secret)
}

/// A sealed knock under a right tag. What it lacks, if anything, is a matter of its header.
fn sealed(dice: &mut Dice, now_ns: u64) -> Vec<u8> {
    let (id, secret, _) = KEYS[dice.below(KEYS.len())];
    let number = dice.below(NUMBERS);
    let words = 16 + number * number % 139;
    let length = words * 8;
    let now_ms = (now_ns + WALL_OFFSET_NS) / MS;
    // Ten seconds from each end of the window, for a batch may last some; or far outside.
    let margin = 290 * SECOND / MS;
    let time_ms = match number % 20 {
        0 => now_ms + margin,
        1 => now_ms - margin,
        2 => now_ms + margin + 20 * SECOND / MS,
        3 => now_ms - margin - 20 * SECOND / MS,
        4 => dice.pick(&[0, 1, now_ms / 1_000, (1 << 48) - 1, now_ms ^ (1 << 40)]),
        _ => now_ms,
    };
    let mut header = header(id, time_ms);
    let rest: Vec<u8> = (24..length).map(|at| (at * 31 + number * 7) as u8).collect();
    if dice.percent(8) {
        let (at, byte) = dice.pick(&[(0, b'J'), (4, 0), (4, 2), (5, 2), (5, 0), (1, b'Q'), (3, b'S'), (2, 0)]);
        header[at] = byte;
    }
    tagged(&header, &rest, &secret)
}

fn header(id: u16, time_ms: u64) -> Vec<u8> {
    [b"JPAT\x01\x01".as_slice(), &id.to_be_bytes(), &[0x5e, 0xed], &time_ms.to_be_bytes()[2..]].concat()
}

fn tagged(header: &[u8], rest: &[u8], secret: &[u8; 16]) -> Vec<u8> {
    let mut hash = SipHasher24::new_with_key(secret);
    hash.write(header);
    hash.write(rest);
    [header, &hash.finish().to_le_bytes(), rest].concat()
}

/// A sealed knock in which something was changed after its tag was made.
fn damaged(dice: &mut Dice, now_ns: u64) -> Vec<u8> {
    let mut payload = sealed(dice, now_ns);
    match dice.below(6) {
        0 => payload.truncate(1 + dice.below(payload.len())),
        1 => payload.truncate(8 * (1 + dice.below(payload.len() / 8))),
        2 => payload.extend((0..dice.pick(&[1, 7, 8, 16, 24])).map(|_| 0)),
        3 => {
            // Another knock's tag, or none.
            let other = sealed(dice, now_ns);
            payload[16..24].copy_from_slice(if dice.percent(50) { &other[16..24] } else { &[0; 8] });
        }
        _ => {
            let at = if dice.percent(50) { dice.below(24) } else { dice.below(payload.len()) };
            payload[at] ^= 1 << dice.below(8);
        }
    }
    payload
}
