//! Project Wycheproof: JWS and JWK vectors through the steps a token takes, primitives through the same keys.

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jpat_userspace::{
    refusal::Refusal,
    token::{
        install_crypto,
        jws::Parts,
        keys::{KeyFault, KeySet, KeysError},
        signature::verify_jws,
    },
};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::mint::b64;

const ASYMMETRIC: [Algorithm; 9] = [
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Vectors of the JWS file that JPAT judges otherwise, with the reason.
const DEVIATIONS: [(u64, &str); 8] = [
    (367, "marked invalid, but identical to the valid 357"),
    (370, "marked invalid, but identical to the valid 357"),
    (372, "a `?` in the header, marked valid: RFC 7515 §2 knows no lenient base64url"),
    (373, "a `?` in the payload, marked valid: the same"),
    (346, "key for PS256, header PS384: RFC 8725 §3.1 binds a key to its alg"),
    (350, "the same, with key_ops"),
    (347, "key with the alg ES521, which does not exist; P-521 is not supported either"),
    (351, "the same, with key_ops"),
];

fn load(name: &str) -> Value {
    install_crypto();
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../tests/vectors/wycheproof", name].iter().collect();
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn groups(file: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    let groups = file["testGroups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["tests"].as_array().unwrap().iter().map(move |test| (group, test)))
}

/// The keys of a group as an issuer would give them: public ones as a JWK Set; one secret as a secret file for its `alg`; of
/// several secrets the one that the token names, as JPAT takes no secret from a key set.
fn keys(group: &Value, token: &str) -> Result<(KeySet, Vec<Algorithm>), KeysError> {
    let source = group.get("public").unwrap_or(&group["private"]);
    let jwks = source["keys"].as_array().cloned().unwrap_or_else(|| vec![source.clone()]);
    let all_secret = jwks.iter().all(|jwk| jwk["kty"] == "oct");
    if !all_secret {
        let set = json!({ "keys": jwks }).to_string();
        return Ok((KeySet::from_jwks(set.as_bytes(), &ASYMMETRIC)?.0, ASYMMETRIC.to_vec()));
    }
    let header = Parts::split(token).ok().and_then(|parts| URL_SAFE_NO_PAD.decode(parts.header).ok());
    let header = header.and_then(|header| serde_json::from_slice::<Value>(&header).ok());
    let kid = header.map(|header| header["kid"].clone());
    let mut named = jwks.iter().filter(|jwk| jwks.len() == 1 || Some(&jwk["kid"]) == kid.as_ref());
    let (Some(jwk), None) = (named.next(), named.next()) else {
        return Err(KeysError::DuplicateKid(kid.unwrap_or_default().to_string()));
    };
    let secret = URL_SAFE_NO_PAD.decode(jwk["k"].as_str().unwrap()).unwrap();
    let algorithms: Vec<_> = jwk["alg"].as_str().unwrap().parse().into_iter().collect();
    Ok((KeySet::from_secret(&secret, &algorithms)?, algorithms))
}

/// What became of one JWS.
fn outcome(group: &Value, token: &Value) -> Result<(), String> {
    // A JSON serialization comes as an object.
    let token = token.as_str().map_or_else(|| token.to_string(), str::to_owned);
    let (keys, algorithms) = keys(group, &token).map_err(|error| error.to_string())?;
    verify_jws(&token, &keys, &algorithms).map(|_| ()).map_err(|refusal| refusal.to_string())
}

#[test]
fn json_web_signature() {
    let file = load("json_web_signature_test.json");
    let (mut accepted, mut refused, mut deviating) = (0, 0, Vec::new());
    for (group, test) in groups(&file) {
        let outcome = outcome(group, &test["jws"]);
        let valid = test["result"] == "valid";
        match outcome.is_ok() {
            ok if ok != valid => deviating.push((test["tcId"].as_u64().unwrap(), outcome)),
            true => accepted += 1,
            false => refused += 1,
        }
    }
    let mut expected: Vec<_> = DEVIATIONS.iter().map(|(id, _)| *id).collect();
    expected.sort_unstable();
    let found: Vec<_> = deviating.iter().map(|(id, _)| *id).collect();
    assert_eq!(found, expected, "{deviating:?}");
    assert_eq!((accepted, refused), (40, 353), "of 46 valid and 355 invalid");
}

/// Not only refused: for the reason that the vector is about.
#[test]
fn json_web_signature_reasons() {
    let file = load("json_web_signature_test.json");
    for (id, refusal) in [
        (20, Refusal::BadSignature),
        (21, Refusal::NotJws),
        (25, Refusal::UnknownKid),
        (31, Refusal::AlgNotAllowed),
        (32, Refusal::EmbeddedKey),
        (353, Refusal::NoKeys),
        (355, Refusal::NoKeys),
        (360, Refusal::BadBase64),
        (374, Refusal::BadBase64),
        (386, Refusal::BadSignature),
    ] {
        let (group, test) = groups(&file).find(|(_, test)| test["tcId"] == id).unwrap();
        assert_eq!(outcome(group, &test["jws"]), Err(refusal.to_string()), "{id}");
    }
}

#[test]
fn json_web_key() {
    let file = load("json_web_key_test.json");
    let (mut accepted, mut refused) = (0, 0);
    for (group, test) in groups(&file) {
        let outcome = outcome(group, &test["jws"]);
        assert_eq!(outcome.is_ok(), test["result"] == "valid", "{}: {outcome:?}", test["tcId"]);
        if outcome.is_ok() { accepted += 1 } else { refused += 1 }
    }
    assert_eq!((accepted, refused), (5, 21));
}

/// Each weak key is left out under its own reason, before any signature is looked at.
#[test]
fn json_web_key_reasons() {
    let file = load("json_web_key_test.json");
    for (id, reason) in [
        (1, "it is a shared secret"),
        (6, "it is not for signatures"),
        (7, "the RSA key has the ROCA fingerprint"),
        (8, "RSA with 1024 bits"),
        (9, "the RSA exponent"),
        (19, "its `alg` \"ES521\""),
        (20, "its `alg` \"ES224\""),
        (21, "it is not for signatures"),
        (22, "it is not a point on the curve P-256"),
        (23, "`x` is missing or malformed"),
        (24, "`n` is missing or malformed"),
    ] {
        let (group, _) = groups(&file).find(|(_, test)| test["tcId"] == id).unwrap();
        let set = group.get("public").unwrap_or(&group["private"]).to_string();
        let (_, ignored) = KeySet::from_jwks(set.as_bytes(), &ASYMMETRIC).unwrap();
        assert_eq!(ignored.len(), 1, "{id}");
        assert!(ignored[0].reason.to_string().starts_with(reason), "{id}: {}", ignored[0].reason);
    }
    for id in [10, 11, 12, 16, 17, 18] {
        let (group, test) = groups(&file).find(|(_, test)| test["tcId"] == id).unwrap();
        let refused = keys(group, test["jws"].as_str().unwrap()).unwrap_err();
        assert!(matches!(refused, KeysError::SecretTooShort { .. }), "{id}: {refused}");
    }
}

/// Whatever is not a compact JWS is refused, whoever made it: JWE, JSON serializations, mixtures of both.
#[test]
fn json_web_crypto_and_encryption() {
    let file = load("json_web_crypto_test.json");
    let (mut jws, mut jwe) = ([0, 0], 0);
    for (group, test) in groups(&file) {
        if let Some(token) = test.get("jws") {
            let outcome = outcome(group, token);
            assert_eq!(outcome.is_ok(), test["result"] == "valid", "{}: {outcome:?}", test["tcId"]);
            jws[usize::from(outcome.is_ok())] += 1;
        } else {
            not_a_jws(test);
            jwe += 1;
        }
    }
    assert_eq!((jws, jwe), ([45, 4], 34));

    let file = load("json_web_encryption_test.json");
    assert_eq!(groups(&file).map(|(_, test)| not_a_jws(test)).count(), 139);
}

fn not_a_jws(test: &Value) {
    let token = test["jwe"].as_str().map_or_else(|| test["jwe"].to_string(), str::to_owned);
    let secret = KeySet::from_secret(&[0; 64], &[Algorithm::HS256]).unwrap();
    let refused = verify_jws(&token, &secret, &[Algorithm::HS256]);
    assert_eq!(refused, Err(Refusal::NotJws), "{}", test["tcId"]);
}

/// Signatures over arbitrary bytes, with keys read from both PEM and JWK: valid, invalid, and those under an exponent that is
/// refused with the key.
fn primitive(name: &str, jwk: &str, algorithm: Algorithm) -> (usize, usize, usize) {
    let file = load(name);
    let (mut valid, mut invalid, mut refused) = (0, 0, 0);
    for (group, test) in groups(&file) {
        let mut sets = match KeySet::from_pem(group["publicKeyPem"].as_str().unwrap().as_bytes(), &[algorithm]) {
            Ok(keys) => vec![keys],
            Err(fault) => {
                assert_eq!(fault, KeysError::Unusable(KeyFault::RsaExponent), "{name} {}", test["tcId"]);
                refused += 1;
                continue;
            }
        };
        if let Some(jwk) = group.get(jwk) {
            let set = json!({ "keys": [jwk] }).to_string();
            sets.push(KeySet::from_jwks(set.as_bytes(), &[algorithm]).unwrap().0);
        }
        for set in sets {
            let key = set.select(Some("none"), algorithm).unwrap();
            let signature = b64(hex(&test["sig"]));
            let verified = key.verify(algorithm, &hex(&test["msg"]), &signature).is_ok();
            // `acceptable` is what RFC 8017 leaves open: the parameters of the hash left out. We refuse it.
            assert_eq!(verified, test["result"] == "valid", "{name} {}", test["tcId"]);
        }
        if test["result"] == "valid" { valid += 1 } else { invalid += 1 }
    }
    (valid, invalid, refused)
}

fn hex(text: &Value) -> Vec<u8> {
    let digits = text.as_str().unwrap().as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn ed25519() {
    assert_eq!(primitive("ed25519_test.json", "publicKeyJwk", Algorithm::EdDSA), (88, 63, 0));
}

#[test]
fn ecdsa() {
    let p256 = primitive("ecdsa_secp256r1_sha256_p1363_test.json", "publicKeyJwk", Algorithm::ES256);
    let p384 = primitive("ecdsa_secp384r1_sha384_p1363_test.json", "publicKeyJwk", Algorithm::ES384);
    assert_eq!((p256, p384), ((173, 89, 0), (193, 87, 0)));
}

#[test]
fn rsa() {
    assert_eq!(primitive("rsa_signature_2048_sha256_test.json", "keyJwk", Algorithm::RS256), (7, 250, 2));
    assert_eq!(primitive("rsa_pss_2048_sha256_mgf1_32_test.json", "publicKeyJwk", Algorithm::PS256), (63, 45, 0));
}
