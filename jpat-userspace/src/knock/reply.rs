//! The reply (`docs/protocol.md` §10): sealed by a key that only the sender of the knock and the holder of the server key have.

use std::convert::Infallible;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use jpat_common::sealed::{MAGIC, TYPE_REPLY, VERSION};
use minicbor::{Decoder, Encoder, decode, encode};
use zeroize::ZeroizeOnDrop;

use super::inner::{MAX_NAME, is_service};
use crate::clock::UnixTime;

/// Offset of the nonce; what comes before is additional data.
const NONCE_AT: usize = 16;
/// Offset of the ciphertext.
const CIPHERTEXT_AT: usize = NONCE_AT + NONCE_LEN;
/// Bytes of the ciphertext's tag.
const SEAL_LEN: usize = 16;
const NANOS_PER_MS: u64 = 1_000_000;

/// What the host answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// What came of the knock.
    pub outcome: Outcome,
    /// The host's clock; the wire holds milliseconds.
    pub server_time: UnixTime,
}

/// What came of a knock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It did what it asked for.
    Done {
        /// Each service with the end of its grant, ascending by name; 1970 where it was closed.
        services: Vec<(String, UnixTime)>,
        /// The token had opened before, and nothing was extended.
        repeated: bool,
    },
    /// It did nothing, for this reason: a code of `docs/reasons.md`.
    Refused(String),
}

/// Why a datagram is not the reply to a knock, or a reply cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReplyError {
    /// Not the header of a reply to this knock.
    #[error("this is not a reply to the knock")]
    NotAReply,
    /// Longer than the knock.
    #[error("the reply is longer than the knock")]
    TooLong,
    /// Not sealed by the host that the knock was for, or altered.
    #[error("the reply does not open: it was altered, or comes from another host")]
    CannotOpen,
    /// Opened, and not a message of this version.
    #[error("the reply opens, and its content is not of this version")]
    BadMessage,
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness,
}

/// What it takes to seal or open the reply to one knock.
#[derive(Clone, ZeroizeOnDrop)]
pub struct ReplyTicket {
    key: [u8; 32],
    #[zeroize(skip)]
    tag: [u8; 8],
    #[zeroize(skip)]
    most: usize,
}

impl std::fmt::Debug for ReplyTicket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReplyTicket {{ most: {} }}", self.most)
    }
}

impl ReplyTicket {
    pub(super) const fn new(key: [u8; 32], tag: [u8; 8], most: usize) -> Self {
        Self { key, tag, most }
    }

    /// The exported key, for test vectors.
    #[must_use]
    pub const fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Seals a reply that is not longer than the knock: services are left out from the end.
    ///
    /// # Errors
    /// [`ReplyError::NoRandomness`]; [`ReplyError::TooLong`] where even the shortest form is longer than the knock, which no
    /// code of `docs/reasons.md` is.
    pub fn seal(self, reply: &Reply) -> Result<Vec<u8>, ReplyError> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_unspecified| ReplyError::NoRandomness)?;
        self.seal_with_nonce(reply, nonce)
    }

    /// As [`ReplyTicket::seal`], with a nonce that is given: for test vectors. Twice the same would break the seal.
    ///
    /// # Errors
    /// [`ReplyError::TooLong`].
    pub fn seal_with_nonce(self, reply: &Reply, nonce: [u8; NONCE_LEN]) -> Result<Vec<u8>, ReplyError> {
        let message = self.fitting(reply)?;
        let header = self.header();
        let mut datagram = [header.as_slice(), &nonce].concat();
        let mut sealed = message;
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.cipher()?
            .seal_in_place_append_tag(nonce, Aad::from(header), &mut sealed)
            .map_err(|_unspecified| ReplyError::TooLong)?;
        datagram.extend_from_slice(&sealed);
        Ok(datagram)
    }

    /// Opens a datagram that came from the host.
    ///
    /// # Errors
    /// [`ReplyError::NotAReply`], [`ReplyError::TooLong`], [`ReplyError::CannotOpen`], [`ReplyError::BadMessage`].
    pub fn open(&self, datagram: &[u8]) -> Result<Reply, ReplyError> {
        let header = self.header();
        let (Some(sealed), Some(nonce)) = (datagram.get(CIPHERTEXT_AT..), datagram.get(NONCE_AT..CIPHERTEXT_AT)) else {
            return Err(ReplyError::NotAReply);
        };
        if !datagram.starts_with(&header) {
            return Err(ReplyError::NotAReply);
        }
        if datagram.len() > self.most {
            return Err(ReplyError::TooLong);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_length| ReplyError::NotAReply)?;
        let mut sealed = sealed.to_owned();
        let message = self.cipher()?.open_in_place(nonce, Aad::from(header), &mut sealed);
        Reply::decode(message.map_err(|_unspecified| ReplyError::CannotOpen)?)
    }

    fn fitting(&self, reply: &Reply) -> Result<Vec<u8>, ReplyError> {
        let count = match &reply.outcome {
            Outcome::Done { services, .. } => services.len(),
            Outcome::Refused(_) => 0,
        };
        (0..=count)
            .rev()
            .filter_map(|shown| reply.encode(shown).ok())
            .find(|message| CIPHERTEXT_AT + message.len() + SEAL_LEN <= self.most)
            .ok_or(ReplyError::TooLong)
    }

    fn header(&self) -> [u8; NONCE_AT] {
        let mut bytes = [0; NONCE_AT];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = TYPE_REPLY;
        bytes[8..].copy_from_slice(&self.tag);
        bytes
    }

    fn cipher(&self) -> Result<LessSafeKey, ReplyError> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.key).map_err(|_length| ReplyError::CannotOpen)?;
        Ok(LessSafeKey::new(key))
    }
}

