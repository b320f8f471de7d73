//! Key sources: what is taken, what is left out, what is refused.

use jpat_userspace::token::keys::{Ignored, KeyFault, KeySet, KeysError, MAX_BYTES, MAX_KEYS};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::mint::{Signer, b64, pem_text, unb64};

const ALL: [Algorithm; 9] = [
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

fn read(keys: &[Value], algorithms: &[Algorithm]) -> Result<(KeySet, Vec<Ignored>), KeysError> {
    KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes(), algorithms)
}

/// The fault of a set's only key.
#[track_caller]
fn fault(jwk: Value) -> KeyFault {
    let (keys, ignored) = read(&[jwk], &ALL).unwrap();
    assert!(keys.keys().is_empty());
    assert_eq!(ignored.len(), 1);
    ignored[0].reason.clone()
}

#[test]
fn a_key_is_bound_to_the_algorithms_of_its_kind_and_of_its_alg() {
    let rsa = Signer::rsa(Algorithm::RS256);
    let keys = [
        Signer::es256().jwk_with(json!({ "kid": "a", "use": "sig" })),
        Signer::es384().jwk_with(json!({ "kid": "b", "key_ops": ["sign", "verify"] })),
        Signer::ed25519().jwk_with(json!({ "kid": "c", "alg": "EdDSA" })),
        rsa.jwk_with(json!({ "kid": "d", "x5c": ["MIIB"], "x5t": "abc" })),
        rsa.jwk_with(json!({ "kid": "e", "alg": "PS384" })),
    ];
    let (set, ignored) = read(&keys, &ALL).unwrap();
    assert_eq!(ignored, []);
    let bound: Vec<_> = set.keys().iter().map(|key| (key.kid().unwrap(), key.algorithms().to_vec())).collect();
    assert_eq!(
        bound,
        [
            ("a", vec![Algorithm::ES256]),
            ("b", vec![Algorithm::ES384]),
            ("c", vec![Algorithm::EdDSA]),
            ("d", ALL[3..].to_vec()),
            ("e", vec![Algorithm::PS384])
        ]
    );
}

