//! The compact serialization of RFC 7515 §7.1, split and decoded strictly; the header read into a closed struct.

use std::{cell::RefCell, sync::Arc};

use base64::{DecodeSliceError, Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::json;
use crate::refusal::Refusal;

/// Most bytes of a `kid`, an opaque name to us.
pub const MAX_KID: usize = 256;

thread_local! {
    /// The good header that was read last on this thread, and its text: an issuer's tokens have the same one until its key
    /// changes.
    static LAST: RefCell<Option<(Box<str>, Arc<Header>)>> = const { RefCell::new(None) };
}

/// Three parts, and what the signature is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parts<'t> {
    /// The header as it came: canonical base64url, never empty.
    pub header: &'t str,
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
        check(signature)?;
        if last(header).is_none() {
            decode(header)?;
        }
        Ok(Self { header, payload: decode(payload)?, signing_input, signature })
    }
}

fn last(text: &str) -> Option<Arc<Header>> {
    LAST.with_borrow(|last| last.as_ref().filter(|(known, _)| **known == *text).map(|(_, header)| Arc::clone(header)))
}

/// Whether a part can be decoded. What is no longer than a signature of RSA-4096 needs no room on the heap.
fn check(part: &str) -> Result<(), Refusal> {
    match URL_SAFE_NO_PAD.decode_slice(part, &mut [0; 512]) {
        Ok(_) => Ok(()),
        Err(DecodeSliceError::OutputSliceTooSmall) => decode(part).map(drop),
        Err(DecodeSliceError::DecodeError(_)) => Err(Refusal::BadBase64),
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
    /// Reads a header as it came.
    ///
    /// # Errors
    /// [`Refusal::BadBase64`], and those of [`Self::parse`].
    pub fn read(text: &str) -> Result<Arc<Self>, Refusal> {
        if let Some(header) = last(text) {
            return Ok(header);
        }
        let header = Arc::new(Self::parse(&decode(text)?)?);
        LAST.set(Some((text.into(), Arc::clone(&header))));
        Ok(header)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_of_any_length_has_one_spelling() {
        for length in [86, 342, 683, 1_366] {
            let text = |last| format!("e30.e30.{}{last}", "A".repeat(length - 1));
            assert!(Parts::split(&text('A')).is_ok(), "{length}");
            for bad in ['B', '='] {
                assert_eq!(Parts::split(&text(bad)).map(|_| ()), Err(Refusal::BadBase64), "{length} {bad}");
            }
        }
    }

    /// What was read last changes nothing of what the next is read as.
    #[test]
    fn a_header_is_read_the_same_after_any_other() {
        let text = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let good = [r#"{"alg":"ES256","kid":"a"}"#, r#"{"alg":"ES256","kid":"b"}"#, r#"{"typ":"JWT"}"#].map(text);
        let bad = [text(r#"{"alg":"none"}"#), text(r#"{"alg":1}"#), text("{"), "e".to_owned(), "e30=".to_owned()];
        let all: Vec<_> = good.iter().chain(&bad).collect();
        let alone = |text: &str| {
            LAST.set(None);
            let split = Parts::split(&format!("{text}.e30.")).map(|_| ());
            (split, Header::read(text))
        };
        let expected: Vec<_> = all.iter().map(|text| alone(text)).collect();
        assert_eq!(expected.iter().filter(|(_, read)| read.is_ok()).count(), good.len());
        for first in &all {
            for (second, expected) in all.iter().zip(&expected) {
                LAST.set(None);
                let _read = Header::read(first);
                for _ in 0..2 {
                    assert_eq!(Parts::split(&format!("{second}.e30.")).map(|_| ()), expected.0, "{first} {second}");
                    assert_eq!(Header::read(second), expected.1, "{first} {second}");
                }
            }
        }
    }
}
