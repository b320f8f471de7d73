//! The sealed form (`docs/protocol.md` §6): what a client seals, a server opens. HPKE (RFC 9180) in base mode.

use std::{convert::Infallible, net::IpAddr};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hpke::{
    Deserializable, HpkeError, Kem, OpModeR, OpModeS, Serializable,
    aead::ChaCha20Poly1305,
    kdf::HkdfSha256,
    kem::X25519HkdfSha256,
    rand_core::{TryCryptoRng, TryRng},
    setup_receiver, setup_sender_with_rng,
};
use jpat_common::sealed::{CIPHERTEXT_AT, ENC_AT, MIN_PAYLOAD, TAG_AT, WORD};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{
    MAX_PAYLOAD, header,
    inner::{Map, is_server_id, may_be_wanted},
    proof,
};
pub use super::{
    inner::{Inner, Verb},
    proof::{ClientKey, Proof},
    reply::ReplyTicket,
    tag::{KnockKey, TagKey},
};
use crate::{clock::UnixTime, refusal::Refusal};

/// Most bytes of a compact token that fits: what is left of 1232 bytes, a third longer in base64url.
pub const MAX_TOKEN: usize = (MAX_PAYLOAD - CIPHERTEXT_AT) * 4 / 3 + 4;

const INFO_LABEL: &[u8] = b"jpat/1 knock\0";
const REPLY_KEY_LABEL: &[u8] = b"jpat/1 reply key";
const NANOS_PER_MS: u64 = 1_000_000;

type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type PublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

/// Why a key cannot be used or made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// Not what it should be.
    #[error("this is not {0}")]
    NotAKey(&'static str),
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness,
}

/// Why a client cannot seal a knock.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SealError {
    /// Not three parts of canonical base64url.
    #[error("the token is not a compact JWS in canonical base64url")]
    BadToken,
    /// Not 1 to 64 printable characters.
    #[error("the server id {0:?} is not 1 to 64 printable ASCII characters without spaces")]
    BadServerId(String),
    /// Not 1 to 16 names, or a name with other characters.
    #[error("1 to 16 different services can be named, each with 1 to 64 letters, digits, '.', '_' or '-'")]
    BadServices,
    /// The clock stands before 1970 or after the year 10889.
    #[error("the clock of this machine cannot be written into a knock")]
    BadTime,
    /// The public key of the server is no X25519 key, or one of low order.
    #[error("the public key of the server is not usable")]
    BadServerKey,
    /// It would be fragmented.
    #[error("the knock would have {length} bytes, and at most {MAX_PAYLOAD} travel in one datagram everywhere")]
    TooLong {
        /// Bytes that it would have.
        length: usize,
    },
    /// Shorter than any knock with a token is.
    #[error("the token is too short for a knock")]
    TooShort,
    /// The proof could not be signed, or there is no randomness.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// An X25519 private key of a server.
#[derive(Clone)]
pub struct ServerKey {
    private: PrivateKey,
    public: [u8; 32],
}

impl ServerKey {
    /// A key from its 32 bytes (RFC 7748 §5), which are clamped.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let private = PrivateKey::from_bytes(bytes).map_err(|_length| KeyError::NotAKey("an X25519 key"))?;
        let public = X25519HkdfSha256::sk_to_pk(&private).to_bytes().into();
        Ok(Self { private, public })
    }

    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_unspecified| KeyError::NoRandomness)?;
        Self::from_bytes(&bytes)
    }

    /// The 32 bytes, for the file.
    #[must_use]
    pub fn secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.private.to_bytes().into())
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> [u8; 32] {
        self.public
    }

    /// By which a knock names this key.
    #[must_use]
    pub fn hint(&self) -> [u8; 2] {
        hint(&self.public)
    }
}

/// First two bytes of SHA-256 of a public key.
#[must_use]
pub fn hint(public: &[u8; 32]) -> [u8; 2] {
    let digest = digest(&SHA256, public);
    [digest.as_ref()[0], digest.as_ref()[1]]
}

/// A server as it opens knocks.
#[derive(Clone)]
pub struct Server {
    /// Its id.
    pub id: String,
    /// Its keys; several while they are rotated.
    pub keys: Vec<ServerKey>,
}

/// A server as a client knows it.
#[derive(Clone)]
pub struct Target {
    /// Its id.
    pub server: String,
    /// Its X25519 public key.
    pub public: [u8; 32],
    /// The key of the client's group.
    pub knock_key: KnockKey,
}