#[test]
fn keys_that_are_left_out() {
    let ec = Signer::es256();
    let rsa = Signer::rsa(Algorithm::RS256);
    let with = |more: Value| ec.jwk_with(more);
    assert_eq!(fault(json!(1)), KeyFault::Malformed("keys"));
    assert_eq!(fault(json!({})), KeyFault::Malformed("kty"));
    assert_eq!(fault(with(json!({ "kty": 1 }))), KeyFault::Malformed("kty"));
    assert_eq!(fault(with(json!({ "kty": "XYZ" }))), KeyFault::UnknownType("XYZ".into()));
    assert_eq!(fault(with(json!({ "kid": 7 }))), KeyFault::Malformed("kid"));
    assert_eq!(fault(with(json!({ "kid": "k".repeat(257) }))), KeyFault::Malformed("kid"));
    assert_eq!(fault(with(json!({ "use": "enc" }))), KeyFault::NotForSignatures("enc".into()));
    assert_eq!(fault(with(json!({ "key_ops": ["sign"] }))), KeyFault::NotForVerification);
    assert_eq!(fault(with(json!({ "key_ops": "verify" }))), KeyFault::NotForVerification);
    for member in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
        assert_eq!(fault(with(json!({ member: "AQAB" }))), KeyFault::Private(member));
    }
    let secret = Signer::secret(Algorithm::HS256, &[7; 64]);
    assert_eq!(fault(secret.jwk.clone()), KeyFault::Symmetric);
    assert_eq!(fault(secret.jwk_with(json!({ "alg": "HS256" }))), KeyFault::Symmetric);
    for crv in ["P-521", "secp256k1", "p-256", "Ed25519"] {
        assert_eq!(fault(with(json!({ "crv": crv }))), KeyFault::UnknownCurve(crv.into()));
    }
    for crv in ["X25519", "Ed448", "P-256"] {
        assert_eq!(fault(Signer::ed25519().jwk_with(json!({ "crv": crv }))), KeyFault::UnknownCurve(crv.into()));
    }
    assert_eq!(fault(with(json!({ "crv": "P-384" }))), KeyFault::Malformed("x"));
    assert_eq!(fault(with(json!({ "x": b64([1; 31]) }))), KeyFault::Malformed("x"));
    assert_eq!(fault(with(json!({ "y": b64([0; 33]) }))), KeyFault::Malformed("y"));
    assert_eq!(fault(with(json!({ "x": "****" }))), KeyFault::Malformed("x"));
    assert_eq!(fault(with(json!({ "x": b64([1; 32]) }))), KeyFault::NotOnCurve("P-256"));
    assert_eq!(fault(Signer::ed25519().jwk_with(json!({ "x": b64([0; 32]) }))), KeyFault::LowOrder);
    assert_eq!(fault(rsa.jwk_with(json!({ "n": b64([0xff; 128]) }))), KeyFault::RsaSize(1024));
    assert_eq!(fault(rsa.jwk_with(json!({ "n": b64([0xff; 1025]) }))), KeyFault::RsaSize(8200));
    for e in [&[1_u8][..], &[3], &[1, 0, 0]] {
        assert_eq!(fault(rsa.jwk_with(json!({ "e": b64(e) }))), KeyFault::RsaExponent);
    }
    assert_eq!(fault(rsa.jwk_with(json!({ "n": b64([0xfe; 256]) }))), KeyFault::RsaModulus);
    assert_eq!(fault(rsa.jwk_with(json!({ "e": null }))), KeyFault::Malformed("e"));
    for alg in ["RS256", "HS256", "ES384", "ES521", "none", ""] {
        let wrong = KeyFault::WrongAlgorithm { alg: alg.into(), kind: "P-256" };
        assert_eq!(fault(with(json!({ "alg": alg }))), wrong);
    }
}

#[test]
fn one_bad_key_does_not_spoil_the_set() {
    let good = Signer::es256().jwk_with(json!({ "kid": "good" }));
    let bad = Signer::es256().jwk_with(json!({ "kid": "bad", "use": "enc" }));
    let foreign = Signer::ed25519().jwk_with(json!({ "kid": "foreign" }));
    let (set, ignored) = read(&[bad, good, foreign], &[Algorithm::ES256]).unwrap();
    assert_eq!(set.keys().iter().map(|key| key.kid()).collect::<Vec<_>>(), [Some("good")]);
    let lines: Vec<_> = ignored.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "key \"bad\" is not used: it is not for signatures (`use` is \"enc\")",
            "key \"foreign\" is not used: no algorithm of the configuration (ES256) is for this Ed25519 key"
        ]
    );
}

#[test]
fn key_sets_that_are_refused() {
    let refused = |text: &str| KeySet::from_jwks(text.as_bytes(), &ALL).unwrap_err();
    for text in [
        "",
        "<html>404</html>",
        "[]",
        "null",
        "{\"keys\":[]",
        "{\"keys\":[],\"keys\":[]}",
        "{\"keys\":[[[[[[[[]]]]]]]]}",
    ] {
        assert!(matches!(refused(text), KeysError::Json(_)), "{text}");
    }
    for text in ["{}", "{\"keys\":{}}", "{\"keys\":null}", "{\"kty\":\"EC\"}"] {
        assert_eq!(refused(text), KeysError::NoKeysMember, "{text}");
    }
    let key = Signer::es256();
    let many: Vec<_> = (0..=MAX_KEYS).map(|kid| key.jwk_with(json!({ "kid": kid.to_string() }))).collect();
    assert_eq!(read(&many, &ALL).unwrap_err(), KeysError::TooManyKeys(MAX_KEYS + 1));
    assert_eq!(read(&many[1..], &ALL).unwrap().0.keys().len(), MAX_KEYS);
    let large = format!("{{\"keys\":[],\"x\":\"{}\"}}", " ".repeat(MAX_BYTES));
    assert_eq!(refused(&large), KeysError::TooLarge(large.len()));
    let twin = |more: Value| Signer::es256().jwk_with(more);
    let twins = [twin(json!({ "kid": "a" })), twin(json!({ "kid": "a" }))];
    assert_eq!(read(&twins, &ALL).unwrap_err(), KeysError::DuplicateKid("a".into()));
    let one_for_encryption = [twin(json!({ "kid": "a" })), twin(json!({ "kid": "a", "use": "enc" }))];
    assert_eq!(read(&one_for_encryption, &ALL).unwrap().0.keys().len(), 1);
}

