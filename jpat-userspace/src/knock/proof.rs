//! Proof of possession of the key that a token is bound to (`docs/protocol.md` §7.3): made by the client, carried in the knock.

use aws_lc_rs::{
    digest::{SHA256, digest},
    encoding::AsBigEndian,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::sealed::KeyError;

pub(super) const LABEL: &[u8] = b"jpat/1 proof\0";

/// A proof as it was received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proof {
    pub(super) client_key: Option<PublicKey>,
    pub(super) signature: [u8; 64],
    /// What was signed: at first the map, behind label, header and enc once they are known.
    pub(super) signed: Vec<u8>,
}

impl Proof {
    pub(super) fn received(client_key: Option<&[u8]>, signature: [u8; 64], map: Vec<u8>) -> Option<Self> {
        let client_key = match client_key {
            None => None,
            Some(bytes) => Some(PublicKey::from_bytes(bytes)?),
        };
        Some(Self { client_key, signature, signed: map })
    }

    pub(super) fn bind(&mut self, fixed: &[u8], enc: &[u8]) {
        self.signed = input(fixed, enc, &self.signed);
    }
}

/// The bytes that a proof signs.
pub(super) fn input(fixed: &[u8], enc: &[u8], map: &[u8]) -> Vec<u8> {
    [LABEL, fixed, enc, map].concat()
}

/// Kinds of key that a token may be bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// RFC 8032.
    Ed25519,
    /// ECDSA with SHA-256, RFC 7518 §3.4.
    P256,
}

/// A client's public key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PublicKey {
    /// The point, RFC 8032 §5.1.2.
    Ed25519([u8; 32]),
    /// x, then y, big-endian.
    P256([u8; 64]),
}

impl PublicKey {
    /// From the bytes of the inner message's key 10: 32 for Ed25519, 64 for P-256. Whether it is a point is not checked.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if let Ok(point) = bytes.try_into() {
            return Some(Self::Ed25519(point));
        }
        bytes.try_into().ok().map(Self::P256)
    }

    /// The bytes of the inner message's key 10.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(point) => point,
            Self::P256(point) => point,
        }
    }

    /// As a JWK with its required members alone (RFC 8037 §2, RFC 7518 §6.2.1), for a token's `cnf`.
    #[must_use]
    pub fn to_jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Ed25519(point) => json!({ "crv": "Ed25519", "kty": "OKP", "x": text(point) }),
            Self::P256(point) => {
                json!({ "crv": "P-256", "kty": "EC", "x": text(&point[..32]), "y": text(&point[32..]) })
            }
        }
    }

    /// The SHA-256 thumbprint (RFC 7638) in base64url, for a token's `cnf.jkt`.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let members = match self {
            Self::Ed25519(point) => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, text(point)),
            Self::P256(point) => {
                let (x, y) = (text(&point[..32]), text(&point[32..]));
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
        };
        text(digest(&SHA256, members.as_bytes()).as_ref())
    }

    /// From a public or private JWK. Other members than those of the key itself do not matter.
    #[must_use]
    pub fn from_jwk(jwk: &Value) -> Option<Self> {
        let member = |name: &str| jwk.get(name).and_then(Value::as_str);
        let number = |name: &str| -> Option<[u8; 32]> { URL_SAFE_NO_PAD.decode(member(name)?).ok()?.try_into().ok() };
        match (member("kty")?, member("crv")?) {
            ("OKP", "Ed25519") => Some(Self::Ed25519(number("x")?)),
            ("EC", "P-256") => Self::from_bytes(&[number("x")?, number("y")?].concat()),
            _ => None,
        }
    }
}

/// A client's own key pair.
pub struct ClientKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl ClientKey {
    /// A new key pair.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn generate(kind: Kind) -> Result<Self, KeyError> {
        let pair = match kind {
            Kind::Ed25519 => Ed25519KeyPair::generate().map(Pair::Ed25519),
            Kind::P256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Pair::P256),
        };
        Self::new(pair.map_err(|_unspecified| KeyError::NoRandomness)?)
    }

    /// Reads a private JWK (RFC 8037 §2, RFC 7518 §6.2.2); its public half must belong to it.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`].
    pub fn from_jwk(text: &str) -> Result<Self, KeyError> {
        let not_a_key = || KeyError::NotAKey("a private JWK of Ed25519 or P-256");
        let jwk: Value = serde_json::from_str(text).map_err(|_syntax| not_a_key())?;
        let public = PublicKey::from_jwk(&jwk).ok_or_else(not_a_key)?;
        let secret = jwk.get("d").and_then(Value::as_str).and_then(|d| URL_SAFE_NO_PAD.decode(d).ok());
        let secret = Zeroizing::new(secret.filter(|d| d.len() == 32).ok_or_else(not_a_key)?);
        let pair = match &public {
            PublicKey::Ed25519(point) => Ed25519KeyPair::from_seed_and_public_key(&secret, point).map(Pair::Ed25519),
            PublicKey::P256(point) => {
                let point = [&[4], point.as_slice()].concat();
                let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
                EcdsaKeyPair::from_private_key_and_public_key(algorithm, &secret, &point).map(Pair::P256)
            }
        };
        Self::new(pair.map_err(|_rejected| not_a_key())?)
    }

    /// The private JWK, for its file.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`], when the library does not give the key out.
    pub fn to_jwk(&self) -> Result<Zeroizing<String>, KeyError> {
        let not_given = |_unspecified| KeyError::NotAKey("a key that can be written");
        let secret = match &self.pair {
            Pair::Ed25519(pair) => {
                let seed = pair.seed().map_err(not_given)?;
                URL_SAFE_NO_PAD.encode(seed.as_be_bytes().map_err(not_given)?.as_ref())
            }
            Pair::P256(pair) => URL_SAFE_NO_PAD.encode(pair.private_key().as_be_bytes().map_err(not_given)?.as_ref()),
        };
        let mut jwk = self.public.to_jwk();
        jwk["d"] = Value::String(secret);
        Ok(Zeroizing::new(jwk.to_string()))
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(super) fn sign(&self, input: &[u8]) -> Result<[u8; 64], KeyError> {
        let signature = match &self.pair {
            Pair::Ed25519(pair) => pair.sign(input),
            Pair::P256(pair) => {
                pair.sign(&SystemRandom::new(), input).map_err(|_unspecified| KeyError::NoRandomness)?
            }
        };
        signature.as_ref().try_into().map_err(|_length| KeyError::NotAKey("a key with signatures of 64 bytes"))
    }

    fn new(pair: Pair) -> Result<Self, KeyError> {
        let public = match &pair {
            Pair::Ed25519(pair) => PublicKey::from_bytes(pair.public_key().as_ref()),
            // SEC 1 §2.3.3, uncompressed: 04, x, y.
            Pair::P256(pair) => pair.public_key().as_ref().get(1..).and_then(PublicKey::from_bytes),
        };
        Ok(Self { pair, public: public.ok_or(KeyError::NotAKey("a key of Ed25519 or P-256"))? })
    }
}
