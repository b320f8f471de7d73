//! What can be told from a token without its issuer's key: a server that stays silent says none of it.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::{clock::UnixTime, knock::Form};

/// Something about the token that a server will, or may, refuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// Header or payload is not base64url of a JSON object.
    NotJson,
    /// `exp` passed this long ago.
    Expired(Duration),
    /// There is no `exp`, or it is no number.
    NoExpiry,
    /// `cnf`: the token must come with a proof, and a bare knock carries none.
    Bound,
    /// `nbf` lies this far ahead.
    NotYetValid(Duration),
    /// `iat` lies this far ahead.
    IssuedInFuture(Duration),
    /// There is no `aud`.
    NoAudience,
    /// There is no `iss`.
    NoIssuer,
}

impl Finding {
    /// Stable code for programs; the server's own code where it has one.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotJson => "bad_json",
            Self::Expired(_) => "expired",
            Self::NoExpiry => "no_expiry",
            Self::Bound => "confirmation_missing",
            Self::NotYetValid(_) => "not_yet_valid",
            Self::IssuedInFuture(_) => "issued_in_future",
            Self::NoAudience => "no_audience",
            Self::NoIssuer => "no_issuer",
        }
    }

    /// Whether every server refuses such a token. What depends on clocks alone is left to the server, unless it is `exp`.
    #[must_use]
    pub const fn is_hopeless(self) -> bool {
        match self {
            Self::NotJson | Self::Expired(_) | Self::NoExpiry | Self::Bound | Self::NoAudience | Self::NoIssuer => true,
            Self::NotYetValid(_) | Self::IssuedInFuture(_) => false,
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotJson => f.write_str("header or payload of the token is no JSON object"),
            Self::Expired(ago) => write!(f, "the token expired {} ago", Span(*ago)),
            Self::NoExpiry => f.write_str("the token has no expiry (exp), and servers refuse such a token"),
            Self::Bound => f.write_str(
                "the token is bound to a key (cnf), and servers refuse such a token in a bare knock: knock sealed",
            ),
            Self::NotYetValid(ahead) => {
                write!(f, "the token is not valid before {} from now, by this machine's clock", Span(*ahead))
            }
            Self::IssuedInFuture(ahead) => {
                write!(f, "the token was issued {} in the future: this machine's clock is behind", Span(*ahead))
            }
            Self::NoAudience => f.write_str("the token names no audience (aud), and servers refuse such a token"),
            Self::NoIssuer => f.write_str("the token names no issuer (iss), and servers refuse such a token"),
        }
    }
}

/// What a look at the token told. Nothing of it is verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preflight {
    /// `exp`
    pub expires: Option<UnixTime>,
    /// Hopeless ones first.
    pub findings: Vec<Finding>,
}

/// Looks at a compact JWS that is to be sent in `form`, at `now`.
#[must_use]
pub fn look(token: &str, form: Form, now: UnixTime) -> Preflight {
    let mut parts = token.split('.').map(object);
    let (Some(Some(_header)), Some(Some(claims))) = (parts.next(), parts.next()) else {
        return Preflight { expires: None, findings: vec![Finding::NotJson] };
    };
    let date = |name: &str| claims.get(name).and_then(numeric_date);
    let expires = date("exp");
    let mut findings = Vec::new();
    match expires {
        None => findings.push(Finding::NoExpiry),
        Some(exp) if exp <= now => findings.push(Finding::Expired(exp.until(now))),
        Some(_) => {}
    }
    if form == Form::Bare && claims.contains_key("cnf") {
        findings.push(Finding::Bound);
    }
    if !claims.contains_key("aud") {
        findings.push(Finding::NoAudience);
    }
    if !claims.contains_key("iss") {
        findings.push(Finding::NoIssuer);
    }
    if let Some(nbf) = date("nbf").filter(|nbf| *nbf > now) {
        findings.push(Finding::NotYetValid(now.until(nbf)));
    }
    if let Some(iat) = date("iat").filter(|iat| *iat > now) {
        findings.push(Finding::IssuedInFuture(now.until(iat)));
    }
    Preflight { expires, findings }
}

fn object(part: &str) -> Option<serde_json::Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn numeric_date(value: &Value) -> Option<UnixTime> {
    value.as_u64().map(UnixTime::from_secs).or_else(|| {
        // RFC 7519 §2 allows fractions; the part below a second changes nothing here.
        let secs = value.as_f64().filter(|secs| (0.0..9e15).contains(secs))?;
        Some(UnixTime::from_secs(secs as u64))
    })
}

/// Seconds up to two minutes, then minutes, hours and days.
struct Span(Duration);

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_secs() {
            secs @ ..120 => write!(f, "{secs} s"),
            secs @ ..7_200 => write!(f, "{} min", secs / 60),
            secs @ ..172_800 => write!(f, "{} h", secs / 3_600),
            secs => write!(f, "{} days", secs / 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    #[test]
    fn a_good_token_has_no_findings() {
        let seen = findings(json!({"iss": "i", "aud": ["a"], "exp": 1_000_030, "iat": 1_000_000, "nbf": 999_999.5}));
        assert_eq!(seen, []);
    }

    #[test]
    fn each_finding_says_what_a_silent_server_does_not() {
        let good = json!({"iss": "i", "aud": "a", "exp": 1_000_030});
        for (change, finding, text) in [
            (json!({"exp": 999_906}), Finding::Expired(Duration::from_secs(94)), "the token expired 94 s ago"),
            (json!({"exp": 1_000_000}), Finding::Expired(Duration::ZERO), "the token expired 0 s ago"),
            (json!({"exp": "1000030"}), Finding::NoExpiry, "no expiry"),
            (json!({"exp": null}), Finding::NoExpiry, "no expiry"),
            (json!({"cnf": {"jkt": "x"}}), Finding::Bound, "bound to a key"),
            (json!({"nbf": 1_000_600}), Finding::NotYetValid(Duration::from_secs(600)), "not valid before 10 min"),
            (json!({"iat": 1_007_200}), Finding::IssuedInFuture(Duration::from_secs(7_200)), "2 h in the future"),
        ] {
            let mut claims = good.clone();
            claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let seen = findings(claims);
            assert_eq!(seen, [finding]);
            assert!(seen[0].to_string().contains(text), "{}", seen[0]);
        }
        assert_eq!(findings(json!({"exp": 1_000_030})), [Finding::NoAudience, Finding::NoIssuer]);
    }

    #[test]
    fn what_is_no_token_is_no_panic() {
        for text in ["", ".", "a.b.c", "e30.W10.c", "e30.e30", "e30.bnVsbA.x", "\u{fc}.e30.x"] {
            let seen = look(text, Form::Bare, NOW);
            assert!(seen.findings.iter().any(|finding| finding.is_hopeless()), "{text:?}: {seen:?}");
        }
    }

    fn findings(claims: Value) -> Vec<Finding> {
        let payload = URL_SAFE_NO_PAD.encode(claims.to_string());
        look(&format!("e30.{payload}.c2ln"), Form::Bare, NOW).findings
    }
}
