//! What must hold for any input.

use jpat_userspace::{
    refusal::{Refusal, Stage},
    token::{json, keys::KeySet},
};
use jsonwebtoken::Algorithm;
use proptest::{prelude::*, test_runner::TestRunner};

use crate::{
    bench::{Bench, claims},
    mint::b64,
};

fn run<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config).run(strategy, test).unwrap();
}

#[test]
fn p1_no_text_is_a_token_and_none_panics() {
    let bench = Bench::new();
    let any = prop_oneof!["\\PC{0,80}", "[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,90}"];
    run(2000, &any, |text| {
        let denied = bench.verify(&text).expect_err("unsigned");
        prop_assert_eq!(denied.refusal.stage(), Stage::Stranger);
        Ok(())
    });
}

#[test]
fn p6_no_altered_character_verifies() {
    let bench = Bench::new();
    let good = bench.good();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/";
    let change = (0..good.len(), 0..alphabet.len());
    run(1500, &change, |(at, with)| {
        let with = &alphabet[with..=with];
        if good[at..=at] == *with {
            return Ok(());
        }
        let altered = format!("{}{with}{}", &good[..at], &good[at + 1..]);
        let denied = bench.verify(&altered).expect_err("altered");
        prop_assert!(denied.who.is_none(), "{}", denied.refusal);
        Ok(())
    });
}

#[test]
fn any_header_and_payload_without_a_signature_are_a_strangers() {
    let bench = Bench::new();
    let member = prop_oneof!["null", "true", "-?[0-9]{1,20}", "\"[a-zA-Z0-9:/.]{0,12}\"", "\\[\\]", "\\{\\}"];
    let name = prop_oneof![
        "alg",
        "kid",
        "typ",
        "crit",
        "jwk",
        "iss",
        "sub",
        "aud",
        "exp",
        "nbf",
        "iat",
        "jti",
        "cnf",
        "[a-z]{1,4}"
    ];
    let object = prop::collection::vec((name, member), 0..6);
    run(2000, &(object.clone(), object), |(header, payload)| {
        let text = |members: Vec<(String, String)>| {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
            b64(format!("{{{}}}", members.join(",")))
        };
        let denied = bench.verify(&format!("{}.{}.AAAA", text(header), text(payload))).expect_err("unsigned");
        prop_assert!(denied.who.is_none());
        Ok(())
    });
}

#[test]
fn json_that_is_taken_means_what_serde_json_says() {
    let leaf = prop_oneof![
        "null",
        "true",
        "false",
        "-?(0|[1-9][0-9]{0,18})(\\.[0-9]{1,6})?([eE][+-]?[0-9]{1,2})?",
        "\"[ -!#-\\[\\]-~]{0,8}\""
    ];
    let value = leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(("[a-c]{1,2}", inner), 0..5).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
                format!("{{{}}}", members.join(" , "))
            }),
        ]
    });
    run(3000, &value, |value| {
        let text = format!("{{\"x\":{value}}}");
        match json::object(text.as_bytes()) {
            Ok(members) => {
                let plain: serde_json::Value = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(serde_json::Value::Object(members), plain);
            }
            Err(refusal) => prop_assert_eq!(refusal, Refusal::DuplicateMember, "{}", text),
        }
        Ok(())
    });
}

#[test]
fn no_bytes_panic_a_key_source() {
    let all = [Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA];
    run(2000, &prop::collection::vec(any::<u8>(), 0..200), |bytes| {
        prop_assert!(KeySet::from_jwks(&bytes, &all).is_err());
        prop_assert!(KeySet::from_pem(&bytes, &all).is_err());
        let block = pem::encode(&pem::Pem::new("PUBLIC KEY", bytes.clone()));
        prop_assert!(KeySet::from_pem(block.as_bytes(), &all).is_err());
        let block = pem::encode(&pem::Pem::new("CERTIFICATE", bytes));
        prop_assert!(KeySet::from_pem(block.as_bytes(), &all).is_err());
        Ok(())
    });
}

#[test]
fn every_refusal_before_the_signature_is_a_strangers() {
    // In the order of `Refusal::ALL` no stranger's refusal follows one of an authenticated sender.
    let stages: Vec<_> = Refusal::ALL.iter().map(|refusal| refusal.stage()).collect();
    let first = stages.iter().position(|stage| *stage == Stage::Authenticated).unwrap();
    assert!(stages[first..].iter().all(|stage| *stage == Stage::Authenticated));
    assert_eq!(Refusal::ALL[first - 1], Refusal::BadSignature);
    let bench = Bench::new();
    bench.accepted("the bench is sound", &bench.token(&claims()));
}
