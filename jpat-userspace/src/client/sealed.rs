//! The client's side of a sealed knock: profile, token and key become datagrams, each sealed afresh.

use std::{net::IpAddr, path::Path, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{ClientError, profile::Profile};
use crate::{
    clock::UnixTime,
    knock::{
        proof::ClientKey,
        sealed::{self, KnockKey, Possession, ReplyTicket, Request, SealError, ServerKey, Target, Verb},
    },
    secret_file,
};

/// Most bytes of a file with a JWK.
const MAX_JWK: usize = 8 * 1024;
/// A server id of usual length, for the size of a knock to a server that is not known.
const USUAL_ID: &str = "web-1.example.com";

/// Which address the knock says that it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// That of the socket, which is the one the server sees unless there is NAT between them.
    Own,
    /// This one.
    Address(IpAddr),
}

impl FromStr for Claimed {
    type Err = ClaimedError;

    fn from_str(text: &str) -> Result<Self, ClaimedError> {
        match text {
            "auto" => Ok(Self::Own),
            _ => text.parse().map(Self::Address).map_err(|_syntax| ClaimedError),
        }
    }
}

/// It is neither an address nor the word for the own one.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
#[error("expected an address, or \"auto\" for this machine's own")]
pub struct ClaimedError;

/// What a knock is to say.
#[derive(Clone, Copy)]
pub struct Wish<'w> {
    /// What to do.
    pub verb: Verb,
    /// The compact JWS.
    pub token: &'w str,
    /// Services by name; none: all that the policy gives.
    pub services: &'w [String],
    /// The client's address as it says it.
    pub address: Option<Claimed>,
    /// The client's key; left out where the token is bound to none.
    pub key: Option<&'w ClientKey>,
    /// Seals without the right key as well, which every server refuses.
    pub force: bool,
}

/// Seals knocks to one server.
pub struct Sealer<'w> {
    wish: Wish<'w>,
    possession: Option<Possession<'w>>,
    targets: Vec<Target>,
}

impl<'w> Sealer<'w> {
    /// Checks that the token fits, and that the key is the one it is bound to.
    ///
    /// # Errors
    /// [`ClientError::NoClientKey`], [`ClientError::OtherClientKey`], [`ClientError::TokenTooLong`], [`ClientError::Seal`].
    pub fn new(profile: &Profile, wish: Wish<'w>, now: UnixTime) -> Result<Self, ClientError> {
        let targets = profile.server_keys.iter().map(|public| Target {
            server: profile.server_id.clone(),
            public: *public,
            knock_key: KnockKey::new(profile.knock_key_id, *profile.knock_key),
        });
        let sealer = Self { possession: possession(&wish)?, wish, targets: targets.collect() };
        // The longest one: an IPv6 address takes more room than an IPv4 one.
        sealer.seal(0, IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), now).map(|_fits| sealer)
    }

    /// A datagram from the address `own`. Repeats take the server's keys in turn, in case one is gone.
    ///
    /// # Errors
    /// [`ClientError::TokenTooLong`], [`ClientError::Seal`].
    pub fn seal(&self, repeat: usize, own: IpAddr, now: UnixTime) -> Result<(Vec<u8>, ReplyTicket), ClientError> {
        let Wish { verb, token, services, address, .. } = self.wish;
        let address = address.map(|claimed| match claimed {
            Claimed::Own => own,
            Claimed::Address(address) => address,
        });
        let request = Request { verb, token, services, address, proof: self.possession };
        let target = self.targets.get(repeat % self.targets.len()).ok_or(SealError::BadServerKey)?;
        sealed::seal(&request, target, now).map_err(|error| match error {
            SealError::TooLong { length } => {
                ClientError::TokenTooLong(Sizes { bare: token.len(), sealed: Some(length) })
            }
            other @ (SealError::BadToken
            | SealError::BadServerId(_)
            | SealError::BadServices
            | SealError::BadTime
            | SealError::BadServerKey
            | SealError::TooShort
            | SealError::Key(_)) => ClientError::Seal(other),
        })
    }
}

/// Bytes of a token's knock in both forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// The token's own length.
    pub bare: usize,
    /// About; none where the token is not one that can be sealed.
    pub sealed: Option<usize>,
}

/// What knocks with this token take, to a server that is not known: its id and the wanted services change some bytes.
#[must_use]
pub fn sizes(token: &str, now: UnixTime) -> Sizes {
    let key = cnf(token).and_then(|_| ClientKey::generate(crate::knock::proof::Kind::Ed25519).ok());
    let by_thumbprint = cnf(token).is_some_and(|cnf| cnf.get("jkt").is_some());
    let proof = key.as_ref().map(|key| Possession { key, by_thumbprint });
    let request = Request { verb: Verb::Open, token, services: &[], address: None, proof };
    let length = || {
        let public = ServerKey::generate().ok()?.public();
        let target = Target { server: USUAL_ID.to_owned(), public, knock_key: KnockKey::generate(1).ok()? };
        match sealed::seal(&request, &target, now) {
            Ok((datagram, _)) => Some(datagram.len()),
            Err(SealError::TooLong { length }) => Some(length),
            Err(_) => None,
        }
    };
    Sizes { bare: token.len(), sealed: length() }
}

/// Reads the client's private key.
///
/// # Errors
/// [`ClientError::ClientKeyFile`], [`ClientError::BadClientKey`].
pub fn read_key(path: &Path) -> Result<ClientKey, ClientError> {
    let bytes = secret_file::read_private(path, MAX_JWK)
        .map_err(|error| ClientError::ClientKeyFile { path: path.to_owned(), error })?;
    let text = std::str::from_utf8(&bytes).map_err(|_binary| ClientError::BadClientKey(path.to_owned()))?;
    ClientKey::from_jwk(text).map_err(|_kind| ClientError::BadClientKey(path.to_owned()))
}

fn possession<'w>(wish: &Wish<'w>) -> Result<Option<Possession<'w>>, ClientError> {
    let Some(cnf) = cnf(wish.token) else { return Ok(None) };
    let key = match wish.key {
        Some(key) => key,
        None if wish.force => return Ok(None),
        None => return Err(ClientError::NoClientKey),
    };
    let by_thumbprint = cnf.get("jkt").is_some();
    let is_this = match cnf.get("jwk") {
        Some(jwk) => crate::knock::proof::PublicKey::from_jwk(jwk).as_ref() == Some(key.public()),
        None => cnf.get("jkt").and_then(Value::as_str) == Some(key.public().thumbprint().as_str()),
    };
    if is_this || wish.force { Ok(Some(Possession { key, by_thumbprint })) } else { Err(ClientError::OtherClientKey) }
}

/// `cnf` of a token, unverified.
fn cnf(token: &str) -> Option<Value> {
    let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?);
    serde_json::from_slice::<Value>(&payload).ok()?.get("cnf").cloned()
}
