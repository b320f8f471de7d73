//! SipHash-2-4 (Aumasson and Bernstein, INDOCRYPT 2012) over what is left at a [`Cursor`], in whole words: the form of it
//! that the kernel's verifier follows, and which costs one comparison for four words.

use jpat_common::{knock::MAX_PAYLOAD, sealed::WORD};

use crate::frame::Cursor;

/// Words read at a time.
const STRIDE: usize = 4;

/// The hash's state.
#[derive(Clone, Copy)]
pub(crate) struct SipHash {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
    length: usize,
}

impl SipHash {
    #[inline(always)]
    pub(crate) const fn new(k0: u64, k1: u64) -> Self {
        Self {
            v0: k0 ^ 0x736f_6d65_7073_6575,
            v1: k1 ^ 0x646f_7261_6e64_6f6d,
            v2: k0 ^ 0x6c79_6765_6e65_7261,
            v3: k1 ^ 0x7465_6462_7974_6573,
            length: 0,
        }
    }

    #[inline(always)]
    const fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }

    #[inline(always)]
    const fn mix(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.round();
        self.v0 ^= word;
    }

    /// Takes one word.
    #[inline(always)]
    pub(crate) const fn write(&mut self, bytes: [u8; WORD]) {
        self.mix(u64::from_le_bytes(bytes));
        self.length += WORD;
    }

    /// Takes all that is left, which must be whole words, and [`MAX_PAYLOAD`] bytes at most. Single words come first, so
    /// that little is behind the loop for the verifier to walk after each of its turns.
    #[inline(always)]
    pub(crate) fn write_rest(&mut self, mut from: Cursor<'_>) -> Option<()> {
        self.length += from.left();
        let singles = from.left() / WORD % STRIDE;
        let mut single = 0;
        while single < STRIDE - 1 && single < singles {
            self.mix(u64::from_le_bytes(*from.take()?));
            single += 1;
        }
        let mut from = from.walk(from.offset(), from.left());
        let length = from.left();
        if length > MAX_PAYLOAD {
            return None;
        }
        let mut at = 0;
        while at < length {
            let bytes = from.take::<{ STRIDE * WORD }>()?;
            let (words, _) = bytes.as_chunks::<WORD>();
            self.mix(u64::from_le_bytes(words[0]));
            self.mix(u64::from_le_bytes(words[1]));
            self.mix(u64::from_le_bytes(words[2]));
            self.mix(u64::from_le_bytes(words[3]));
            at += STRIDE * WORD;
        }
        Some(())
    }

    /// The hash of what was taken, its least significant byte first.
    #[inline(always)]
    pub(crate) const fn finish(mut self) -> [u8; WORD] {
        self.mix((self.length as u64) << 56);
        self.v2 ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.round();
        (self.v0 ^ self.v1 ^ self.v2 ^ self.v3).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `vectors_sip64` of the authors' reference implementation (github.com/veorq/SipHash, CC0): the message is 00, 01, 02, …
    /// under the key 00 … 0f.
    const REFERENCE: [(usize, [u8; 8]); 4] = [
        (0, [0x31, 0x0e, 0x0e, 0xdd, 0x47, 0xdb, 0x6f, 0x72]),
        (8, [0x62, 0x24, 0x93, 0x9a, 0x79, 0xf5, 0xf5, 0x93]),
        (16, [0xdb, 0x9b, 0xc2, 0x57, 0x7f, 0xcc, 0x2a, 0x3f]),
        (56, [0xbd, 0x83, 0x8d, 0x3a, 0xaf, 0xbf, 0x8d, 0xb7]),
    ];

    #[test]
    fn p5_the_hash_is_siphash_2_4() {
        let key: [u8; 16] = core::array::from_fn(|at| at as u8);
        let message: [u8; 64] = core::array::from_fn(|at| at as u8);
        let half = |at: usize| u64::from_le_bytes(key[at..at + 8].try_into().unwrap());
        for (length, expected) in REFERENCE {
            let mut hash = SipHash::new(half(0), half(8));
            hash.write_rest(Cursor::over(&message[..length])).unwrap();
            assert_eq!(hash.finish(), expected, "{length} bytes");
        }
    }
}
