//! What must get in, and what is then known of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jpat_userspace::{
    clock::{BootTime, UnixTime},
    config::ReplayMode,
    knock::Knock,
    policy::Policy,
    refusal::Refusal,
    snapshot::Snapshot,
    token::{TokenId, keys::KeySet},
    verify::{NoRecord, Outcome, verify},
};
use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::{
    bench::{Bench, NOW, claims},
    mint::{Signer, b64},
};

#[test]
fn a_good_token_says_who_until_when_and_which() {
    let bench = Bench::new();
    let token = bench.accepted("good", &bench.good());
    assert_eq!(token.principal().to_string(), "corp:employee:alice");
    assert_eq!(**token.id(), TokenId::Jti("corp".into(), "t-1".into()));
    assert_eq!(token.expires(), UnixTime::from_secs(NOW + 60));
    assert_eq!(token.issued_at(), Some(UnixTime::from_secs(NOW - 5)));
    let parameter = |text: &str| Some(text.to_owned());
    let header =
        jpat_userspace::token::jws::Header { alg: parameter("ES256"), kid: parameter("k1"), typ: parameter("JWT") };
    assert_eq!(*token.header(), header);
    assert_eq!(token.claims()["roles"], json!(["commerce-listings-admin"]));
}

#[test]
fn every_check_of_a_good_token_is_reported_in_order() {
    let bench = Bench::new();
    let checks = bench.checks(&bench.good());
    let names: Vec<_> = checks.iter().map(|(name, _, _)| *name).collect();
    assert_eq!(
        names,
        [
            "length",
            "jws",
            "header",
            "claims",
            "iss",
            "form",
            "alg",
            "typ",
            "keys",
            "kid",
            "signature",
            "aud",
            "exp",
            "nbf",
            "iat",
            "max_lifetime",
            "cnf",
            "jti"
        ]
    );
    assert!(checks.iter().all(|(_, result, _)| result.is_ok()));
    let detail = |name| &checks.iter().find(|(other, _, _)| *other == name).unwrap().2;
    assert_eq!(detail("exp"), "2027-01-15T08:01:00.000Z, in 60s");
    assert_eq!(detail("max_lifetime"), "65s, at most 3600s");
}

/// The whole worker step: a datagram's knock and a snapshot in, services out.
#[test]
fn a_knock_opens_what_the_policy_says() {
    let bench = Bench::new();
    let ids: BTreeMap<String, u32> = [("listings".to_owned(), 7)].into();
    let snapshot = Snapshot {
        generation: 1,
        server: None,
        policy: Arc::new(Policy::compile(&bench.config, &ids).unwrap()),
        config: Arc::new(bench.config.clone()),
        keys: Arc::new(bench.ring.clone()),
        service_ids: Arc::new(ids),
    };
    let outcome = |token: String| {
        let source = "192.0.2.7".parse().unwrap();
        let knock = Knock::bare(token, source, BootTime(1));
        verify(&knock, &snapshot, bench.now, &mut NoRecord)
    };
    let Outcome::Allowed(allowed) = outcome(bench.good()) else { panic!("refused") };
    assert_eq!(
        allowed.openings.iter().map(|opening| (opening.service, &*opening.name)).collect::<Vec<_>>(),
        [(7, "listings")]
    );
    assert_eq!(allowed.replay, ReplayMode::BindSource);
    assert_eq!(allowed.token.principal().subject, "employee:alice");
    let refused = |token| match outcome(token) {
        Outcome::Denied(denied) => denied,
        Outcome::Allowed(allowed) => panic!("{allowed:?}"),
    };
    let guest = refused(bench.token(&claims().set("sub", "\"guest:bob\"")));
    assert_eq!(
        (guest.refusal, guest.who.unwrap().principal.subject.clone()),
        (Refusal::NotAllowed, "guest:bob".to_owned())
    );
    // Policy never sees what did not verify, whatever it says.
    assert_eq!(refused(bench.token(&claims().set("exp", "1"))).refusal, Refusal::Expired);
}

#[test]
fn every_algorithm() {
    let secret = [0x5a; 64];
    for signer in [
        Signer::es256(),
        Signer::es384(),
        Signer::ed25519(),
        Signer::rsa(Algorithm::RS256),
        Signer::rsa(Algorithm::RS384),
        Signer::rsa(Algorithm::RS512),
        Signer::rsa(Algorithm::PS256),
        Signer::rsa(Algorithm::PS384),
        Signer::rsa(Algorithm::PS512),
        Signer::secret(Algorithm::HS256, &secret),
        Signer::secret(Algorithm::HS384, &secret),
        Signer::secret(Algorithm::HS512, &secret),
    ] {
        let algorithm = signer.algorithm;
        let hmac = signer.public_pem.is_empty();
        let mut bench = Bench::with(signer, |jwk| json!({ "keys": [jwk] }));
        if hmac {
            bench = bench.keys(KeySet::from_secret(&secret, &[algorithm]).unwrap());
        } else {
            bench.accepted("by JWKS", &bench.good());
            let keys = KeySet::from_pem(bench.signer.public_pem.as_bytes(), &[algorithm]).unwrap();
            bench = bench.keys(keys);
        }
        bench.accepted(&format!("{algorithm:?}"), &bench.good());
        let forged = format!("{}.{}", bench.good().rsplit_once('.').unwrap().0, b64([1; 64]));
        assert!(bench.verify(&forged).is_err(), "{algorithm:?}");
    }
}

