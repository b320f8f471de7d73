//! The inner message (`docs/protocol.md` §7): one CBOR map (RFC 8949) in deterministic encoding, then the least padding.

use std::{convert::Infallible, net::IpAddr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jpat_common::sealed::WORD;
use minicbor::{Decoder, Encoder, decode, encode};

use super::proof::Proof;
use crate::refusal::Refusal;

/// Most services in one knock.
pub const MAX_SERVICES: usize = 16;
/// Most bytes of a service's name, and of a server id.
pub const MAX_NAME: usize = 64;

/// What a knock asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Verb {
    /// Open services.
    Open,
    /// Open them again, as a client that has them.
    Renew,
    /// Give back what this client holds.
    Close,
}

impl Verb {
    /// Its name in audit and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Renew => "renew",
            Self::Close => "close",
        }
    }

    pub(super) const fn number(self) -> u64 {
        match self {
            Self::Open => 1,
            Self::Renew => 2,
            Self::Close => 3,
        }
    }

    const fn of(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::Open),
            2 => Some(Self::Renew),
            3 => Some(Self::Close),
            _ => None,
        }
    }
}

/// The message, read. Nothing of it is verified but its encoding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inner {
    /// The sender's clock, milliseconds since 1970.
    pub time_ms: u64,
    /// Random, once for each datagram.
    pub nonce: [u8; 16],
    /// Id of the server that it is for.
    pub server: String,
    /// What it asks for.
    pub verb: Verb,
    /// The compact JWS, encoded again from its parts.
    pub token: String,
    /// The services that are wanted, ascending; without, all that the policy gives.
    pub services: Option<Vec<String>>,
    /// The sender's address as it knows it.
    pub address: Option<IpAddr>,
    /// Proof of possession of the token's key.
    pub proof: Option<Proof>,
}

impl Inner {
    /// Reads a message with its padding.
    ///
    /// # Errors
    /// [`Refusal::BadInner`] for whatever is not exactly what a sender must write.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let (map, end) = Map::decode(bytes).map_err(|_fault| Refusal::BadInner)?;
        let written = map.encode(true).map_err(|_fault| Refusal::BadInner)?;
        let (message, padding) = bytes.split_at_checked(end).ok_or(Refusal::BadInner)?;
        let is_least = bytes.len() == end.next_multiple_of(WORD) && padding.iter().all(|byte| *byte == 0);
        if written != message || !is_least {
            return Err(Refusal::BadInner);
        }
        map.read().ok_or(Refusal::BadInner)
    }
}

/// The map as it is written.
#[derive(Clone, Default)]
pub(super) struct Map<'b> {
    pub(super) time_ms: u64,
    pub(super) nonce: &'b [u8],
    pub(super) server: &'b str,
    pub(super) verb: u64,
    pub(super) token: [&'b [u8]; 3],
    pub(super) services: Option<Vec<&'b str>>,
    pub(super) address: Option<&'b [u8]>,
    pub(super) client_key: Option<&'b [u8]>,
    pub(super) proof: Option<&'b [u8]>,
}

/// For all that is written besides the token, as a rule.
const ROOM: usize = 256;
/// Keys 1 to 7 are in every message.
const REQUIRED: u64 = 7;

impl<'b> Map<'b> {
    /// Writes the map; without the proof it is what the proof signs.
    pub(super) fn encode(&self, with_proof: bool) -> Result<Vec<u8>, encode::Error<Infallible>> {
        let proof = self.proof.filter(|_| with_proof);
        let optional = [self.services.is_some(), self.address.is_some(), self.client_key.is_some(), proof.is_some()];
        let mut cbor = Encoder::new(Vec::with_capacity(ROOM + self.token.iter().map(|part| part.len()).sum::<usize>()));
        cbor.map(REQUIRED + optional.iter().filter(|is_there| **is_there).count() as u64)?;
        cbor.u8(1)?.u64(self.time_ms)?;
        cbor.u8(2)?.bytes(self.nonce)?;
        cbor.u8(3)?.str(self.server)?;
        cbor.u8(4)?.u64(self.verb)?;
        let [header, payload, signature] = self.token;
        cbor.u8(5)?.bytes(header)?.u8(6)?.bytes(payload)?.u8(7)?.bytes(signature)?;
        if let Some(services) = &self.services {
            cbor.u8(8)?.array(services.len() as u64)?;
            for service in services {
                cbor.str(service)?;
            }
        }
        for (key, value) in [(9, self.address), (10, self.client_key), (11, proof)] {
            if let Some(value) = value {
                cbor.u8(key)?.bytes(value)?;
            }
        }
        Ok(cbor.into_writer())
    }

