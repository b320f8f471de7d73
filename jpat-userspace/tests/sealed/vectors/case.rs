//! The positive vectors.

use std::net::IpAddr;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jpat_userspace::{
    clock::UnixTime,
    knock::{
        reply::{Outcome, Reply},
        sealed::{ClientKey, Fresh, KnockKey, Possession, Request, Server, ServerKey, Target, Verb, open, seal_with},
    },
};
use serde_json::{Value, json};

use crate::reference::{
    Hpke, Item, chacha20_poly1305, derive_key, hex, hint, hmac_sha256, map, public, siphash, tag_key, unhex,
};

pub(crate) const SERVER: &str = "web-1.example";
pub(crate) const KNOCK_KEY_ID: u16 = 258;
pub(crate) const TIME_MS: u64 = 1_800_000_000_123;

/// Published 32 bytes for each name.
pub(crate) fn secret(name: &str) -> [u8; 32] {
    hmac_sha256(b"jpat test vectors", name.as_bytes()).try_into().unwrap()
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    No,
    JwkEd25519,
    JktEd25519,
    JwkP256,
    JktP256,
}

impl Bound {
    const fn by_thumbprint(self) -> bool {
        matches!(self, Self::JktEd25519 | Self::JktP256)
    }

    const fn is_random(self) -> bool {
        matches!(self, Self::JwkP256 | Self::JktP256)
    }
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) verb: u64,
    pub(crate) services: &'static [&'static str],
    pub(crate) source: &'static str,
    pub(crate) names_address: bool,
    pub(crate) bound: Bound,
    pub(crate) reply: Result<&'static [(&'static str, u64)], &'static str>,
    pub(crate) server_time: u64,
    pub(crate) repeated: bool,
}

const PLAIN: Case = Case {
    name: "",
    verb: 1,
    services: &[],
    source: "192.0.2.7",
    names_address: false,
    bound: Bound::No,
    reply: Ok(&[("ssh", TIME_MS + 30_000)]),
    server_time: TIME_MS + 5,
    repeated: false,
};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case { name: "open-bearer", reply: Ok(&[("db", TIME_MS + 30_000), ("ssh", TIME_MS + 60_000)]), ..PLAIN },
        Case { name: "open-services-address", services: &["db", "ssh"], names_address: true, ..PLAIN },
        Case {
            name: "open-proof-jwk-ed25519",
            services: &["ssh"],
            names_address: true,
            bound: Bound::JwkEd25519,
            ..PLAIN
        },
        Case { name: "open-proof-jkt-ed25519", bound: Bound::JktEd25519, ..PLAIN },
        Case { name: "open-proof-jwk-p256", bound: Bound::JwkP256, ..PLAIN },
        Case { name: "open-proof-jkt-p256", bound: Bound::JktP256, ..PLAIN },
        Case { name: "renew", verb: 2, ..PLAIN },
        Case { name: "close", verb: 3, source: "2001:db8::7", names_address: true, reply: Ok(&[("ssh", 0)]), ..PLAIN },
        Case { name: "refused", reply: Err("not_allowed"), ..PLAIN },
        Case { name: "clock-skew", reply: Err("clock_skew"), server_time: TIME_MS + 94_000, ..PLAIN },
        Case { name: "repeated", repeated: true, ..PLAIN },
    ]
}

