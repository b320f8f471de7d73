//! Which signatures count as a proof: §7.3 of the document says it, and the library decides it.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jpat_userspace::{
    knock::sealed::{Server, ServerKey, open},
    refusal::Refusal,
};
use serde_json::json;

use crate::{
    reference::unhex,
    vectors::{case, read},
};

/// By points with a part of order 8, and made so that the equation with the cofactor holds (RFC 8032 §5.1.7).
#[test]
fn p6_ed25519_is_verified_without_the_cofactor() {
    for (why, key, message, signature) in [
        (
            "key",
            "d44b9c063e49d3123b419f6366080c917cad6aac8489ca88d63837737addad81",
            "mixed 0",
            "8dd854c9127dc475f31975eca7b40180f146c59d2dc32a32eb469ecb7a134000\
             d9b08cdea0f1b16e155658879433680d33cae6f705ad7c5ca289a2dac031f609",
        ),
        (
            "R",
            "8b237d788e8eaaef550c6d125823fa45f1fd5fc29b2c88bdf871119471fc1312",
            "mixed R",
            "f02932599a7ba37dc6026aee0866720d7f35d01cec5e8cc7d9ad78422b5fc6d6\
             08cc68e9c9432b3822f7d97c2b4cadf40844592baea9279c4839eed1355acf06",
        ),
    ] {
        let key = unhex(key);
        assert!(ParsedPublicKey::new(&ED25519, &key).is_ok(), "{why}");
        let verified = UnparsedPublicKey::new(&ED25519, &key).verify(message.as_bytes(), &unhex(signature));
        assert!(verified.is_err(), "{why}");
    }
}

#[test]
fn p6_ed25519_points_have_one_encoding() {
    let datagram = unhex(read("open-proof-jwk-ed25519")["datagram"].as_str().unwrap());
    let key = ServerKey::from_bytes(&case::secret("server key")).unwrap();
    let server = Server { id: case::SERVER.to_owned(), keys: vec![key] };
    let proof = open(&datagram, "192.0.2.7".parse().unwrap(), &server).unwrap().inner.proof.unwrap();
    // y + p of all y below 19 that are on the curve.
    for first in [0xed_u8, 0xee, 0xf0, 0xf1, 0xf2, 0xf3, 0xf6, 0xf7, 0xfb, 0xfc, 0xfd, 0xff] {
        let mut key = [0xff; 32];
        (key[0], key[31]) = (first, 0x7f);
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(key) });
        assert_eq!(proof.verify(&json!({ "jwk": jwk })), Err(Refusal::UnknownConfirmation), "{first:02x}");
    }
}

/// ECDSA has two signatures for each: s and n - s.
#[test]
fn p6_ecdsa_is_verified_with_either_s() {
    const N: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let vector = read("open-proof-jkt-p256");
    let input = unhex(vector["proof"]["input"].as_str().unwrap());
    let mut signature = unhex(vector["proof"]["signature"].as_str().unwrap());
    let (jwk, _) = case::client_key(case::Bound::JktP256).unwrap();
    let key = jpat_userspace::knock::proof::PublicKey::from_jwk(&jwk).unwrap();
    let key = [&[4], key.as_bytes()].concat();
    let verifies =
        |signature: &[u8]| UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key).verify(&input, signature).is_ok();
    assert!(verifies(&signature));
    let mut borrow = 0;
    for (byte, n) in signature[32..].iter_mut().zip(unhex(N)).rev() {
        let rest = i16::from(n) - i16::from(*byte) - borrow;
        (*byte, borrow) = ((rest & 0xff) as u8, i16::from(rest < 0));
    }
    assert!(verifies(&signature));
    signature[63] ^= 1;
    assert!(!verifies(&signature));
}
