//! The rows: what is sent, and under which reason it must be counted.

use anyhow::Result;
use jpat_tests::forge::encode;
use serde_json::{Value, json};

use super::{BROKEN_ISSUER, Keys, RSA_ISSUER, TWINS_ISSUER};
use crate::stage::Stage;

/// One kind of bad input.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) counted: Counted,
    pub(super) datagram: Datagram,
}

type Datagram = Box<dyn Fn(&Stage, &Keys) -> Result<Vec<u8>> + Send>;

/// Where it is counted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counted {
    /// `jpat_knocks_total`, by the controller.
    Refusal(&'static str),
    /// `jpat_packets_total`, by the program.
    Packet(&'static str),
}

pub(super) fn all() -> Vec<Row> {
    [shapes(), headers(), claims(), principals()].into_iter().flatten().collect()
}

/// What is no JWS, or not of its form.
fn shapes() -> Vec<Row> {
    vec![
        packet("empty", "knock_empty", |_| Vec::new()),
        packet("oversized", "knock_too_long", |token| [token, &vec![b'A'; 1233 - token.len()]].concat()),
        packet("longest_garbage", "knock_no_form", |_| vec![b'A'; 1232]),
        packet("binary_garbage", "knock_no_form", |_| (0..=255).filter(|byte| *byte != b'.').collect()),
        packet("plain_text", "knock_no_form", |_| b"GET / HTTP/1.1".to_vec()),
        bytes("two_parts", "not_jws", |token| token[..last_dot(token)].to_vec()),
        bytes("no_signature", "bad_signature", |token| token[..=last_dot(token)].to_vec()),
        bytes("encrypted_five_parts", "not_jws", |token| [token, b".a.b"].concat()),
        bytes("truncated_signature", "bad_signature", |token| token[..token.len() - 2].to_vec()),
        bytes("spare_bits_set", "bad_base64", |token| {
            // 64 bytes are 85 characters and a half: the last one carries two bits of data and four of nothing.
            let mut token = token.to_vec();
            if let Some(last) = token.last_mut() {
                *last = if *last == b'A' { b'B' } else { b'z' };
            }
            token
        }),
        bytes("padding", "bad_base64", |token| [token, b"=="].concat()),
        bytes("second_line_end", "bad_base64", |token| [token, b"\n\n"].concat()),
        bytes("null_byte", "bad_base64", |token| [token, b"\0"].concat()),
        raw("header_not_utf8", "not_utf8", |keys, _| keys.es256.sign(b"{\"alg\":\"ES256\",\"kid\":\"\xff\"}", b"{}")),
        raw("header_no_json", "bad_json", |keys, _| keys.es256.sign(b"{hello", b"{}")),
        Row {
            counted: Counted::Packet("knock_no_form"),
            ..raw("header_no_object", "bad_json", |keys, _| keys.es256.sign(b"[1]", b"{}"))
        },
        raw("payload_no_json", "bad_json", |keys, _| keys.es256.sign(&header(keys), b"hello")),
        raw("payload_not_utf8", "not_utf8", |keys, _| keys.es256.sign(&header(keys), b"{\"iss\":\"\xc0\x80\"}")),
        raw("duplicate_member_in_the_header", "duplicate_member", |keys, claims| {
            keys.es256.sign(br#"{"alg":"ES256","kid":"k1","alg":"ES256"}"#, claims.to_string().as_bytes())
        }),
        raw("duplicate_member_in_the_payload", "duplicate_member", |keys, claims| {
            let twice = claims.to_string().replacen('{', r#"{"sub":"employee:eve","#, 1);
            keys.es256.sign(&header(keys), twice.as_bytes())
        }),
        raw("duplicate_member_by_escape", "duplicate_member", |keys, claims| {
            let twice = claims.to_string().replacen('{', r#"{"\u0073ub":"employee:eve","#, 1);
            keys.es256.sign(&header(keys), twice.as_bytes())
        }),
        raw("deep_nesting", "too_deep", |keys, claims| {
            let deep = format!("{{\"x\":{}{},", "[".repeat(200), "]".repeat(200));
            keys.es256.sign(&header(keys), claims.to_string().replacen('{', &deep, 1).as_bytes())
        }),
    ]
}

/// What the header must not say.
fn headers() -> Vec<Row> {
    vec![
        with_header("alg_none", "alg_none", json!({ "alg": "none" })),
        with_header("alg_none_spelled_otherwise", "alg_none", json!({ "alg": "nOnE" })),
        with_header("alg_missing", "alg_not_allowed", json!({ "alg": null })),
        with_header("alg_unknown", "alg_not_allowed", json!({ "alg": "XS999" })),
        raw("algorithm_confusion", "alg_not_allowed", confused),
        raw("algorithm_of_another_issuer", "alg_not_allowed", |keys, claims| keys.rs256.token(claims)),
        with_header("embedded_jwk", "embedded_key", json!({ "jwk": { "kty": "EC" } })),
        with_header("jku", "embedded_key", json!({ "jku": "https://evil.example/keys" })),
        with_header("x5u", "embedded_key", json!({ "x5u": "https://evil.example/certificate" })),
        with_header("x5c", "embedded_key", json!({ "x5c": ["AAAA"] })),
        with_header("crit", "critical_header", json!({ "crit": ["exp"], "exp": 1 })),
        with_header("zip", "compressed", json!({ "zip": "DEF" })),
        with_header("typ", "typ_not_allowed", json!({ "typ": "logout+jwt" })),
        with_header("kid_of_wrong_type", "bad_header", json!({ "kid": 7 })),
        with_header("kid_unknown", "unknown_kid", json!({ "kid": "k2" })),
        raw("foreign_key", "bad_signature", |keys, claims| keys.foreign.token(claims)),
        raw("weak_key", "unknown_kid", |keys, claims| {
            let claims = changed(claims, json!({ "iss": RSA_ISSUER })).to_string();
            keys.rs256.sign(br#"{"alg":"RS256","kid":"weak"}"#, claims.as_bytes())
        }),
        raw("no_kid_and_two_keys", "ambiguous_key", |keys, claims| {
            let claims = changed(claims, json!({ "iss": TWINS_ISSUER })).to_string();
            keys.es256.sign(br#"{"alg":"ES256"}"#, claims.as_bytes())
        }),
    ]
}

/// What the claims must not say, well signed.
fn claims() -> Vec<Row> {
    vec![
        with_claims("iss_wrong", "unknown_issuer", |_| json!({ "iss": "https://idp.example/" })),
        with_claims("iss_array", "bad_claim_type", |_| json!({ "iss": ["https://idp.example"] })),
        without("iss_missing", "no_issuer", "iss"),
        with_claims("aud_wrong", "wrong_audience", |_| json!({ "aud": "jpat://test" })),
        with_claims("aud_prefix", "wrong_audience", |_| json!({ "aud": ["jpat://prod/x", "jpat://"] })),
        with_claims("aud_of_wrong_type", "bad_claim_type", |_| json!({ "aud": 7 })),
        without("aud_missing", "no_audience", "aud"),
        without("exp_missing", "no_expiry", "exp"),
        with_claims("exp_string", "bad_claim_type", |now| json!({ "exp": (now + 300).to_string() })),
        with_claims("exp_past", "expired", |now| json!({ "exp": now - 1 })),
        with_claims("exp_zero", "expired", |_| json!({ "exp": 0 })),
        with_claims("exp_far", "lifetime_too_long", |now| json!({ "exp": now + 25 * 3600 })),
        with_claims("nbf_future", "not_yet_valid", |now| json!({ "nbf": now + 60 })),
        with_claims("iat_future", "issued_in_future", |now| json!({ "iat": now + 60 })),
        with_claims("cnf_bare", "confirmation_missing", |_| json!({ "cnf": { "jkt": "AAAA" } })),
    ]
}

/// Whom the policy refuses.
fn principals() -> Vec<Row> {
    vec![
        with_claims("doge", "not_allowed", |_| json!({ "roles": ["commerce-listings-admin", "doge"] })),
        with_claims("left_the_company", "deny_rule", |_| json!({ "sub": "employee:nobody" })),
        with_claims("policy_error", "policy_error", |_| json!({ "iss": BROKEN_ISSUER })),
    ]
}

fn bytes(name: &'static str, code: &'static str, change: fn(&[u8]) -> Vec<u8>) -> Row {
    let datagram = move |stage: &Stage, keys: &Keys| Ok(change(keys.es256.token(&stage.claims())?.as_bytes()));
    Row { name, counted: Counted::Refusal(code), datagram: Box::new(datagram) }
}

fn packet(name: &'static str, reason: &'static str, change: fn(&[u8]) -> Vec<u8>) -> Row {
    Row { counted: Counted::Packet(reason), ..bytes(name, reason, change) }
}

fn raw(name: &'static str, code: &'static str, make: fn(&Keys, &Value) -> Result<String>) -> Row {
    let datagram = move |stage: &Stage, keys: &Keys| Ok(make(keys, &stage.claims())?.into_bytes());
    Row { name, counted: Counted::Refusal(code), datagram: Box::new(datagram) }
}

fn with_header(name: &'static str, code: &'static str, changes: Value) -> Row {
    let datagram = move |stage: &Stage, keys: &Keys| {
        let header = changed(&keys.es256.header(), changes.clone());
        let signed = keys.es256.sign(header.to_string().as_bytes(), stage.claims().to_string().as_bytes())?;
        Ok(signed.into_bytes())
    };
    Row { name, counted: Counted::Refusal(code), datagram: Box::new(datagram) }
}

fn with_claims(name: &'static str, code: &'static str, changes: fn(u64) -> Value) -> Row {
    let datagram = move |stage: &Stage, keys: &Keys| {
        let claims = stage.claims();
        let now = claims["iat"].as_u64().unwrap_or_default();
        Ok(keys.es256.token(&changed(&claims, changes(now)))?.into_bytes())
    };
    Row { name, counted: Counted::Refusal(code), datagram: Box::new(datagram) }
}

fn without(name: &'static str, code: &'static str, claim: &'static str) -> Row {
    let datagram = move |stage: &Stage, keys: &Keys| {
        Ok(keys.es256.token(&changed(&stage.claims(), json!({ claim: null })))?.into_bytes())
    };
    Row { name, counted: Counted::Refusal(code), datagram: Box::new(datagram) }
}

/// `HS256` with the RSA public key as the secret (RFC 8725 §2.1).
fn confused(keys: &Keys, claims: &Value) -> Result<String> {
    let claims = changed(claims, json!({ "iss": RSA_ISSUER }));
    let header = json!({ "alg": "HS256", "kid": "r1", "typ": "JWT" });
    let input = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    let public = keys.rs256.public_pem()?;
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_bytes());
    let tag = aws_lc_rs::hmac::sign(&secret, input.as_bytes());
    Ok(format!("{input}.{}", encode(tag.as_ref())))
}

fn header(keys: &Keys) -> Vec<u8> {
    keys.es256.header().to_string().into_bytes()
}

/// `null` takes a member away.
fn changed(object: &Value, changes: Value) -> Value {
    let mut object = object.clone();
    if let (Some(members), Value::Object(changes)) = (object.as_object_mut(), changes) {
        for (name, value) in changes {
            if value.is_null() {
                members.remove(&name);
            } else {
                members.insert(name, value);
            }
        }
    }
    object
}

fn last_dot(token: &[u8]) -> usize {
    token.iter().rposition(|byte| *byte == b'.').unwrap_or(0)
}
