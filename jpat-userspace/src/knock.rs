//! What a datagram on the knock port says. One codec per form; the client uses the same.

pub mod bare;

use std::net::{IpAddr, SocketAddr};

use crate::{clock::BootTime, refusal::Refusal};

/// Most bytes of UDP payload, RFC 8200 §5 less headers.
pub const MAX_PAYLOAD: usize = jpat_common::knock::MAX_PAYLOAD;

/// How the token is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Form {
    /// The datagram is the compact JWS.
    Bare,
    /// The token is sealed to a key of the server (`docs/protocol.md` §5).
    Sealed,
}

impl Form {
    /// Its name in configuration, audit and CEL (`knock.form`).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Sealed => "sealed",
        }
    }
}

/// A datagram as the data path delivered it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// UDP payload.
    pub bytes: Vec<u8>,
    /// Where it came from, IPv4 as IPv4.
    pub source: SocketAddr,
    /// Where it was sent to.
    pub destination: SocketAddr,
    /// When the XDP program saw it.
    pub received: BootTime,
    /// Index of the interface.
    pub ifindex: u32,
}

/// A datagram that has the shape of a knock. Nothing of it is verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Knock {
    /// How it came.
    pub form: Form,
    /// The compact JWS (RFC 7515 §7.1): three base64url parts, two dots, no white space.
    pub token: String,
    /// Address that a grant would be for.
    pub source: IpAddr,
    /// When the XDP program saw it.
    pub received: BootTime,
}

/// Reads a datagram. Cheap: characters and dots are checked, nothing is decoded.
///
/// # Errors
/// [`Refusal::BadSource`], [`Refusal::TooLong`], [`Refusal::NotJws`], [`Refusal::BadBase64`].
pub fn decode(datagram: &Received) -> Result<Knock, Refusal> {
    let source = datagram.source.ip();
    if !may_be_granted(source) {
        return Err(Refusal::BadSource);
    }
    let token = bare::decode(&datagram.bytes)?.to_owned();
    Ok(Knock { form: Form::Bare, token, source, received: datagram.received })
}

/// Whether an address may ever hold a grant: not unspecified, loopback, link-local, multicast or broadcast.
#[must_use]
pub fn may_be_granted(source: IpAddr) -> bool {
    match source.to_canonical() {
        IpAddr::V4(v4) => {
            !(v4.octets()[0] == 0 || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast())
        }
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_loopback() || v6.is_unicast_link_local() || v6.is_multicast()),
    }
}
