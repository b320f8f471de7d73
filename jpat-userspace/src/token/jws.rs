//! The compact serialization of RFC 7515 §7.1, split and decoded strictly; the header read into a closed struct.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::json;
use crate::refusal::Refusal;

/// Most bytes of a `kid`, an opaque name to us.
pub const MAX_KID: usize = 256;

/// Three decoded parts, and what the signature is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parts<'t> {
    /// Decoded header, never empty.
    pub header: Vec<u8>,
    /// Decoded payload.
    pub payload: Vec<u8>,
    /// Header, dot and payload as they came (RFC 7515 §5.1).
    pub signing_input: &'t str,
    /// The signature as it came: canonical base64url.
    pub signature: &'t str,
}

impl<'t> Parts<'t> {
    /// Splits at exactly two dots and decodes. Padding, white space and set spare bits are refused, so that no token has a
    /// second spelling (RFC 7515 §2, RFC 4648 §3.5).
    ///
    /// # Errors
    /// [`Refusal::NotJws`], [`Refusal::BadBase64`].
    pub fn split(token: &'t str) -> Result<Self, Refusal> {
        let (signing_input, signature) = token.rsplit_once('.').ok_or(Refusal::NotJws)?;
        let (header, payload) = signing_input.split_once('.').ok_or(Refusal::NotJws)?;
        if header.is_empty() || payload.contains('.') {
            return Err(Refusal::NotJws);
        }
        decode(signature)?;
        Ok(Self { header: decode(header)?, payload: decode(payload)?, signing_input, signature })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_position| Refusal::BadBase64)
}

/// What JPAT reads of a header. Members that only describe (`x5t`, `cty`, private ones) are ignored, as RFC 7515 §4 asks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// Algorithm, as the token names it; only ever compared with what the configuration allows.
    pub alg: Option<String>,
    /// Key id: at most [`MAX_KID`] bytes, no control characters.
    pub kid: Option<String>,
    /// Media type of the whole token.
    pub typ: Option<String>,
}

impl Header {
    /// Reads a decoded header.
    ///
    /// # Errors
    /// The refusals of [`json::object`]; [`Refusal::BadHeader`], [`Refusal::AlgNone`], [`Refusal::CriticalHeader`],
    /// [`Refusal::EmbeddedKey`], [`Refusal::Compressed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let members = json::object(bytes)?;
        let header = Self { alg: text(&members, "alg")?, kid: text(&members, "kid")?, typ: text(&members, "typ")? };
        if header.alg.as_ref().is_some_and(|alg| alg.eq_ignore_ascii_case("none")) {
            return Err(Refusal::AlgNone);
        }
        let has = |names: &[&str]| names.iter().any(|name| members.contains_key(*name));
        if has(&["crit"]) {
            return Err(Refusal::CriticalHeader);
        }
        if has(&["jwk", "jku", "x5u", "x5c"]) {
            return Err(Refusal::EmbeddedKey);
        }
        if has(&["zip", "enc"]) {
            return Err(Refusal::Compressed);
        }
        // RFC 7797 §6: `b64` without `crit` is broken, and would change what is signed for those who know it.
        let kid_is_sane =
            header.kid.as_ref().is_none_or(|kid| kid.len() <= MAX_KID && !kid.chars().any(char::is_control));
        if has(&["b64"]) || !kid_is_sane {
            return Err(Refusal::BadHeader);
        }
        Ok(header)
    }
}

fn text(members: &Map<String, Value>, name: &str) -> Result<Option<String>, Refusal> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(Refusal::BadHeader)
        }
    }
}