#[test]
fn pem_public_keys_and_certificates() {
    for (signer, generator) in [
        (Signer::es256(), &rcgen::PKCS_ECDSA_P256_SHA256),
        (Signer::es384(), &rcgen::PKCS_ECDSA_P384_SHA384),
        (Signer::ed25519(), &rcgen::PKCS_ED25519),
        (Signer::rsa(Algorithm::RS256), &rcgen::PKCS_RSA_SHA256),
    ] {
        let algorithm = signer.algorithm;
        let pair = rcgen::KeyPair::from_pem_and_sign_algo(&signer.private_pem, generator).unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["idp.example".into()]).unwrap().self_signed(&pair).unwrap();
        let token = signer.sign(format!("{{\"alg\":\"{algorithm:?}\",\"kid\":\"any\"}}").as_bytes(), b"{}");
        for pem in [signer.public_pem.clone(), certificate.pem(), format!("some text\n{}\n", signer.public_pem)] {
            let keys = KeySet::from_pem(pem.as_bytes(), &ALL).unwrap();
            let verified = jpat_userspace::token::signature::verify_jws(&token, &keys, &ALL);
            assert_eq!(verified, Ok(b"{}".to_vec()), "{algorithm:?}");
        }
    }
}

/// A certificate of one type of key signed by another: the key inside counts, not the signature's algorithm.
#[test]
fn a_certificate_is_read_by_its_key() {
    let authority = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let params = rcgen::CertificateParams::new(vec!["ca.example".into()]).unwrap();
    let authority = rcgen::CertifiedIssuer::self_signed(params, authority).unwrap();
    let subject =
        rcgen::KeyPair::from_pem_and_sign_algo(&Signer::es256().private_pem, &rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let params = rcgen::CertificateParams::new(vec!["idp.example".into()]).unwrap();
    let certificate = params.signed_by(&subject, &authority).unwrap();
    let keys = KeySet::from_pem(certificate.pem().as_bytes(), &ALL).unwrap();
    assert_eq!(keys.keys()[0].algorithms(), [Algorithm::ES256]);
}

#[test]
fn pem_files_that_are_refused() {
    let refused = |pem: &str, algorithms: &[Algorithm]| KeySet::from_pem(pem.as_bytes(), algorithms).unwrap_err();
    let key = Signer::es256();
    for private in [&key.private_pem, &format!("{}{}", key.public_pem, key.private_pem)] {
        assert_eq!(refused(private, &ALL), KeysError::PrivateKey("PRIVATE KEY".into()));
    }
    for tag in ["EC PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
        assert_eq!(refused(&pem_text(tag, b"x"), &ALL), KeysError::PrivateKey(tag.into()));
    }
    for none in ["", "hello", &pem_text("X509 CRL", b"x"), "{\"keys\":[]}"] {
        assert_eq!(refused(none, &ALL), KeysError::NoPem);
    }
    assert_eq!(refused(&key.public_pem.repeat(3), &ALL), KeysError::SeveralPem(3));
    let broken = key.public_pem.replacen("\nM", "\n!", 1);
    assert!(matches!(refused(&broken, &ALL), KeysError::BrokenPem(_) | KeysError::NoPem));
    assert!(matches!(refused(&pem_text("CERTIFICATE", b"x"), &ALL), KeysError::Certificate(_)));
    let (bare_ed25519, mut bare_point) = ([0x30; 32], vec![4]);
    bare_point.extend(["x", "y"].iter().flat_map(|name| unb64(&key.jwk[name])));
    for der in [b"x", &bare_ed25519[..], &bare_point] {
        assert_eq!(refused(&pem_text("PUBLIC KEY", der), &ALL), KeyFault::UnknownKey.into());
    }
    assert_eq!(
        refused(&key.public_pem, &[Algorithm::RS256, Algorithm::EdDSA]).to_string(),
        "no algorithm of the configuration (RS256, EdDSA) is for this P-256 key"
    );
    for (bits, e) in [(1024, 65_537_u32), (2048, 3), (2048, 1)] {
        let error = refused(&rsa_public_pem(&[&[0xa5][..], &vec![0xa5; bits / 8 - 1]].concat(), e), &ALL);
        assert!(matches!(error, KeysError::Unusable(_)), "{bits} {e}: {error}");
    }
    assert_eq!(refused(&rsa_public_pem(&[0xa5; 128], 65_537), &ALL), KeyFault::RsaSize(1024).into());
}

/// RSAPublicKey (RFC 8017 §A.1.1) in PEM.
fn rsa_public_pem(modulus: &[u8], exponent: u32) -> String {
    let tlv = |tag: u8, value: &[u8]| {
        let len = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[tag, 0x82][..], &len, value].concat()
    };
    let short = |value: &[u8]| [&[2, u8::try_from(value.len()).unwrap()][..], value].concat();
    let exponent: Vec<u8> = exponent.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
    let modulus = [&[0][..], modulus].concat();
    let modulus =
        if modulus.len() > 255 { tlv(2, &modulus) } else { [&[2, 0x81, modulus.len() as u8][..], &modulus].concat() };
    let body = [modulus, short(&exponent)].concat();
    let sequence =
        if body.len() > 255 { tlv(0x30, &body) } else { [&[0x30, 0x81, body.len() as u8][..], &body].concat() };
    pem_text("RSA PUBLIC KEY", &sequence)
}