/// What a client asks for.
#[derive(Clone, Copy)]
pub struct Request<'r> {
    /// What to do.
    pub verb: Verb,
    /// The compact JWS.
    pub token: &'r str,
    /// The services that are wanted, in any order; none: all that the policy gives.
    pub services: &'r [String],
    /// The address that the host will see, where it is known.
    pub address: Option<IpAddr>,
    /// With a token that is bound to a key.
    pub proof: Option<Possession<'r>>,
}

/// The client's key, and how the token names it.
#[derive(Clone, Copy)]
pub struct Possession<'r> {
    /// The key pair.
    pub key: &'r ClientKey,
    /// Whether the token has `cnf.jkt`, so that the knock must carry the public key.
    pub by_thumbprint: bool,
}

/// A sealed knock that opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// What was sealed.
    pub inner: Inner,
    /// For the one reply.
    pub ticket: ReplyTicket,
}

/// The random part of one knock. Twice the same would break the seal.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Fresh {
    /// The inner nonce.
    pub nonce: [u8; 16],
    /// Input of DeriveKeyPair (RFC 9180 §7.1.3) for the ephemeral key.
    pub ikm: [u8; 32],
}

impl Fresh {
    /// From the operating system.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn random() -> Result<Self, KeyError> {
        let mut fresh = Self { nonce: [0; 16], ikm: [0; 32] };
        aws_lc_rs::rand::fill(&mut fresh.nonce).map_err(|_unspecified| KeyError::NoRandomness)?;
        aws_lc_rs::rand::fill(&mut fresh.ikm).map_err(|_unspecified| KeyError::NoRandomness)?;
        Ok(fresh)
    }
}

/// Opens a sealed knock as far as it goes without its token: header, encryption, encoding, server id, time and address agree.
/// The tag is the XDP program's. Whether the nonce is new, and whether token, proof and time are good, is for the caller.
///
/// # Errors
/// What [`header::parse`] refuses; [`Refusal::UnknownServerKey`], [`Refusal::CannotOpen`], [`Refusal::BadInner`],
/// [`Refusal::WrongServer`], [`Refusal::TimeMismatch`], [`Refusal::WrongAddress`].
pub fn open(datagram: &[u8], source: IpAddr, server: &Server) -> Result<Opened, Refusal> {
    let header = header::parse(datagram)?;
    let enc = EncappedKey::from_bytes(header.enc).map_err(|_length| Refusal::CannotOpen)?;
    let mut refusal = Refusal::UnknownServerKey;
    for key in server.keys.iter().filter(|key| key.hint() == header.hint) {
        refusal = Refusal::CannotOpen;
        let Ok((message, ticket)) = decrypt(datagram, &header, &enc, key, &server.id) else { continue };
        let mut inner = Inner::decode(&message)?;
        if inner.server != server.id {
            return Err(Refusal::WrongServer);
        }
        if inner.time_ms != header.time_ms {
            return Err(Refusal::TimeMismatch);
        }
        if inner.address.is_some_and(|address| address != source.to_canonical()) {
            return Err(Refusal::WrongAddress);
        }
        if let Some(proof) = &mut inner.proof {
            proof.bind(header.fixed, header.enc);
        }
        return Ok(Opened { inner, ticket });
    }
    Err(refusal)
}

fn decrypt(
    datagram: &[u8],
    header: &header::Header<'_>,
    enc: &EncappedKey,
    key: &ServerKey,
    server_id: &str,
) -> Result<(Zeroizing<Vec<u8>>, ReplyTicket), HpkeError> {
    let mut context = setup_receiver::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &key.private,
        enc,
        &info(server_id),
    )?;
    let message = Zeroizing::new(context.open(header.ciphertext, header.fixed)?);
    let mut reply_key = [0; 32];
    context.export(REPLY_KEY_LABEL, &mut reply_key)?;
    Ok((message, ReplyTicket::new(reply_key, header.tag, datagram.len())))
}

/// Seals a knock with new randomness.
///
/// # Errors
/// [`SealError`].
pub fn seal(request: &Request<'_>, to: &Target, now: UnixTime) -> Result<(Vec<u8>, ReplyTicket), SealError> {
    seal_with(request, to, now, &Fresh::random()?)
}