/// A private JWK, and as the token names it.
pub(crate) fn client_key(bound: Bound) -> Option<(Value, Value)> {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (private, public, members) = match bound {
        Bound::No => return None,
        Bound::JwkEd25519 | Bound::JktEd25519 => {
            let seed = secret("client Ed25519");
            let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
            let x = text(pair.public_key().as_ref());
            let public = json!({ "crv": "Ed25519", "kty": "OKP", "x": x });
            (seed, public, format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#))
        }
        Bound::JwkP256 | Bound::JktP256 => {
            let seed = secret("client P-256");
            let private = aws_lc_rs::agreement::PrivateKey::from_private_key(&aws_lc_rs::agreement::ECDH_P256, &seed);
            let point = private.unwrap().compute_public_key().unwrap();
            let (x, y) = (text(&point.as_ref()[1..33]), text(&point.as_ref()[33..]));
            let public = json!({ "crv": "P-256", "kty": "EC", "x": x, "y": y });
            (seed, public, format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#))
        }
    };
    let thumbprint = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, members.as_bytes());
    let cnf =
        if bound.by_thumbprint() { json!({ "jkt": text(thumbprint.as_ref()) }) } else { json!({ "jwk": public }) };
    let mut jwk = public;
    jwk["d"] = json!(text(&private));
    Some((jwk, cnf))
}

pub(crate) fn token(cnf: Option<&Value>) -> String {
    token_with("issuer Ed25519", |claims| {
        if let Some(cnf) = cnf {
            claims["cnf"] = cnf.clone();
        }
    })
}

/// A token whose claims are changed, signed by the key of this name.
pub(crate) fn token_with(key: &str, change: impl FnOnce(&mut Value)) -> String {
    let seconds = TIME_MS / 1000;
    let mut claims = json!({
        "iss": "https://issuer.example", "sub": "alice", "aud": "jpat://web-1", "jti": "vector",
        "iat": seconds - 60, "exp": seconds + 3600,
    });
    change(&mut claims);
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let input = format!("{}.{}", text(br#"{"alg":"EdDSA","typ":"JWT"}"#), text(claims.to_string().as_bytes()));
    let issuer = Ed25519KeyPair::from_seed_unchecked(&secret(key)).unwrap();
    format!("{input}.{}", text(issuer.sign(input.as_bytes()).as_ref()))
}

pub(crate) fn octets(source: &str) -> Vec<u8> {
    match source.parse().unwrap() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Keys 1 to 9 of a message.
pub(crate) fn entries(case: &Case, token: &str) -> Vec<(u64, Item)> {
    let nonce = secret(&format!("{} nonce", case.name))[..16].to_vec();
    let mut entries = vec![
        (1, Item::Unsigned(TIME_MS)),
        (2, Item::Bytes(nonce)),
        (3, Item::text(SERVER)),
        (4, Item::Unsigned(case.verb)),
    ];
    for (key, part) in (5..).zip(token.split('.')) {
        entries.push((key, Item::Bytes(URL_SAFE_NO_PAD.decode(part).unwrap())));
    }
    if !case.services.is_empty() {
        entries.push((8, Item::Array(case.services.iter().map(|name| Item::text(name)).collect())));
    }
    if case.names_address {
        entries.push((9, Item::Bytes(octets(case.source))));
    }
    entries
}

pub(crate) fn fixed() -> Vec<u8> {
    let hint = hint(&public(&secret("server key")));
    [b"JPAT\x01\x01".as_slice(), &KNOCK_KEY_ID.to_be_bytes(), &hint, &TIME_MS.to_be_bytes()[2..]].concat()
}

/// Pads, encrypts and tags an inner message.
pub(crate) fn datagram(hpke: &Hpke, fixed: &[u8], padded: &[u8]) -> Vec<u8> {
    let ct = hpke.seal(fixed, padded);
    let tag = siphash(&tag_key(&secret("knock key"), KNOCK_KEY_ID, SERVER), &[fixed, &hpke.enc, &ct].concat());
    [fixed, &tag, &hpke.enc, &ct].concat()
}

pub(crate) fn encapsulation(name: &str, server: &str) -> (Vec<u8>, Hpke) {
    let sk_e = derive_key(&secret(&format!("{name} ikm_e")));
    let info = [b"jpat/1 knock\0", server.as_bytes()].concat();
    let hpke = Hpke::sender(&sk_e, &public(&secret("server key")), &info);
    (sk_e, hpke)
}

pub(crate) fn padded(mut message: Vec<u8>) -> Vec<u8> {
    message.resize(message.len().next_multiple_of(8), 0);
    message
}

pub(crate) fn vector(case: &Case, kept: Option<&Value>) -> Value {
    let key = client_key(case.bound);
    let token = token(key.as_ref().map(|(_, cnf)| cnf));
    let (sk_e, hpke) = encapsulation(case.name, SERVER);
    let fixed = fixed();
    let mut entries = entries(case, &token);
    let mut proof = Value::Null;
    if let Some((jwk, _)) = &key {
        let number = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
        if case.bound.by_thumbprint() {
            let y = if jwk.get("y").is_some() { number("y") } else { vec![] };
            entries.push((10, Item::Bytes([number("x"), y].concat())));
        }
        let input = [b"jpat/1 proof\0".as_slice(), &fixed, &hpke.enc, &map(&entries)].concat();
        let signature = match case.bound {
            Bound::No | Bound::JwkEd25519 | Bound::JktEd25519 => {
                Ed25519KeyPair::from_seed_unchecked(&number("d")).unwrap().sign(&input).as_ref().to_vec()
            }
            Bound::JwkP256 | Bound::JktP256 => p256_signature(jwk, &input, kept),
        };
        proof = json!({ "map_without_proof": hex(&map(&entries)), "input": hex(&input), "signature": hex(&signature) });
        entries.push((11, Item::Bytes(signature)));
    }
    let cbor = map(&entries);
    let diagnostic: Vec<_> = entries.iter().map(|(key, value)| format!("{key}: {}", value.diagnostic())).collect();
    let pt = padded(cbor.clone());
    let datagram = datagram(&hpke, &fixed, &pt);
    let server = secret("server key");
    let issuer = Ed25519KeyPair::from_seed_unchecked(&secret("issuer Ed25519")).unwrap();
    json!({
        "server": { "id": SERVER, "private": hex(&server), "public": hex(&public(&server)), "hint": hex(&hint(&public(&server))) },
        "knock_key": {
            "id": KNOCK_KEY_ID, "key": hex(&secret("knock key")),
            "tag_key": hex(&tag_key(&secret("knock key"), KNOCK_KEY_ID, SERVER)),
        },
        "issuer_public": hex(issuer.public_key().as_ref()),
        "token": token,
        "client_key": key.as_ref().map(|(jwk, _)| jwk),
        "cnf": key.as_ref().map(|(_, cnf)| cnf),
        "request": {
            "time_ms": TIME_MS, "verb": case.verb, "services": case.services, "source": case.source,
            "names_address": case.names_address,
            "nonce": hex(&secret(&format!("{} nonce", case.name))[..16]), "ikm_e": hex(&secret(&format!("{} ikm_e", case.name))),
        },
        "hpke": {
            "sk_e": hex(&sk_e), "enc": hex(&hpke.enc), "dh": hex(&hpke.dh), "shared_secret": hex(&hpke.shared_secret),
            "info": hex(&[b"jpat/1 knock\0", SERVER.as_bytes()].concat()), "key": hex(&hpke.key),
            "base_nonce": hex(&hpke.base_nonce), "exporter": hex(&hpke.exporter), "aad": hex(&fixed), "pt": hex(&pt),
            "ct": hex(&datagram[56..]),
        },
        "inner": { "cbor": hex(&cbor), "diagnostic": format!("{{{}}}", diagnostic.join(", ")) },
        "proof": proof,
        "tag": hex(&datagram[16..24]),
        "datagram": hex(&datagram),
        "reply": reply(case, &hpke, &datagram[16..24]),
    })
}

fn p256_signature(jwk: &Value, input: &[u8], kept: Option<&Value>) -> Vec<u8> {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
    };
    let number = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let point = [vec![4], number("x"), number("y")].concat();
    let signature = match kept {
        Some(vector) => unhex(vector["proof"]["signature"].as_str().unwrap()),
        None => {
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &number("d"), &point).unwrap();
            pair.sign(&aws_lc_rs::rand::SystemRandom::new(), input).unwrap().as_ref().to_vec()
        }
    };
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).verify(input, &signature).unwrap();
    signature
}

fn reply(case: &Case, hpke: &Hpke, tag: &[u8]) -> Value {
    let mut entries = vec![(1, Item::Unsigned(case.reply.is_err().into())), (2, Item::Unsigned(case.server_time))];
    match case.reply {
        Ok(services) => {
            let pair = |(name, end): &(&str, u64)| Item::Array(vec![Item::text(name), Item::Unsigned(*end)]);
            entries.push((3, Item::Array(services.iter().map(pair).collect())));
        }
        Err(code) => entries.push((4, Item::text(code))),
    }
    if case.repeated {
        entries.push((5, Item::True));
    }
    let key = hpke.export("jpat/1 reply key", 32);
    let nonce = &secret(&format!("{} reply nonce", case.name))[..12];
    let aad = [b"JPAT\x01\x02\0\0".as_slice(), tag].concat();
    let message = map(&entries);
    let ct = chacha20_poly1305(&key, nonce, &aad, &message);
    let diagnostic: Vec<_> = entries.iter().map(|(key, value)| format!("{key}: {}", value.diagnostic())).collect();
    json!({
        "key": hex(&key), "nonce": hex(nonce), "aad": hex(&aad), "message": hex(&message),
        "diagnostic": format!("{{{}}}", diagnostic.join(", ")), "ct": hex(&ct),
        "datagram": hex(&[aad.as_slice(), nonce, &ct].concat()),
    })
}

/// The library opens the vector, seals it alike where signatures are not random, and the same for the reply.
pub(crate) fn library_agrees(case: &Case, vector: &Value) {
    let at = |part: &str, name: &str| unhex(vector[part][name].as_str().unwrap());
    let datagram = unhex(vector["datagram"].as_str().unwrap());
    let server_key = ServerKey::from_bytes(&secret("server key")).unwrap();
    assert_eq!(server_key.public().to_vec(), at("server", "public"));
    assert_eq!(server_key.hint().to_vec(), at("server", "hint"));
    let knock_key = KnockKey::new(KNOCK_KEY_ID, secret("knock key"));
    assert_eq!(knock_key.tag_key(SERVER).0.to_vec(), at("knock_key", "tag_key"));
    assert_eq!(knock_key.tag_key(SERVER).tag(&datagram).to_vec(), datagram[16..24]);

    let source: IpAddr = case.source.parse().unwrap();
    let server = Server { id: SERVER.to_owned(), keys: vec![server_key.clone()] };
    let opened = open(&datagram, source, &server).unwrap();
    assert_eq!(opened.inner.token, vector["token"].as_str().unwrap());
    assert_eq!(opened.inner.time_ms, TIME_MS);
    assert_eq!(opened.inner.nonce.to_vec(), at("request", "nonce"));
    assert_eq!(opened.inner.address, case.names_address.then_some(source));
    assert_eq!(opened.inner.services.clone().unwrap_or_default(), case.services);
    assert_eq!(opened.ticket.key().to_vec(), at("reply", "key"));
    assert_eq!(opened.inner.proof.is_some(), case.bound != Bound::No);
    if let Some(proof) = &opened.inner.proof {
        assert_eq!(proof.verify(&vector["cnf"]), Ok(()), "{}", case.name);
    }

    let services: Vec<_> = case.services.iter().rev().map(|name| (*name).to_owned()).collect();
    let client = client_key(case.bound).map(|(jwk, _)| ClientKey::from_jwk(&jwk.to_string()).unwrap());
    let request = Request {
        verb: [Verb::Open, Verb::Renew, Verb::Close][case.verb as usize - 1],
        token: vector["token"].as_str().unwrap(),
        services: &services,
        address: case.names_address.then_some(source),
        proof: client.as_ref().map(|key| Possession { key, by_thumbprint: case.bound.by_thumbprint() }),
    };
    let target = Target { server: SERVER.to_owned(), public: server_key.public(), knock_key };
    let fresh =
        Fresh { nonce: at("request", "nonce").try_into().unwrap(), ikm: at("request", "ikm_e").try_into().unwrap() };
    let (sealed, _) = seal_with(&request, &target, UnixTime(TIME_MS * 1_000_000), &fresh).unwrap();
    assert_eq!(sealed.len(), datagram.len());
    if !case.bound.is_random() {
        assert_eq!(hex(&sealed), hex(&datagram), "{}", case.name);
    }

    let ms = |ms: u64| UnixTime(ms * 1_000_000);
    let outcome = match case.reply {
        Ok(services) => Outcome::Done {
            services: services.iter().map(|(name, end)| ((*name).to_owned(), ms(*end))).collect(),
            repeated: case.repeated,
        },
        Err(code) => Outcome::Refused(code.to_owned()),
    };
    let reply = Reply { outcome, server_time: ms(case.server_time) };
    let answer = at("reply", "datagram");
    assert_eq!(opened.ticket.open(&answer).as_ref(), Ok(&reply));
    let nonce = at("reply", "nonce").try_into().unwrap();
    assert_eq!(hex(&opened.ticket.seal_with_nonce(&reply, nonce).unwrap()), hex(&answer), "{}", case.name);
}
