//! Knock keys and the tag that the XDP program checks (`docs/protocol.md` §4, §6.2).

use std::hash::Hasher;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use jpat_common::sealed::{ENC_AT, TAG_AT};
use siphasher::sip::SipHasher24;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::sealed::KeyError;

const LABEL: &[u8] = b"jpat/1 knock tag";

/// What the clients of one group and the host know. It keeps strangers away from the controller and authorises nothing.
#[derive(Clone, ZeroizeOnDrop)]
pub struct KnockKey {
    /// Its number, 1 to 65535.
    #[zeroize(skip)]
    pub id: u16,
    secret: [u8; 32],
}

impl KnockKey {
    /// A key from its 32 bytes.
    #[must_use]
    pub const fn new(id: u16, secret: [u8; 32]) -> Self {
        Self { id, secret }
    }

    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn generate(id: u16) -> Result<Self, KeyError> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_unspecified| KeyError::NoRandomness)?;
        Ok(Self { id, secret })
    }

    /// The secret, for its file.
    #[must_use]
    pub const fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The key of the tag for one host: HKDF-SHA256 (RFC 5869).
    #[must_use]
    pub fn tag_key(&self, server_id: &str) -> TagKey {
        let info: [&[u8]; 2] = [&self.id.to_be_bytes(), server_id.as_bytes()];
        let mut key = [0; 16];
        let prk = Salt::new(HKDF_SHA256, LABEL).extract(&self.secret);
        // HKDF refuses only more than 255 blocks; a key of zeros would then open nothing on the other side.
        if prk.expand(&info, Length).and_then(|okm| okm.fill(&mut key)).is_err() {
            key.zeroize();
        }
        TagKey(key)
    }
}

/// Output length of HKDF for a [`TagKey`].
struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        16
    }
}

/// A SipHash-2-4 key as its authors write it: k0, then k1, each little-endian.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct TagKey(pub [u8; 16]);

impl TagKey {
    /// The two halves as numbers.
    #[must_use]
    pub fn halves(&self) -> (u64, u64) {
        let number = u128::from_le_bytes(self.0);
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
        let halves = (number as u64, (number >> 64) as u64);
        halves
    }

    /// The tag of a datagram: over all of it but the tag's own place. Zero bytes for what is too short to have one.
    #[must_use]
    pub fn tag(&self, datagram: &[u8]) -> [u8; 8] {
        let (k0, k1) = self.halves();
        let mut hash = SipHasher24::new_with_keys(k0, k1);
        let (Some(before), Some(after)) = (datagram.get(..TAG_AT), datagram.get(ENC_AT..)) else { return [0; 8] };
        hash.write(before);
        hash.write(after);
        hash.finish().to_le_bytes()
    }
}