/// As [`seal`], with randomness that is given: for test vectors.
///
/// # Errors
/// [`SealError`].
pub fn seal_with(
    request: &Request<'_>,
    to: &Target,
    now: UnixTime,
    fresh: &Fresh,
) -> Result<(Vec<u8>, ReplyTicket), SealError> {
    let time_ms = now.0 / NANOS_PER_MS;
    if !is_server_id(&to.server) {
        return Err(SealError::BadServerId(to.server.clone()));
    }
    if !(1..=header::MAX_TIME_MS).contains(&time_ms) {
        return Err(SealError::BadTime);
    }
    let fixed = header::fixed(to.knock_key.id, hint(&to.public), time_ms);
    let public = PublicKey::from_bytes(&to.public).map_err(|_length| SealError::BadServerKey)?;
    let (enc, mut context) = setup_sender_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &public,
        &info(&to.server),
        &mut Once(Zeroizing::new(fresh.ikm)),
    )
    .map_err(|_low_order| SealError::BadServerKey)?;
    let enc = enc.to_bytes();

    let message = Zeroizing::new(message(request, &to.server, time_ms, &fresh.nonce, &fixed, &enc)?);
    let length = CIPHERTEXT_AT + message.len() + 16;
    match length {
        ..MIN_PAYLOAD => return Err(SealError::TooShort),
        MIN_PAYLOAD..=MAX_PAYLOAD => {}
        _ => return Err(SealError::TooLong { length }),
    }
    let ciphertext = context.seal(&message, &fixed).map_err(|_limit| SealError::BadServerKey)?;
    let mut datagram = [fixed.as_slice(), &[0; 8], &enc, &ciphertext].concat();
    let tag = to.knock_key.tag_key(&to.server).tag(&datagram);
    datagram[TAG_AT..ENC_AT].copy_from_slice(&tag);
    let mut reply_key = [0; 32];
    context.export(REPLY_KEY_LABEL, &mut reply_key).map_err(|_length| SealError::BadServerKey)?;
    let ticket = ReplyTicket::new(reply_key, tag, datagram.len());
    Ok((datagram, ticket))
}

/// The inner message with its padding.
fn message(
    request: &Request<'_>,
    server: &str,
    time_ms: u64,
    nonce: &[u8],
    fixed: &[u8],
    enc: &[u8],
) -> Result<Vec<u8>, SealError> {
    let [head, payload, signature] = &split(request.token).ok_or(SealError::BadToken)?;
    let mut services: Vec<&str> = request.services.iter().map(String::as_str).collect();
    services.sort_unstable();
    if !services.is_empty() && !may_be_wanted(&services) {
        return Err(SealError::BadServices);
    }
    let octets = request.address.map(|address| match address.to_canonical() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    });
    let by_thumbprint = request.proof.filter(|proof| proof.by_thumbprint);
    let map = Map {
        time_ms,
        nonce,
        server,
        verb: request.verb.number(),
        token: [head, payload, signature],
        services: (!services.is_empty()).then_some(services),
        address: octets.as_deref(),
        client_key: by_thumbprint.map(|proof| proof.key.public().as_bytes()),
        proof: None,
    };
    let signed = encoded(&map)?;
    let mut message = match request.proof {
        None => signed,
        Some(proof) => {
            let signature = proof.key.sign(&proof::input(fixed, enc, &signed))?;
            encoded(&Map { proof: Some(&signature), ..map })?
        }
    };
    message.resize(message.len().next_multiple_of(WORD), 0);
    Ok(message)
}

fn encoded(map: &Map<'_>) -> Result<Vec<u8>, SealError> {
    map.encode(true).map_err(|_memory| SealError::BadToken)
}

/// The three parts of a compact JWS, decoded; `None` unless encoding them again gives the same text.
fn split(token: &str) -> Option<[Vec<u8>; 3]> {
    let parts: Vec<Vec<u8>> = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).ok()).collect::<Option<_>>()?;
    let parts: [Vec<u8>; 3] = parts.try_into().ok()?;
    let is_whole = !parts[0].is_empty() && !parts[1].is_empty();
    (is_whole && parts.each_ref().map(|part| URL_SAFE_NO_PAD.encode(part)).join(".") == token).then_some(parts)
}

fn info(server_id: &str) -> Vec<u8> {
    [INFO_LABEL, server_id.as_bytes()].concat()
}

/// Random bytes that were drawn before, for the one key that an encapsulation makes.
struct Once(Zeroizing<[u8; 32]>);

impl TryRng for Once {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// RFC 9180 §7.1.3 takes all 32 bytes at once. Anything else is a fault of the library, and predictable keys would be worse
    /// than an end.
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        out.copy_from_slice(self.0.as_slice());
        self.0.zeroize();
        Ok(())
    }
}

impl TryCryptoRng for Once {}