    /// Reads the map, and where it ends. Types, order and completeness are checked here; lengths and values in [`Map::read`].
    fn decode(bytes: &'b [u8]) -> Result<(Self, usize), decode::Error> {
        let mut cbor = Decoder::new(bytes);
        let mut map = Self::default();
        let entries = cbor.map()?.ok_or_else(|| decode::Error::message("indefinite"))?;
        let mut last = 0;
        for at in 1..=entries {
            let key = cbor.u64()?;
            if key <= last || (at <= REQUIRED && key != at) {
                return Err(decode::Error::message("order"));
            }
            last = key;
            match key {
                1 => map.time_ms = cbor.u64()?,
                2 => map.nonce = cbor.bytes()?,
                3 => map.server = cbor.str()?,
                4 => map.verb = cbor.u64()?,
                5..=7 => map.token[(key - 5) as usize] = cbor.bytes()?,
                8 => map.services = Some(names(&mut cbor)?),
                9 => map.address = Some(cbor.bytes()?),
                10 => map.client_key = Some(cbor.bytes()?),
                11 => map.proof = Some(cbor.bytes()?),
                _ => return Err(decode::Error::message("key")),
            }
        }
        if entries < REQUIRED { Err(decode::Error::message("incomplete")) } else { Ok((map, cbor.position())) }
    }

    fn read(&self) -> Option<Inner> {
        let proof = match (self.client_key, self.proof) {
            (None, None) => None,
            (Some(_), None) => return None,
            (client_key, Some(signature)) => {
                Some(Proof::received(client_key, signature.try_into().ok()?, self.encode(false).ok()?)?)
            }
        };
        let services = match &self.services {
            None => None,
            Some(names) if may_be_wanted(names) => Some(names.iter().map(|name| (*name).to_owned()).collect()),
            Some(_) => return None,
        };
        let address = match self.address {
            None => None,
            Some(bytes) => Some(address(bytes)?),
        };
        if !is_server_id(self.server) || self.token[0].is_empty() || self.token[1].is_empty() {
            return None;
        }
        Some(Inner {
            time_ms: self.time_ms,
            nonce: self.nonce.try_into().ok()?,
            server: self.server.to_owned(),
            verb: Verb::of(self.verb)?,
            token: self.token.map(|part| URL_SAFE_NO_PAD.encode(part)).join("."),
            services,
            address,
            proof,
        })
    }
}

/// At most as many as may be wanted, so that a length on the wire allocates nothing.
fn names<'b>(cbor: &mut Decoder<'b>) -> Result<Vec<&'b str>, decode::Error> {
    let count = cbor.array()?.filter(|count| (1..=MAX_SERVICES as u64).contains(count));
    (0..count.ok_or_else(|| decode::Error::message("services"))?).map(|_| cbor.str()).collect()
}

/// 1 to 16 names, ascending by their bytes, each once.
pub(super) fn may_be_wanted(names: &[&str]) -> bool {
    (1..=MAX_SERVICES).contains(&names.len())
        && names.iter().all(|name| is_service(name))
        && names.is_sorted_by(|one, next| one < next)
}

/// Whether a text may be a service's name (`docs/protocol.md` §3).
#[must_use]
pub fn is_service(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(known) && !name.starts_with('.')
}

/// Whether a text may be a server id: 1 to 64 bytes of printable ASCII without spaces.
#[must_use]
pub fn is_server_id(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// 4 or 16 bytes; an IPv4 address has 4.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(v4));
    }
    let v6 = IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?);
    (v6.to_canonical() == v6).then_some(v6)
}