impl Reply {
    /// Reads the message of a reply.
    ///
    /// # Errors
    /// [`ReplyError::BadMessage`] for whatever is not exactly what a host must write.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReplyError> {
        let reply = Self::read(bytes).map_err(|_fault| ReplyError::BadMessage)?;
        match reply.encode(usize::MAX) {
            Ok(written) if written == bytes => Ok(reply),
            Ok(_) | Err(_) => Err(ReplyError::BadMessage),
        }
    }

    /// The message with at most `shown` services.
    fn encode(&self, shown: usize) -> Result<Vec<u8>, encode::Error<Infallible>> {
        let mut cbor = Encoder::new(Vec::with_capacity(128));
        let time = self.server_time.0 / NANOS_PER_MS;
        match &self.outcome {
            Outcome::Done { services, repeated } => {
                let shown = &services[..shown.min(services.len())];
                cbor.map(if *repeated { 4 } else { 3 })?.u8(1)?.u8(0)?.u8(2)?.u64(time)?;
                cbor.u8(3)?.array(shown.len() as u64)?;
                for (name, end) in shown {
                    cbor.array(2)?.str(name)?.u64(end.0 / NANOS_PER_MS)?;
                }
                if *repeated {
                    cbor.u8(5)?.bool(true)?;
                }
            }
            Outcome::Refused(code) => {
                cbor.map(3)?.u8(1)?.u8(1)?.u8(2)?.u64(time)?.u8(4)?.str(code)?;
            }
        }
        Ok(cbor.into_writer())
    }

    /// Reads leniently: what is not the shortest form, in order, once, is found by writing it again.
    fn read(bytes: &[u8]) -> Result<Self, decode::Error> {
        let mut cbor = Decoder::new(bytes);
        let (mut is_refused, mut time, mut services, mut code, mut repeated) = (0, 0, Vec::new(), None, false);
        for _ in 0..cbor.map()?.ok_or_else(|| decode::Error::message("indefinite"))? {
            match cbor.u64()? {
                1 => is_refused = cbor.u64()?,
                2 => time = cbor.u64()?,
                3 => {
                    for _ in 0..cbor.array()?.ok_or_else(|| decode::Error::message("indefinite"))? {
                        cbor.array()?;
                        services.push((cbor.str()?.to_owned(), from_ms(cbor.u64()?)?));
                    }
                }
                4 => code = Some(cbor.str()?.to_owned()),
                5 => repeated = cbor.bool()?,
                _ => return Err(decode::Error::message("key")),
            }
        }
        let are_services = services.iter().all(|(name, _): &(String, _)| is_service(name));
        let outcome = match (is_refused, code) {
            (0, None) if are_services && services.is_sorted_by(|one, next| one.0 < next.0) => {
                Outcome::Done { services, repeated }
            }
            (1, Some(code)) if is_code(&code) => Outcome::Refused(code),
            _ => return Err(decode::Error::message("outcome")),
        };
        Ok(Self { outcome, server_time: from_ms(time)? })
    }
}

/// A client shows it to people, so it may hold nothing that a terminal obeys.
fn is_code(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(known)
}

fn from_ms(ms: u64) -> Result<UnixTime, decode::Error> {
    ms.checked_mul(NANOS_PER_MS).map(UnixTime).ok_or_else(|| decode::Error::message("time"))
}
