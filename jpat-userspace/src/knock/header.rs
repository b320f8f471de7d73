//! The clear part of a sealed knock (`docs/protocol.md` §6).

use jpat_common::sealed::{
    CIPHERTEXT_AT, ENC_AT, HINT_AT, KEY_ID_AT, MAGIC, MIN_PAYLOAD, TAG_AT, TIME_AT, TYPE_KNOCK, VERSION, WORD,
};

use super::MAX_PAYLOAD;
use crate::refusal::Refusal;

/// Most that the six bytes of the time hold: the year 10889.
pub const MAX_TIME_MS: u64 = (1 << 48) - 1;

/// Parts of a datagram that has the shape of a sealed knock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<'d> {
    /// Which knock key the tag was made with.
    pub key_id: u16,
    /// First two bytes of SHA-256 of the server's public key.
    pub hint: [u8; 2],
    /// The sender's clock, milliseconds since 1970.
    pub time_ms: u64,
    /// SipHash over all the rest.
    pub tag: [u8; 8],
    /// Bytes 0 to 15, which encryption and proof cover.
    pub fixed: &'d [u8; TAG_AT],
    /// Encapsulated key (RFC 9180 §4).
    pub enc: &'d [u8; 32],
    /// Ciphertext with its tag of 16 bytes.
    pub ciphertext: &'d [u8],
}

/// Reads length and header; nothing is verified.
///
/// # Errors
/// [`Refusal::TooLong`], [`Refusal::NotSealed`].
pub fn parse(datagram: &[u8]) -> Result<Header<'_>, Refusal> {
    if datagram.len() > MAX_PAYLOAD {
        return Err(Refusal::TooLong);
    }
    if datagram.len() < MIN_PAYLOAD || !datagram.len().is_multiple_of(WORD) {
        return Err(Refusal::NotSealed);
    }
    read(datagram).ok_or(Refusal::NotSealed)
}

fn read(datagram: &[u8]) -> Option<Header<'_>> {
    let fixed: &[u8; TAG_AT] = datagram.first_chunk()?;
    let [m0, m1, m2, m3, VERSION, TYPE_KNOCK, ..] = *fixed else { return None };
    if [m0, m1, m2, m3] != MAGIC {
        return None;
    }
    let mut time = [0; 8];
    time[2..].copy_from_slice(&fixed[TIME_AT..]);
    Some(Header {
        key_id: u16::from_be_bytes([fixed[KEY_ID_AT], fixed[KEY_ID_AT + 1]]),
        hint: [fixed[HINT_AT], fixed[HINT_AT + 1]],
        time_ms: u64::from_be_bytes(time),
        tag: datagram.get(TAG_AT..ENC_AT)?.try_into().ok()?,
        fixed,
        enc: datagram.get(ENC_AT..CIPHERTEXT_AT)?.try_into().ok()?,
        ciphertext: datagram.get(CIPHERTEXT_AT..)?,
    })
}

/// Bytes 0 to 15 of a knock; of `time_ms` the lower 48 bits count.
#[must_use]
pub fn fixed(key_id: u16, hint: [u8; 2], time_ms: u64) -> [u8; TAG_AT] {
    let mut bytes = [0; TAG_AT];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4] = VERSION;
    bytes[5] = TYPE_KNOCK;
    bytes[KEY_ID_AT..HINT_AT].copy_from_slice(&key_id.to_be_bytes());
    bytes[HINT_AT..TIME_AT].copy_from_slice(&hint);
    bytes[TIME_AT..].copy_from_slice(&time_ms.to_be_bytes()[2..]);
    bytes
}