#[test]
fn secrets() {
    let secret = |bytes: &[u8]| KeySet::from_secret(bytes, &[Algorithm::HS256]);
    let text = "0123456789abcdef0123456789abcdef";
    let token = Signer::secret(Algorithm::HS256, text.as_bytes()).sign(br#"{"alg":"HS256","kid":"any"}"#, b"{}");
    for file in [text.to_owned(), format!("{text}\n"), format!("{text}\r\n")] {
        let keys = secret(file.as_bytes()).unwrap();
        assert!(jpat_userspace::token::signature::verify_jws(&token, &keys, &[Algorithm::HS256]).is_ok(), "{file:?}");
        assert!(!format!("{keys:?}").contains(text) && !format!("{keys:?}").contains("48, 49, 50"), "{keys:?}");
    }
    let two_line_ends = secret(format!("{text}\n\n").as_bytes()).unwrap();
    assert!(jpat_userspace::token::signature::verify_jws(&token, &two_line_ends, &[Algorithm::HS256]).is_err());
    assert_eq!(secret(&text.as_bytes()[1..]).unwrap_err(), KeysError::SecretTooShort { bytes: 31, needed: 32 });
    assert_eq!(secret(Signer::es256().public_pem.as_bytes()).unwrap_err(), KeysError::SecretIsPem);
    assert_eq!(secret(format!("\n{}", Signer::es256().public_pem).as_bytes()).unwrap_err(), KeysError::SecretIsPem);
    assert_eq!(secret(&vec![1; MAX_BYTES + 1]).unwrap_err(), KeysError::TooLarge(MAX_BYTES + 1));
    let asymmetric = KeySet::from_secret(text.as_bytes(), &[Algorithm::ES256]).unwrap_err();
    assert_eq!(asymmetric.to_string(), "no algorithm of the configuration (ES256) is for this HMAC key");
}
