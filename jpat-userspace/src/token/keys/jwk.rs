//! JWK Sets (RFC 7517 §5). One unusable key does not spoil the set: identity providers publish keys for other purposes too.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::{
    Kind, MAX_BYTES, MAX_KEYS, VerificationKey,
    error::{KeyFault, KeysError, names},
    strength, usable,
};
use crate::token::{json, jws::MAX_KID};

/// A key that was left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ignored {
    /// Its name.
    pub kid: Option<String>,
    /// Why.
    pub reason: KeyFault,
}

impl std::fmt::Display for Ignored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kid {
            Some(kid) => write!(f, "key {kid:?} is not used: {}", self.reason),
            None => write!(f, "a key without kid is not used: {}", self.reason),
        }
    }
}

type Members = Map<String, Value>;

pub(super) fn read(bytes: &[u8], configured: &[Algorithm]) -> Result<(Vec<VerificationKey>, Vec<Ignored>), KeysError> {
    if bytes.len() > MAX_BYTES {
        return Err(KeysError::TooLarge(bytes.len()));
    }
    let set = json::object(bytes).map_err(KeysError::Json)?;
    let members = set.get("keys").and_then(Value::as_array).ok_or(KeysError::NoKeysMember)?;
    if members.len() > MAX_KEYS {
        return Err(KeysError::TooManyKeys(members.len()));
    }
    let mut keys: Vec<VerificationKey> = Vec::new();
    let mut ignored = Vec::new();
    for jwk in members {
        match key(jwk, configured) {
            Ok(key) => match &key.kid {
                Some(kid) if keys.iter().any(|other| other.kid.as_ref() == Some(kid)) => {
                    return Err(KeysError::DuplicateKid(kid.clone()));
                }
                Some(_) | None => keys.push(key),
            },
            Err(reason) => {
                let kid = jwk.get("kid").and_then(Value::as_str).map(|kid| kid.chars().take(MAX_KID).collect());
                ignored.push(Ignored { kid, reason });
            }
        }
    }
    Ok((keys, ignored))
}

fn key(jwk: &Value, configured: &[Algorithm]) -> Result<VerificationKey, KeyFault> {
    let jwk = jwk.as_object().ok_or(KeyFault::Malformed("keys"))?;
    let kty = text(jwk, "kty")?.ok_or(KeyFault::Malformed("kty"))?;
    if kty == "oct" {
        return Err(KeyFault::Symmetric);
    }
    // RFC 7518 §6.2.2, §6.3.2; RFC 8037 §2.
    if let Some(member) = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].into_iter().find(|name| jwk.contains_key(*name))
    {
        return Err(KeyFault::Private(member));
    }
    purpose(jwk)?;
    let (kind, key) = match kty {
        "RSA" => (Kind::Rsa, rsa(jwk)?),
        "EC" => elliptic(jwk)?,
        "OKP" => (Kind::Ed25519, edwards(jwk)?),
        other => return Err(KeyFault::UnknownType(other.to_owned())),
    };
    let kid = text(jwk, "kid")?;
    if kid.is_some_and(|kid| kid.len() > MAX_KID) {
        return Err(KeyFault::Malformed("kid"));
    }
    Ok(VerificationKey { kid: kid.map(str::to_owned), algorithms: bound(jwk, kind, configured)?, key })
}

/// `use` and `key_ops` (RFC 7517 §4.2, §4.3): absent means for everything.
fn purpose(jwk: &Members) -> Result<(), KeyFault> {
    match text(jwk, "use")? {
        None | Some("sig") => {}
        Some(other) => return Err(KeyFault::NotForSignatures(other.to_owned())),
    }
    match jwk.get("key_ops") {
        None => Ok(()),
        Some(Value::Array(operations)) if operations.iter().any(|operation| operation == "verify") => Ok(()),
        Some(_) => Err(KeyFault::NotForVerification),
    }
}

/// What the key may be used with: its own `alg` alone where it has one.
fn bound(jwk: &Members, kind: Kind, configured: &[Algorithm]) -> Result<Vec<Algorithm>, KeyFault> {
    let Some(alg) = text(jwk, "alg")? else { return usable(kind, configured) };
    match alg.parse::<Algorithm>() {
        Ok(own) if kind.fits(own) && configured.contains(&own) => Ok(vec![own]),
        Ok(own) if kind.fits(own) => {
            Err(KeyFault::AlgNotConfigured { alg: alg.to_owned(), configured: names(configured) })
        }
        Ok(_) | Err(_) => Err(KeyFault::WrongAlgorithm { alg: alg.to_owned(), kind: kind.as_str() }),
    }
}

/// Leading zeros of the modulus, which RFC 7518 §6.3.1.1 forbids and some libraries write, are dropped.
fn rsa(jwk: &Members) -> Result<DecodingKey, KeyFault> {
    let (modulus, exponent) = (bytes(jwk, "n")?, bytes(jwk, "e")?);
    let modulus = &modulus[modulus.iter().take_while(|byte| **byte == 0).count()..];
    strength::rsa(modulus, &exponent)?;
    Ok(DecodingKey::from_rsa_raw_components(modulus, &exponent))
}

fn elliptic(jwk: &Members) -> Result<(Kind, DecodingKey), KeyFault> {
    let (kind, len) = match text(jwk, "crv")?.ok_or(KeyFault::Malformed("crv"))? {
        "P-256" => (Kind::P256, 32),
        "P-384" => (Kind::P384, 48),
        other => return Err(KeyFault::UnknownCurve(other.to_owned())),
    };
    // SEC 1 §2.3.3, uncompressed.
    let point = [&[4], &*sized(jwk, "x", len)?, &*sized(jwk, "y", len)?].concat();
    if kind == Kind::P256 {
        strength::p256(&point)?
    } else {
        strength::p384(&point)?
    }
    Ok((kind, DecodingKey::from_ec_der(&point)))
}

fn edwards(jwk: &Members) -> Result<DecodingKey, KeyFault> {
    match text(jwk, "crv")?.ok_or(KeyFault::Malformed("crv"))? {
        "Ed25519" => {}
        other => return Err(KeyFault::UnknownCurve(other.to_owned())),
    }
    let point = sized(jwk, "x", 32)?;
    strength::ed25519(&point)?;
    Ok(DecodingKey::from_ed_der(&point))
}

fn text<'j>(jwk: &'j Members, name: &'static str) -> Result<Option<&'j str>, KeyFault> {
    jwk.get(name).map(|value| value.as_str().ok_or(KeyFault::Malformed(name))).transpose()
}

fn bytes(jwk: &Members, name: &'static str) -> Result<Vec<u8>, KeyFault> {
    let text = text(jwk, name)?.ok_or(KeyFault::Malformed(name))?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_position| KeyFault::Malformed(name))
}

/// RFC 7518 §6.2.1.2: coordinates have the full length of the curve.
fn sized(jwk: &Members, name: &'static str, len: usize) -> Result<Vec<u8>, KeyFault> {
    bytes(jwk, name).and_then(|bytes| if bytes.len() == len { Ok(bytes) } else { Err(KeyFault::Malformed(name)) })
}
