//! Knocks that open and whose token or proof does not hold: the checks behind the seal.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jpat_userspace::{
    clock::{BootTime, Now, UnixTime},
    config::Config,
    keyring::{Held, KeyRing},
    knock::{Form, sealed::Inner},
    refusal::Refusal,
    token::{self, Presented, install_crypto, keys::KeySet},
    verify::NoRecord,
};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::{
    case::{
        Bound, Case, TIME_MS, cases, client_key, datagram, encapsulation, entries, fixed, padded, secret, token_with,
    },
    negative::{Entries, SOURCE},
};
use crate::reference::{Hpke, Item, hex, map};

/// Order of the group of Ed25519, little-endian (RFC 8032 §5.1).
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

pub(crate) fn all() -> Vec<Value> {
    let named = |bound| client_key(bound).unwrap().1;
    let (jwk, jkt) = (named(Bound::JwkEd25519), named(Bound::JktEd25519));
    let public = Item::Bytes(pair("client Ed25519").public_key().as_ref().to_vec());
    let claims = |name: &str, change: &dyn Fn(&mut Value), refusal: &str| {
        row(name, &token_with("issuer Ed25519", |claims| change(claims)), |_, _| {}, refusal)
    };
    let cnf = |name: &str, cnf: &Value, client_key: Option<&Item>, refusal: &str| {
        let token = token_with("issuer Ed25519", |claims| claims["cnf"] = cnf.clone());
        let change = |hpke: &Hpke, entries: &mut Entries| {
            entries.extend(client_key.map(|key| (10, key.clone())));
            let signature = sign("client Ed25519", hpke, entries);
            entries.push((11, Item::Bytes(signature)));
        };
        row(name, &token, change, refusal)
    };
    let proof = |name: &str, proof: &dyn Fn(&Hpke, &Entries) -> Vec<u8>| {
        let token = token_with("issuer Ed25519", |claims| claims["cnf"] = jwk.clone());
        row(name, &token, |hpke, entries| entries.push((11, Item::Bytes(proof(hpke, entries)))), "bad_proof")
    };
    let with = |member: &str, value: &str| {
        let mut cnf = jwk.clone();
        cnf["jwk"][member] = value.into();
        cnf
    };
    let (zero, low) = ("A".repeat(43), Item::Bytes(vec![0; 32]));
    let thumbprint = |key: &[u8]| {
        let public = jpat_userspace::knock::proof::PublicKey::from_bytes(key).unwrap();
        json!({ "jkt": public.thumbprint() })
    };
    let off = Item::Bytes(vec![1; 64]);
    vec![
        row("signed by another key", &token_with("other issuer", |_| {}), |_, _| {}, "bad_signature"),
        row(
            "signature missing",
            &token_with("issuer Ed25519", |_| {}),
            |_, all| all[6].1 = Item::Bytes(vec![]),
            "bad_signature",
        ),
        claims("issuer missing", &|claims| drop(claims.as_object_mut().unwrap().remove("iss")), "no_issuer"),
        claims("unknown issuer", &|claims| claims["iss"] = json!("https://other.example"), "unknown_issuer"),
        claims("audience missing", &|claims| drop(claims.as_object_mut().unwrap().remove("aud")), "no_audience"),
        claims("other audience", &|claims| claims["aud"] = json!(["jpat://web-2"]), "wrong_audience"),
        claims("expired in this second", &|claims| claims["exp"] = json!(TIME_MS / 1000), "expired"),
        claims("bound, without a proof", &|claims| claims["cnf"] = jwk.clone(), "proof_missing"),
        claims("bound to nothing known, without a proof", &|claims| claims["cnf"] = Value::Null, "proof_missing"),
        row(
            "not bound, with a proof",
            &token_with("issuer Ed25519", |_| {}),
            |hpke, entries| entries.push((11, Item::Bytes(sign("client Ed25519", hpke, entries)))),
            "bad_proof",
        ),
        proof("proof of zeros", &|_, _| vec![0; 64]),
        proof("proof by another key", &|hpke, entries| sign("other client", hpke, entries)),
        proof("proof for another datagram", &|_, entries| {
            sign("client Ed25519", &encapsulation("another datagram", super::case::SERVER).1, entries)
        }),
        proof("proof of another message", &|hpke, entries| {
            let mut other = entries.clone();
            other[3].1 = Item::Unsigned(3);
            sign("client Ed25519", hpke, &other)
        }),
        proof("proof with S not reduced", &|hpke, entries| {
            let mut signature = sign("client Ed25519", hpke, entries);
            let mut carry = 0;
            for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
                let sum = u16::from(*byte) + u16::from(order) + carry;
                (*byte, carry) = ((sum & 0xff) as u8, sum >> 8);
            }
            assert_eq!(carry, 0);
            signature
        }),
        cnf("jwk, with a client key", &jwk, Some(&public), "bad_proof"),
        cnf("jkt, without a client key", &jkt, None, "bad_proof"),
        cnf("jkt of another key", &json!({ "jkt": zero }), Some(&public), "bad_proof"),
        cnf("jkt of a key of low order", &thumbprint(&[0; 32]), Some(&low), "bad_proof"),
        cnf("jkt of a key that is no point", &thumbprint(&[1; 64]), Some(&off), "bad_proof"),
        cnf("jkt that is no thumbprint", &json!({ "jkt": "short" }), Some(&public), "unknown_confirmation"),
        cnf("jwk of low order", &with("x", &zero), None, "unknown_confirmation"),
        // The y coordinate 4, written as 4 + p.
        cnf("jwk in a second spelling", &with("x", &format!("8f{}38", "_".repeat(39))), None, "unknown_confirmation"),
        cnf("jwk with its private part", &with("d", &zero), None, "unknown_confirmation"),
        cnf("jwk of another curve", &with("crv", "X25519"), None, "unknown_confirmation"),
        cnf("jwk and jkt", &json!({ "jwk": jwk["jwk"], "jkt": jkt["jkt"] }), None, "unknown_confirmation"),
        cnf("another confirmation", &json!({ "x5t#S256": zero }), None, "unknown_confirmation"),
        cnf("cnf of null", &Value::Null, None, "unknown_confirmation"),
    ]
}

