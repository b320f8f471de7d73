//! The payload: registered claims of RFC 7519 §4.1 checked for their types, everything else left as it is.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::json;
use crate::{clock::UnixTime, refusal::Refusal};

/// Most bytes of a `jti`; it is kept in the replay memory.
pub const MAX_JTI: usize = 256;
/// Most bytes of a `sub`. Kubernetes' service accounts have up to 342.
pub const MAX_SUB: usize = 512;

/// Largest number that every JSON implementation keeps exactly (RFC 8259 §6).
const MAX_DATE: u64 = 1 << 53;

/// Claims of the right type. Nothing of it is verified.
#[derive(Clone, PartialEq, Debug)]
pub struct Claims {
    /// Subject.
    pub sub: Option<String>,
    /// Expiry, fractions of a nanosecond rounded down.
    pub exp: Option<UnixTime>,
    /// Not before, rounded up.
    pub nbf: Option<UnixTime>,
    /// Issued at, rounded up.
    pub iat: Option<UnixTime>,
    /// Token id, not empty.
    pub jti: Option<Arc<str>>,
    /// All members.
    pub all: Map<String, Value>,
}

impl Claims {
    /// Reads a decoded payload. A registered claim that is present must have its type: `null` is not absence.
    ///
    /// # Errors
    /// The refusals of [`json::object`], and [`Refusal::BadClaimType`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let all = json::object(bytes)?;
        all.get("iss").map_or(Ok(""), shown)?;
        all.get("aud").map_or(Ok(()), |aud| one_or_more(aud).try_for_each(|one| shown(one).map(|_| ())))?;
        let claims = Self {
            sub: all.get("sub").map(text).transpose()?,
            exp: all.get("exp").map(|exp| date(exp, f64::floor)).transpose()?,
            nbf: all.get("nbf").map(|nbf| date(nbf, f64::ceil)).transpose()?,
            iat: all.get("iat").map(|iat| date(iat, f64::ceil)).transpose()?,
            jti: all.get("jti").map(text).transpose()?,
            all,
        };
        let sub_fits = claims.sub.as_ref().is_none_or(|sub| sub.len() <= MAX_SUB);
        let jti_fits = claims.jti.as_ref().is_none_or(|jti| !jti.is_empty() && jti.len() <= MAX_JTI);
        if sub_fits && jti_fits { Ok(claims) } else { Err(Refusal::BadClaimType) }
    }

    /// Issuer.
    #[must_use]
    pub fn iss(&self) -> Option<&str> {
        self.all.get("iss").and_then(Value::as_str)
    }

    /// Audiences; one string counts as a list of one.
    #[must_use]
    pub fn aud(&self) -> Option<impl Iterator<Item = &str>> {
        Some(one_or_more(self.all.get("aud")?).filter_map(Value::as_str))
    }
}

fn text<T: for<'t> From<&'t str>>(value: &Value) -> Result<T, Refusal> {
    shown(value).map(T::from)
}

fn shown(value: &Value) -> Result<&str, Refusal> {
    value.as_str().ok_or(Refusal::BadClaimType)
}

fn one_or_more(value: &Value) -> std::slice::Iter<'_, Value> {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice).iter()
}

/// A NumericDate (RFC 7519 §2): seconds since 1970, fractions allowed.
fn date(value: &Value, round: fn(f64) -> f64) -> Result<UnixTime, Refusal> {
    if let Some(secs) = value.as_u64() {
        return if secs <= MAX_DATE { Ok(UnixTime::from_secs(secs)) } else { Err(Refusal::BadClaimType) };
    }
    let secs = value.as_f64().ok_or(Refusal::BadClaimType)?;
    if !(0.0..=MAX_DATE as f64).contains(&secs) {
        return Err(Refusal::BadClaimType);
    }
    let nanos = round(secs.fract() * 1e9) as u64;
    Ok(UnixTime(UnixTime::from_secs(secs.trunc() as u64).0.saturating_add(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Result<Claims, Refusal> {
        Claims::parse(format!(r#"{{"{name}":{value}}}"#).as_bytes())
    }

    #[test]
    fn dates_are_whole_or_fractional_seconds() {
        let exp = |text: &str| one("exp", text).unwrap().exp.unwrap();
        assert_eq!(exp("1700000000"), UnixTime::from_secs(1_700_000_000));
        assert_eq!(exp("1.7e9"), UnixTime::from_secs(1_700_000_000));
        assert_eq!(exp("1.5"), UnixTime(1_500_000_000));
        assert_eq!(exp("0"), UnixTime(0));
        assert_eq!(exp("-0"), UnixTime(0));
        // The end of UnixTime is in the year 2554: later dates are that end.
        assert_eq!(exp("9007199254740992"), UnixTime(u64::MAX));
    }

    #[test]
    fn dates_round_against_the_sender() {
        assert_eq!(one("exp", "1.9999999999").unwrap().exp, Some(UnixTime(1_999_999_999)));
        assert_eq!(one("nbf", "1.0000000001").unwrap().nbf, Some(UnixTime(1_000_000_001)));
        assert_eq!(one("iat", "1.0000000001").unwrap().iat, Some(UnixTime(1_000_000_001)));
    }

    #[test]
    fn numbers_that_are_no_dates() {
        for name in ["exp", "nbf", "iat"] {
            for bad in ["-1", "-0.5", "9007199254740993", "1e300", "18446744073709551616", "-9223372036854775808"] {
                assert_eq!(one(name, bad).unwrap_err(), Refusal::BadClaimType, "{name} {bad}");
            }
        }
    }

    #[test]
    fn lengths() {
        for (name, most) in [("jti", MAX_JTI), ("sub", MAX_SUB)] {
            assert!(one(name, &format!("\"{}\"", "a".repeat(most))).is_ok());
            assert_eq!(one(name, &format!("\"{}\"", "a".repeat(most + 1))).unwrap_err(), Refusal::BadClaimType);
        }
        assert_eq!(one("jti", "\"\"").unwrap_err(), Refusal::BadClaimType);
        assert!(one("sub", "\"\"").is_ok());
    }
}
