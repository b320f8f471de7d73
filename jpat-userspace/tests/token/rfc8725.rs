//! The rules of RFC 8725 §3, one test each, under their numbers.

use jpat_userspace::{
    refusal::Refusal,
    token::keys::{KeyFault, KeySet, KeysError},
};
use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::{
    bench::{AUD, Bench, claims, issuer},
    mint::{Signer, b64},
};

#[test]
fn rfc8725_3_1_perform_algorithm_verification() {
    let both = [Algorithm::RS256, Algorithm::PS256];
    let rs = Signer::rsa(Algorithm::RS256);
    let jwk = rs.jwk_with(json!({ "kid": "k1", "alg": "RS256" }));
    let (keys, _) = KeySet::from_jwks(json!({ "keys": [jwk] }).to_string().as_bytes(), &both).unwrap();
    let bench = Bench::with(rs, |jwk| json!({ "keys": [jwk] })).keys(keys);
    let bench = bench.issuer(|issuer| issuer.algorithms = both.to_vec());
    bench.accepted("the key's own algorithm", &bench.good());
    let ps = Signer::rsa(Algorithm::PS256);
    let header = bench.header().set("alg", "\"PS256\"");
    let token = ps.sign(header.text().as_bytes(), claims().text().as_bytes());
    bench.refused("same key, another configured algorithm", &token, Refusal::KeyMismatch);
    // The header's word is not enough: a PS256 signature labelled RS256.
    let token = ps.sign(bench.header().text().as_bytes(), claims().text().as_bytes());
    bench.refused("label and signature differ", &token, Refusal::BadSignature);
}

#[test]
fn rfc8725_3_2_use_appropriate_algorithms() {
    let bench = Bench::new();
    for alg in ["none", "ES256K", "RSA1_5", "HS1", "RS1", "A128KW", "Ed448"] {
        let token = bench.sign(&bench.header().set("alg", &format!("{alg:?}")), &claims());
        bench.refused(alg, &token, if alg == "none" { Refusal::AlgNone } else { Refusal::AlgNotAllowed });
    }
}

#[test]
fn rfc8725_3_3_validate_all_cryptographic_operations() {
    let bench = Bench::new();
    let inner = bench.good();
    let outer = bench.signer.sign(bench.header().set("cty", "\"JWT\"").text().as_bytes(), inner.as_bytes());
    bench.refused("nested JWT: the inner one would go unjudged", &outer, Refusal::BadJson);
    let (input, _) = inner.rsplit_once('.').unwrap();
    for signature in [vec![0; 64], vec![], vec![0; 63], vec![0xff; 64], vec![0; 72]] {
        bench.refused("bad signature", &format!("{input}.{}", b64(signature)), Refusal::BadSignature);
    }
}

#[test]
fn rfc8725_3_4_validate_cryptographic_inputs() {
    let es256 = Signer::es256().jwk;
    let (x, y) = (es256["x"].as_str().unwrap(), es256["y"].as_str().unwrap());
    let zero = b64([0; 32]);
    for (why, x, y) in [("off the curve", y, x), ("the origin", &zero, &zero), ("x alone", x, &zero)] {
        let set = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "x": x, "y": y }] }).to_string();
        let (keys, ignored) = KeySet::from_jwks(set.as_bytes(), &[Algorithm::ES256]).unwrap();
        assert!(keys.keys().is_empty(), "{why}");
        assert_eq!(ignored[0].reason, KeyFault::NotOnCurve("P-256"), "{why}");
    }
}

#[test]
fn rfc8725_3_5_ensure_cryptographic_keys_have_sufficient_entropy() {
    for (algorithm, needed) in [(Algorithm::HS256, 32), (Algorithm::HS384, 48), (Algorithm::HS512, 64)] {
        assert!(KeySet::from_secret(&vec![b'x'; needed], &[algorithm]).is_ok());
        for bytes in [0, 1, needed - 1] {
            let refused = KeySet::from_secret(&vec![b'x'; bytes], &[algorithm]).unwrap_err();
            assert_eq!(refused, KeysError::SecretTooShort { bytes, needed });
        }
    }
    let all = [Algorithm::HS256, Algorithm::HS512];
    let refused = KeySet::from_secret(&[b'x'; 63], &all).unwrap_err();
    assert_eq!(refused, KeysError::SecretTooShort { bytes: 63, needed: 64 });
}

#[test]
fn rfc8725_3_6_avoid_compression_of_encryption_inputs() {
    let bench = Bench::new();
    let token = bench.sign(&bench.header().set("zip", "\"DEF\""), &claims());
    bench.refused("zip", &token, Refusal::Compressed);
}