fn pair(name: &str) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&secret(name)).unwrap()
}

fn sign(key: &str, hpke: &Hpke, entries: &Entries) -> Vec<u8> {
    let input = [b"jpat/1 proof\0".as_slice(), &fixed(), &hpke.enc, &map(entries)].concat();
    pair(key).sign(&input).as_ref().to_vec()
}

fn row(name: &str, token: &str, change: impl FnOnce(&Hpke, &mut Entries), refusal: &str) -> Value {
    let case: &Case = &cases()[0];
    let (_, hpke) = encapsulation(name, super::case::SERVER);
    let mut entries = entries(case, token);
    change(&hpke, &mut entries);
    let pt = padded(map(&entries));
    json!({
        "name": name, "source": SOURCE, "pt": hex(&pt), "datagram": hex(&datagram(&hpke, &fixed(), &pt)), "refusal": refusal,
    })
}

/// What a host with the issuer of the vectors says of token and proof.
pub(crate) fn refusal(inner: &Inner) -> Option<Refusal> {
    install_crypto();
    let x = URL_SAFE_NO_PAD.encode(pair("issuer Ed25519").public_key());
    let set = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": x }] }).to_string();
    let (keys, _) = KeySet::from_jwks(set.as_bytes(), &[Algorithm::EdDSA]).unwrap();
    let now = Now { boot: BootTime(1), unix: UnixTime(TIME_MS * 1_000_000) };
    let ring = KeyRing::default().with("vectors", Held { keys: keys.into(), fetched: now.unix });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jpat.toml");
    std::fs::write(&path, FILE).unwrap();
    let (mut config, _) = Config::load(&path).unwrap_or_else(|errors| panic!("{errors:#?}"));
    config.issuers[0].accept = [Form::Sealed].into();
    let presented = Presented { form: Form::Sealed, proof: inner.proof.as_ref(), assumed: false };
    token::verify(&inner.token, presented, &config, &ring, now, &mut NoRecord).err().map(|denied| denied.refusal)
}

const FILE: &str = r#"
mode = "enforce"
[[issuer]]
name = "vectors"
issuer = "https://issuer.example"
audience = ["jpat://web-1"]
algorithms = ["EdDSA"]
keys = { discovery = true }
accept = ["bare"]
[[service]]
name = "ssh"
ports = ["tcp/22"]
ttl = "30s"
allow = "true"
"#;
