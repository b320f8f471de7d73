//! Keys as an issuer publishes them. An input that begins like PEM is read as PEM.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jpat_userspace::token::{
    install_crypto,
    keys::{KeySet, MAX_KEYS, VerificationKey},
};
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde_json::{Map, Value, json};

const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// The set is what was found.
pub fn fuzz(data: &[u8]) {
    install_crypto();
    if data.starts_with(b"-----BEGIN") {
        return pem(data);
    }
    let Ok((set, ignored)) = KeySet::from_jwks(data, &ALGORITHMS) else { return };
    let text: Value = serde_json::from_slice(data).expect("what was read is JSON");
    let members = text["keys"].as_array().expect("a set has keys");
    assert!(members.len() <= MAX_KEYS);
    assert_eq!(members.len(), set.keys().len() + ignored.len(), "every key is used or ignored");

    let mut keys = set.keys().iter();
    for member in members {
        // Whether a key is good does not depend on its neighbours.
        let alone = serde_json::to_vec(&json!({ "keys": [member] })).expect("JSON is written");
        let (alone, _) = KeySet::from_jwks(&alone, &ALGORITHMS).expect("one key is a set");
        if alone.keys().is_empty() {
            continue;
        }
        let key = keys.next().expect("a key that is good alone is good among others");
        assert_eq!((key.kid(), key.algorithms()), (alone.keys()[0].kid(), alone.keys()[0].algorithms()));
        is_strong(member.as_object().expect("a key is an object"), key);
        is_found(&set, key);
    }
    assert!(keys.next().is_none(), "a key from nowhere");
}

fn pem(data: &[u8]) {
    if let Ok(set) = KeySet::from_pem(data, &ALGORITHMS) {
        let [key] = set.keys() else { panic!("{} keys of one file", set.keys().len()) };
        assert!(!key.algorithms().is_empty());
        assert!(!String::from_utf8_lossy(data).contains("PRIVATE KEY-----\n"), "a private key was taken");
        refuses_what_nobody_signed(key);
    }
}

/// A token that names this key, or cannot, gets it for its algorithms and no other.
fn is_found(set: &KeySet, key: &VerificationKey) {
    assert!(!key.algorithms().is_empty());
    for algorithm in ALGORITHMS {
        let fits = key.algorithms().contains(&algorithm);
        if let Some(kid) = key.kid() {
            let found = set.select(Some(kid), algorithm);
            assert_eq!(found.is_ok_and(|found| std::ptr::eq(found, key)), fits, "{kid:?} for {algorithm:?}");
        } else if let Ok(found) = set.select(None, algorithm) {
            assert!(found.algorithms().contains(&algorithm));
        }
    }
}

/// What RFC 7518 and common sense ask of a key, read from its JSON a second time.
fn is_strong(jwk: &Map<String, Value>, key: &VerificationKey) {
    let private = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
    assert!(!private.iter().any(|name| jwk.contains_key(*name)), "a private key was taken");
    assert!(jwk.get("use").is_none_or(|purpose| purpose == "sig"), "not for signatures");
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().expect("text")).expect("base64url");
    let family = match jwk["kty"].as_str().expect("text") {
        "RSA" => {
            let (n, e) = (bytes("n"), bytes("e"));
            let n = &n[n.iter().take_while(|byte| **byte == 0).count()..];
            let bits = n.len() * 8 - n[0].leading_zeros() as usize;
            assert!((2048..=8192).contains(&bits), "{bits} bits");
            assert_eq!(n[n.len() - 1] & 1, 1, "an even modulus");
            let e = e.iter().fold(0_u128, |value, byte| value << 8 | u128::from(*byte));
            assert!(e >= 65_537 && e % 2 == 1, "exponent {e}");
            AlgorithmFamily::Rsa
        }
        "EC" => {
            let length = if jwk["crv"] == "P-256" { 32 } else { 48 };
            assert_eq!((bytes("x").len(), bytes("y").len()), (length, length));
            AlgorithmFamily::Ec
        }
        "OKP" => {
            assert_eq!(bytes("x").len(), 32);
            AlgorithmFamily::Ed
        }
        other => panic!("a key of type {other:?}"),
    };
    for algorithm in key.algorithms() {
        assert_eq!(algorithm.family(), family, "{algorithm:?}");
        assert!(jwk.get("alg").is_none_or(|alg| *alg == format!("{algorithm:?}")), "{algorithm:?} is not its own");
    }
    refuses_what_nobody_signed(key);
}

/// Signatures that hold without a private key where the public one is weak: zeros, ones, and the neutral point, which is a
/// signature over one message in at most eight under an Ed25519 key of low order.
fn refuses_what_nobody_signed(key: &VerificationKey) {
    for &algorithm in key.algorithms() {
        let length = match algorithm.family() {
            AlgorithmFamily::Rsa => 256,
            AlgorithmFamily::Ec if algorithm == Algorithm::ES384 => 96,
            AlgorithmFamily::Ec | AlgorithmFamily::Ed | AlgorithmFamily::Hmac => 64,
        };
        let mut one = vec![0; length];
        one[length - 1] = 1;
        let mut neutral = vec![0; length];
        neutral[0] = 1;
        for (signature, messages) in [(vec![0; length], 1), (one, 1), (neutral, 24)] {
            let messages = if algorithm == Algorithm::EdDSA { messages } else { 1 };
            let signature = URL_SAFE_NO_PAD.encode(signature);
            for message in 0..messages {
                assert!(key.verify(algorithm, &[message], &signature).is_err(), "anyone can sign for {algorithm:?}");
            }
        }
    }
}