#[test]
fn rfc8725_3_7_use_utf8() {
    let bench = Bench::new();
    let utf16: Vec<u8> = claims().text().encode_utf16().flat_map(u16::to_le_bytes).collect();
    bench.refused("UTF-16", &bench.signer.sign(bench.header().text().as_bytes(), &utf16), Refusal::BadJson);
    let latin1 = claims().set("name", "\"?\"").text().replace('?', "\u{fc}");
    let latin1: Vec<u8> = latin1.chars().map(|character| character as u8).collect();
    bench.refused("Latin-1", &bench.signer.sign(bench.header().text().as_bytes(), &latin1), Refusal::NotUtf8);
}

#[test]
fn rfc8725_3_8_validate_issuer_and_subject() {
    // Two issuers: each one's key verifies its own tokens alone, and equal subjects are different principals.
    let mut bench = Bench::new();
    let other = Signer::es256();
    let jwk = other.jwk_with(json!({ "kid": "k1" }));
    let (keys, _) = KeySet::from_jwks(json!({ "keys": [jwk] }).to_string().as_bytes(), &[Algorithm::ES256]).unwrap();
    bench.config.issuers.push(issuer("other", "https://other.example"));
    let held = jpat_userspace::keyring::Held { keys: std::sync::Arc::new(keys), fetched: bench.now.unix };
    bench.ring = bench.ring.clone().with("other", held);
    let theirs = claims().set("iss", "\"https://other.example\"");
    let token = other.sign(bench.header().text().as_bytes(), theirs.text().as_bytes());
    let theirs_verified = bench.accepted("its own", &token);
    assert_ne!(theirs_verified.principal(), bench.accepted("ours", &bench.good()).principal());
    assert_ne!(theirs_verified.id(), bench.accepted("ours", &bench.good()).id(), "one jti at two issuers");
    let ours_by_them = other.sign(bench.header().text().as_bytes(), claims().text().as_bytes());
    bench.refused("our iss under their key", &ours_by_them, Refusal::BadSignature);
    bench.refused("their iss under our key", &bench.token(&theirs), Refusal::BadSignature);
    bench.refused("sub that is no string", &bench.token(&claims().set("sub", "1")), Refusal::BadClaimType);
}

#[test]
fn rfc8725_3_9_use_and_validate_audience() {
    let bench = Bench::new();
    bench.accepted("one of ours", &bench.token(&claims().set("aud", &format!("[\"x\",{AUD:?}]"))));
    bench.refused("another server's", &bench.token(&claims().set("aud", "\"x\"")), Refusal::WrongAudience);
    bench.refused("none", &bench.token(&claims().without("aud")), Refusal::NoAudience);
}

#[test]
fn rfc8725_3_10_do_not_trust_received_claims() {
    let bench = Bench::new();
    let attacker = Signer::es256();
    for (name, value) in [
        ("jwk", attacker.jwk.to_string()),
        ("jku", "\"https://evil.example\"".to_owned()),
        ("x5u", "\"https://evil.example\"".to_owned()),
        ("x5c", "[\"MIIB\"]".to_owned()),
    ] {
        let header = bench.header().set(name, &value);
        let token = attacker.sign(header.text().as_bytes(), claims().text().as_bytes());
        bench.refused(name, &token, Refusal::EmbeddedKey);
    }
    let token = bench.sign(&bench.header().set("kid", "\"../k1\""), &claims());
    bench.refused("kid as a path", &token, Refusal::UnknownKid);
}

#[test]
fn rfc8725_3_11_use_explicit_typing() {
    let bench = Bench::new().issuer(|issuer| issuer.typ = vec!["jpat+jwt".to_owned()]);
    let typed = |typ: &str| bench.sign(&bench.header().set("typ", &format!("{typ:?}")), &claims());
    bench.accepted("ours", &typed("jpat+jwt"));
    bench.accepted("with application/", &typed("application/JPAT+jwt"));
    for other in
        ["JWT", "at+jwt", "secevent+jwt", "dpop+jwt", "jpat", "application/application/jpat+jwt", "text/jpat+jwt"]
    {
        bench.refused(other, &typed(other), Refusal::TypNotAllowed);
    }
}

#[test]
fn rfc8725_3_12_use_mutually_exclusive_validation_rules() {
    // An ID token for a client, a token for another kind, another issuer's: none passes for an access token of ours.
    let bench = Bench::new();
    let id_token = claims().set("aud", "\"client-17\"").set("nonce", "\"n\"");
    bench.refused("ID token", &bench.token(&id_token), Refusal::WrongAudience);
    let proof = bench.sign(&bench.header().set("typ", "\"dpop+jwt\""), &claims());
    bench.refused("DPoP proof", &proof, Refusal::TypNotAllowed);
    let bound = bench.token(&claims().set("cnf", "{\"x5t#S256\":\"abc\"}"));
    bench.refused("bound to a client certificate", &bound, Refusal::ConfirmationMissing);
}
