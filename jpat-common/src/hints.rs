//! Which sources can have a grant: one bit for many keys, so that a packet from anybody else is refused without the
//! look-up, whose call costs more than all the rest. A set bit says nothing; a clear one says that no grant whose key
//! falls on it is in effect. The controller sets a bit before it says that a grant is there, and clears it after the last one
//! of its keys is gone. Where many grants begin together it takes the table out of use
//! ([`FLAG_GRANT_HINTS`](crate::settings::FLAG_GRANT_HINTS)) until all bits are set.

use crate::grant::GrantKey;

/// Bits of the table, as a power of two: 128 KiB. With as many grants as the map holds by default, one source in
/// sixteen falls on a bit of somebody else's.
pub const BITS: u32 = 20;

/// Entries of the table.
pub const ROWS: u32 = 1 << (BITS - 6 - 7);

/// A row of the table: words of 64 bits, many, so that the whole table is read in few calls.
pub type Row = [u64; 128];

/// The number of a key's bit.
#[inline(always)]
#[must_use]
pub const fn bit(key: &GrantKey) -> u32 {
    let source = u128::from_ne_bytes(*key.source());
    let folded = source as u64 ^ (source >> 64) as u64 ^ key.service() as u64;
    // Twice, because an IPv4 address fills the upper half alone (Knuth, volume 3, §6.4).
    let mixed = (folded ^ folded >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (64 - BITS)) as u32
}

/// The row of a bit.
#[inline(always)]
#[must_use]
pub const fn row(bit: u32) -> u32 {
    bit >> (6 + 7)
}

/// The word of a bit in its row.
#[inline(always)]
#[must_use]
pub const fn word(bit: u32) -> usize {
    (bit >> 6 & 127) as usize
}

/// A bit in its word.
#[inline(always)]
#[must_use]
pub const fn mask(bit: u32) -> u64 {
    1 << (bit & 63)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr;

    #[test]
    fn neighbours_and_services_fall_on_different_bits() {
        let mut rows = [[0u64; 128]; ROWS as usize];
        let mut alone = 0;
        for number in 0..4096u32 {
            let source = addr::from_v4((0x0a00_0000 | number).to_be_bytes());
            let bit = bit(&GrantKey::new(&source, &addr::mask(128), 1 + number % 3));
            let word = &mut rows[row(bit) as usize][word(bit)];
            alone += u32::from(*word & mask(bit) == 0);
            *word |= mask(bit);
            assert!(bit < 1 << BITS);
        }
        // Of 2^20 places, by chance: 4088.
        assert!(alone > 4070, "{alone} of 4096");
    }
}
