//! What goes wrong with a frame on its way, by chance or on purpose.

use super::recipe::Made;
use crate::oracle::dice::Dice;

/// The frame with something wrong with it, or with nothing.
pub(crate) fn damaged(made: Made, dice: &mut Dice) -> Vec<u8> {
    let Made { mut bytes, network, upper } = made;
    match dice.below(10) {
        0..4 => {}
        4 => bytes.truncate(dice.below(bytes.len() + 1)),
        5 => {
            let length = 1 + dice.below(64);
            bytes.extend((0..length).map(|_| dice.byte()));
        }
        6..8 => lie(&mut bytes, network, upper, dice),
        _ => {
            for _ in 0..1 + dice.below(4) {
                let at = dice.below(bytes.len().min(140));
                bytes[at] = if dice.percent(50) { bytes[at] ^ (1 << dice.below(8)) } else { dice.byte() };
            }
        }
    }
    bytes
}

/// A field that says how long something is, or what, says something else.
fn lie(bytes: &mut [u8], network: usize, upper: usize, dice: &mut Dice) {
    let is_v4 = bytes.get(network).is_some_and(|first| first >> 4 == 4);
    // Where the field is, and how many bytes it has.
    let (at, length) = match (is_v4, dice.below(8)) {
        (true, 0) => (network, 1),
        (true, 1 | 2) => (network + 2, 2),
        (true, 3) => (network + 6, 2),
        (true, 4) => (network + 9, 1),
        (false, 0) => (network, 1),
        (false, 1 | 2) => (network + 4, 2),
        (false, 3) => (network + 6, 1),
        (false, 4) => (network + 41, 1),
        (_, 5) => (upper + 4, 2),
        (_, 6) => (upper + 12, 1),
        _ => (upper + 2, 2),
    };
    let Some(field) = bytes.get_mut(at..at + length) else { return };
    if let [byte] = field {
        *byte = match dice.below(4) {
            0 => byte.wrapping_add(1),
            1 => byte.wrapping_sub(1),
            2 => dice.pick(&[0, 6, 17, 44, 51, 0x40, 0x44, 0x45, 0x46, 0x4f, 0x60, 0xf0, 0x50, 255]),
            _ => dice.byte(),
        };
    } else if let Ok(word) = <&mut [u8; 2]>::try_from(field) {
        let old = u16::from_be_bytes(*word);
        let new = match dice.below(4) {
            0 => old.wrapping_add(dice.pick(&[1, 2, 8, u16::MAX, u16::MAX - 7])),
            1 => dice.pick(&[0, 1, 4, 7, 8, 9, 19, 20, 21, 27, 28, 39, 40, 65_535, 0x2000, 0x4000]),
            2 => old / 2,
            _ => dice.number() as u16,
        };
        *word = new.to_be_bytes();
    }
}
