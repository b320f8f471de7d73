//! What a datagram on the knock port says. One codec per form; the client uses the same.

pub mod bare;
#[cfg(feature = "daemon")]
mod confirmation;
pub mod header;
pub mod inner;
pub mod proof;
pub mod reply;
pub mod sealed;
pub mod tag;

use std::net::{IpAddr, SocketAddr};

use crate::{clock::BootTime, refusal::Refusal};

/// Most bytes of UDP payload, RFC 8200 §5 less headers.
pub const MAX_PAYLOAD: usize = jpat_common::knock::MAX_PAYLOAD;

/// How the token is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Form {
    /// The datagram is the compact JWS.
    Bare,
    /// The datagram is encrypted to the server's key (`docs/protocol.md` §6).
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
    /// Form that the XDP program took it for.
    pub form: Form,
    /// Index of the budget that it was counted under ([`jpat_common::sealed::BUDGETS`]).
    pub group: u32,
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
    /// What it carries.
    pub body: Body,
    /// Index of its budget.
    pub group: u32,
    /// Address that a grant would be for.
    pub source: IpAddr,
    /// Both ends of the datagram, for the reply.
    pub peer: Peer,
    /// When the XDP program saw it.
    pub received: BootTime,
}

impl Knock {
    /// A bare knock that did not come in a datagram, or whose ends do not matter: ports are zero.
    #[must_use]
    pub const fn bare(token: String, source: IpAddr, received: BootTime) -> Self {
        let anywhere = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
        let peer = Peer { source: SocketAddr::new(source, 0), destination: anywhere };
        Self {
            form: Form::Bare,
            body: Body::Bare(token),
            group: jpat_common::sealed::BARE_BUDGET,
            source,
            peer,
            received,
        }
    }
}

/// What a knock carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// The compact JWS (RFC 7515 §7.1): three base64url parts, two dots, no white space.
    Bare(String),
    /// The datagram of a sealed knock, header and length checked.
    Sealed(Box<[u8]>),
}

/// Both ends of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Where it came from.
    pub source: SocketAddr,
    /// Where it was sent to.
    pub destination: SocketAddr,
}

/// Reads a datagram. Cheap: a bare one's characters and dots are checked, a sealed one's header; nothing is decoded.
///
/// # Errors
/// [`Refusal::BadSource`], [`Refusal::TooLong`], [`Refusal::NotJws`], [`Refusal::BadBase64`], [`Refusal::NotSealed`].
pub fn decode(datagram: Received) -> Result<Knock, Refusal> {
    let source = datagram.source.ip();
    if !may_be_granted(source) {
        return Err(Refusal::BadSource);
    }
    let body = match datagram.form {
        Form::Bare => {
            let length = bare::decode(&datagram.bytes)?.len();
            let mut bytes = datagram.bytes;
            bytes.truncate(length);
            Body::Bare(String::from_utf8(bytes).map_err(|_not_ascii| Refusal::BadBase64)?)
        }
        Form::Sealed => {
            header::parse(&datagram.bytes)?;
            Body::Sealed(datagram.bytes.into())
        }
    };
    let peer = Peer { source: datagram.source, destination: datagram.destination };
    Ok(Knock { form: datagram.form, body, group: datagram.group, source, peer, received: datagram.received })
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