#[test]
fn headers_and_claims_of_real_identity_providers() {
    let bench = Bench::new();
    let header = bench.header();
    for (why, header) in [
        ("no typ", header.clone().without("typ")),
        ("typ in capitals, with application/", header.clone().set("typ", "\"application/AT+JWT\"")),
        ("x5t and x5t#S256", header.clone().set("x5t", "\"abc\"").set("x5t#S256", "\"abc\"")),
        ("cty and a private member", header.clone().set("cty", "\"x\"").set("ver", "{\"a\":1}")),
        ("no kid, one key", header.without("kid")),
    ] {
        bench.accepted(why, &bench.sign(&header, &claims()));
    }
    for (why, claims) in [
        ("aud as a list", claims().set("aud", "[\"a\",\"jpat://also\"]")),
        ("no iat and no nbf", claims().without("iat").without("nbf")),
        ("no sub", claims().without("sub")),
        ("fractional times", claims().set("exp", "1800000060.25").set("iat", "1799999999.5")),
        ("exponents", claims().set("exp", "1.80000006e9")),
        (
            "iat and nbf within the leeway",
            claims().set("iat", &(NOW + 10).to_string()).set("nbf", &(NOW + 10).to_string()),
        ),
        ("empty members", claims().set("", "{}").set("name", "\"\\u0000\"")),
        ("eight levels", claims().set("deep", "[[[[[[[1]]]]]]]")),
    ] {
        bench.accepted(why, &bench.token(&claims));
    }
}

#[test]
fn p3_exp_is_exact_to_the_nanosecond() {
    let mut bench = Bench::new();
    let token = bench.token(&claims().set("exp", &format!("{NOW}.5")));
    bench.now.unix = UnixTime::from_secs(NOW).after(Duration::from_nanos(499_999_999));
    assert_eq!(bench.accepted("before", &token).expires(), UnixTime::from_secs(NOW).after(Duration::from_millis(500)));
    bench.now.unix = UnixTime::from_secs(NOW).after(Duration::from_millis(500));
    bench.refused("at exp", &token, Refusal::Expired);
}

/// (r, n - s) is as good an ECDSA signature as (r, s). The token stays the same one, so replay protection holds.
#[test]
fn p6_an_altered_signature_makes_no_second_token() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let bench = Bench::new();
    for claims in [claims(), claims().without("jti")] {
        let token = bench.token(&claims);
        let (input, signature) = token.rsplit_once('.').unwrap();
        let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        negate(&mut signature[32..]);
        let twin = format!("{input}.{}", b64(signature));
        assert_ne!(twin, token);
        assert_eq!(bench.accepted("twin", &twin).id(), bench.accepted("token", &token).id());
    }
}

/// n - s, for the order n of P-256 (FIPS 186-4 §D.1.2.3), big-endian.
fn negate(s: &mut [u8]) {
    let order = b"\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51";
    let mut borrow = 0;
    for (n, s) in order.iter().zip(s).rev() {
        let difference = i16::from(*n) - i16::from(*s) - borrow;
        borrow = i16::from(difference < 0);
        *s = difference.rem_euclid(256) as u8;
    }
}

#[test]
fn tokens_without_jti_are_told_apart_by_what_is_signed() {
    let bench = Bench::new();
    let id = |sub: &str| {
        let token = bench.token(&claims().without("jti").set("sub", sub));
        bench.accepted("no jti", &token).id().clone()
    };
    assert_eq!(id("\"a\""), id("\"a\""), "two signatures over one signing input");
    assert_ne!(id("\"a\""), id("\"b\""));
    assert!(matches!(*id("\"a\""), TokenId::Digest(_)));
}

#[test]
fn p4_stale_keys_serve_through_an_outage_up_to_max_stale() {
    let mut bench = Bench::new();
    let token = bench.token(&claims().set("exp", &(NOW + 3000).to_string()));
    bench.now.unix = UnixTime::from_secs(NOW + 600);
    bench.accepted("at max_stale", &token);
    bench.now.unix = UnixTime::from_secs(NOW + 601);
    bench.refused("later", &token, Refusal::NoKeys);
}
