use std::sync::Arc;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;
use crate::{
    clock::BootTime,
    config::{Config, ReplayMode},
    keyring::{Held, KeyRing},
    policy::{Owner, Policy, RuleOutcome, tests::config},
    token::{install_crypto, keys::KeySet},
};

const EXAMPLE: &str = r#"claims.sub.startsWith("employee:")
  && "commerce-listings-admin" in claims.roles
  && !("doge" in claims.roles)"#;
/// 2026-01-02T03:04:05Z.
const SECONDS: u64 = 1_767_323_045;
const NOW: Now = Now { boot: BootTime(7_000_000_000), unix: UnixTime(SECONDS * 1_000_000_000) };

#[test]
fn a_good_token_opens_until_the_earlier_of_ttl_and_exp() {
    let lab = Lab::new();
    for (life, ends) in [(600, SECONDS + 30), (20, SECONDS + 20)] {
        let told = lab.explain(&lab.token(&with(json!({ "exp": SECONDS + life }))));
        let open = Open { service: "listings".to_owned(), until: UnixTime::from_secs(ends) };
        assert_eq!(told.decision, Decision::Open(vec![open]));
        assert!(told.checks.iter().all(|check| check.result.is_ok() && !check.supposed), "{told}");
        assert!(told.checks.iter().any(|check| check.name == "signature"));
        assert_eq!(told.principal.as_ref().unwrap().to_string(), "corp:employee:1");
        let answers: Vec<_> = told.rules.iter().map(|rule| (rule.owner.clone(), rule.outcome.clone())).collect();
        assert_eq!(
            answers,
            [
                (Owner::Deny("left".to_owned()), RuleOutcome::False),
                (Owner::Service("listings".to_owned()), RuleOutcome::True),
                (Owner::Service("b".to_owned()), RuleOutcome::Error("there is no `b`".to_owned())),
            ]
        );
    }
    println!("{}", lab.explain(&lab.token(&with(json!({})))));
}

#[test]
fn an_expired_token_is_refused_and_the_rest_is_shown_as_supposition() {
    let lab = Lab::new();
    let told = lab.explain(&lab.token(&with(json!({ "exp": SECONDS - 94, "iat": SECONDS - 200 }))));
    println!("{told}");
    assert_eq!(told.decision, Decision::Refused { refusal: Refusal::Expired, rule: None });
    let failed = told.checks.iter().position(|check| check.result == Err(Refusal::Expired)).unwrap();
    assert!(told.checks[..failed].iter().all(|check| check.result.is_ok() && !check.supposed));
    assert!(!told.checks[failed].supposed);
    assert!(!told.checks[failed + 1..].is_empty());
    assert!(told.checks[failed + 1..].iter().all(|check| check.supposed));
    assert_eq!(told.rules[1].outcome, RuleOutcome::True);
    let text = told.to_string();
    assert!(text.contains("\nFAIL    exp"), "{text}");
    assert!(text.contains("\n(yes)   service \"listings\""), "{text}");
    assert!(text.contains("\nREFUSED expired: The token has expired.\n"), "{text}");
    assert!(!text.contains("OPENS"));
}

#[test]
fn a_doge_is_refused_by_the_rule() {
    let lab = Lab::new();
    let told = lab.explain(&lab.token(&with(json!({ "roles": ["commerce-listings-admin", "doge"] }))));
    println!("{told}");
    assert_eq!(told.decision, Decision::Refused { refusal: Refusal::NotAllowed, rule: None });
    assert!(told.checks.iter().all(|check| check.result.is_ok()));
    assert!(told.to_string().contains("\nno      service \"listings\"  allow is false"), "{told}");
    let left = lab.explain(&lab.token(&with(json!({ "sub": "employee:nobody" }))));
    assert_eq!(left.decision, Decision::Refused { refusal: Refusal::DenyRule, rule: Some("left".to_owned()) });
    assert!(left.to_string().contains("\nREFUSED deny_rule \"left\": "), "{left}");
    assert!(left.to_string().contains("\nDENY    deny \"left\""), "{left}");
}

#[test]
fn several_failures_are_all_shown_and_the_first_decides() {
    let lab = Lab::new();
    let claims = with(json!({ "aud": "other", "exp": SECONDS - 1, "iat": SECONDS - 90_000 }));
    let told = lab.explain(&lab.token(&claims));
    println!("{told}");
    assert_eq!(told.decision, Decision::Refused { refusal: Refusal::WrongAudience, rule: None });
    let failed: Vec<_> = told.checks.iter().filter_map(|c| Some((c.result.err()?, c.supposed))).collect();
    assert_eq!(failed, [(Refusal::WrongAudience, false), (Refusal::Expired, true), (Refusal::LifetimeTooLong, true)]);
    assert_eq!(told.suppositions.len(), 3);
    assert_eq!(told.rules.len(), 3);
}

/// Nothing is supposed about keys and signatures, so that no rule ever speaks of claims that nobody signed.
#[test]
fn without_a_signature_no_rule_is_asked() {
    let lab = Lab::new();
    let good = lab.token(&with(json!({})));
    let (input, _) = good.rsplit_once('.').unwrap();
    let other = Lab::new().token(&with(json!({})));
    let unsigned = format!("{}.{}.", encode(&json!({"alg": "none"})), encode(&with(json!({}))));
    let foreign = format!("{input}.{}", other.rsplit_once('.').unwrap().1);
    for (token, refusal) in [
        (foreign.as_str(), Refusal::BadSignature),
        (unsigned.as_str(), Refusal::AlgNone),
        ("hello", Refusal::NotJws),
        ("", Refusal::NotJws),
    ] {
        let told = lab.explain(token);
        assert_eq!(told.decision, Decision::Refused { refusal, rule: None }, "{told}");
        assert!(told.rules.is_empty() && told.principal.is_none() && told.suppositions.is_empty(), "{told}");
    }
    let mut unreached = Lab::new();
    unreached.snapshot.keys = Arc::new(KeyRing::default());
    let told = unreached.explain(&unreached.token(&with(json!({}))));
    assert_eq!(told.decision, Decision::Refused { refusal: Refusal::NoKeys, rule: None });
    assert!(told.rules.is_empty(), "{told}");
}

#[test]
fn a_source_that_never_gets_a_grant_is_refused_first() {
    let lab = Lab::new();
    let told = explain(&lab.snapshot, &lab.token(&with(json!({}))), Way::Bare, "127.0.0.1".parse().unwrap(), NOW);
    assert_eq!(told.decision, Decision::Refused { refusal: Refusal::BadSource, rule: None });
    assert!(told.checks[1..].iter().all(|check| check.supposed), "{told}");
    assert_eq!(told.suppositions, ["127.0.0.1 could hold a grant"]);
    assert_eq!(told.rules.len(), 3);
}

/// Explaining never decides otherwise than a knock, whatever is forgiven along the way.
#[test]
fn the_decision_is_the_verifiers() {
    let mut lab = Lab::new();
    lab.config(|config| config.issuers[0].replay = ReplayMode::Once);
    let mut seen = std::collections::BTreeSet::new();
    for change in [
        json!({"jti": "a"}),
        json!({}),
        json!({"jti": "a", "exp": SECONDS}),
        json!({"jti": "a", "exp": null}),
        json!({"jti": "a", "nbf": SECONDS + 60}),
        json!({"jti": "a", "nbf": SECONDS + 60, "exp": SECONDS + 30}),
        json!({"jti": "a", "iat": SECONDS + 60}),
        json!({"jti": "a", "exp": SECONDS + 90_000}),
        json!({"jti": "a", "aud": ["x", "y"]}),
        json!({"jti": "a", "iss": "nobody"}),
        json!({"jti": "a", "cnf": {"jkt": "x"}}),
        json!({"jti": "a", "roles": "doge"}),
        json!({"jti": "a", "sub": "employee:nobody"}),
    ] {
        for bare in [true, false] {
            lab.config(|config| config.issuers[0].accept = [if bare { Form::Bare } else { Form::Sealed }].into());
            let token = lab.token(&with(change.clone()));
            let knock = Knock::bare(token.clone(), source(), NOW.boot);
            let told = lab.explain(&token);
            let decided = match verify::verify(&knock, &lab.snapshot, NOW, &mut verify::NoRecord) {
                Outcome::Allowed(_) => None,
                Outcome::Denied(denied) => Some(denied.refusal),
            };
            let shown = match &told.decision {
                Decision::Open(_) => None,
                Decision::Refused { refusal, .. } => Some(*refusal),
            };
            assert_eq!(shown, decided, "{change} {told}");
            // The first failed check, if any, is the decision.
            let first = told.checks.iter().find_map(|check| check.result.err());
            assert!(first.is_none() || first == decided, "{told}");
            seen.insert(decided);
        }
    }
    assert!(seen.contains(&None) && seen.len() > 10, "{seen:?}");
}

#[test]
fn p6_a_sealed_token_is_judged_as_sealed_and_its_proof_is_said() {
    let mut lab = Lab::new();
    let free = lab.token(&with(json!({})));
    let bound = lab.token(&with(json!({ "cnf": { "jkt": "x" } })));
    let odd = lab.token(&with(json!({ "cnf": { "kid": "x" } })));
    let way = |lab: &Lab, token: &str, proof| Way::usual(&lab.snapshot.config, token, proof);
    assert_eq!(way(&lab, &free, false), Way::Bare, "its issuer takes nothing else");
    lab.config(|config| config.issuers[0].accept = [Form::Bare, Form::Sealed].into());
    let sealed = Way::Sealed { proof: false };
    assert_eq!(way(&lab, &free, false), sealed);
    let told = |lab: &Lab, token: &str, proof| {
        let told = explain(&lab.snapshot, token, way(lab, token, proof), source(), NOW);
        let refusal = match &told.decision {
            Decision::Open(_) => None,
            Decision::Refused { refusal, .. } => Some(*refusal),
        };
        (refusal, told)
    };
    assert_eq!(told(&lab, &free, false).0, None);
    let (refusal, why) = told(&lab, &bound, false);
    assert_eq!(refusal, Some(Refusal::ProofMissing));
    assert!(why.suppositions[0].contains("--proof") && !why.rules.is_empty(), "{why}");
    assert_eq!(told(&lab, &bound, true).0, None);
    assert_eq!(told(&lab, &odd, true).0, Some(Refusal::UnknownConfirmation));
    lab.config(|config| config.issuers[0].replay = ReplayMode::Proof);
    assert_eq!(told(&lab, &free, false).0, Some(Refusal::NoConfirmation));
    assert_eq!(told(&lab, &bound, true).0, None);
    let loopback = explain(&lab.snapshot, &free, sealed, "127.0.0.1".parse().unwrap(), NOW);
    assert!(matches!(loopback.decision, Decision::Refused { refusal: Refusal::BadSource, .. }));
}

#[test]
fn json_is_versioned_and_neither_form_shows_the_token() {
    let lab = Lab::new();
    for change in [json!({}), json!({ "exp": SECONDS - 1 }), json!({ "roles": [] }), json!({ "aud": "x" })] {
        let token = lab.token(&with(change));
        let told = lab.explain(&format!("{token}\n"));
        let json = told.to_json();
        assert_eq!(json["version"], VERSION);
        assert_eq!(json["allowed"], told.allowed());
        assert_eq!(json["services"].as_array().unwrap().is_empty(), !told.allowed());
        assert_eq!(json["refusal"].is_null(), told.allowed());
        assert_eq!(json["checks"].as_array().unwrap().len(), told.checks.len());
        assert_eq!(json["at"], "2026-01-02T03:04:05.000Z");
        for part in token.split('.') {
            assert!(!told.to_string().contains(part) && !json.to_string().contains(part));
        }
    }
}

#[test]
fn claims_cannot_steer_the_terminal() {
    let lab = Lab::new();
    let told = lab.explain(&lab.token(&with(json!({ "sub": "\u{1b}[2J\nOPENS", "jti": "\u{1b}]0;x\u{7}" }))));
    let text = told.to_string();
    assert!(text.contains("\\u{1b}[2J\\nOPENS"), "{text}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n') && !text.contains("\nOPENS"), "{text}");
}

/// One issuer with one ES256 key, the example's service, one that needs another claim, one deny rule.
struct Lab {
    key: EcdsaKeyPair,
    snapshot: Snapshot,
}

impl Lab {
    fn new() -> Self {
        install_crypto();
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let jwks = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "k1", "x": x, "y": y }] }).to_string();
        let (keys, _) = KeySet::from_jwks(jwks.as_bytes(), &[jsonwebtoken::Algorithm::ES256]).unwrap();
        let config =
            config(&[("listings", EXAMPLE), ("b", "claims.b")], &[("left", r#"claims.sub in ["employee:nobody"]"#)]);
        let ids = [("listings".to_owned(), 1), ("b".to_owned(), 2)].into();
        let policy = Arc::new(Policy::compile(&config, &ids).unwrap());
        let keys = Arc::new(KeyRing::default().with("corp", Held { keys: Arc::new(keys), fetched: NOW.unix }));
        let service_ids = Arc::new(ids);
        let snapshot = Snapshot { generation: 1, config: Arc::new(config), policy, keys, server: None, service_ids };
        Self { key, snapshot }
    }

    fn config(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = Config::clone(&self.snapshot.config);
        change(&mut config);
        self.snapshot.config = Arc::new(config);
    }

    fn token(&self, claims: &Value) -> String {
        let input = format!("{}.{}", encode(&json!({ "alg": "ES256", "kid": "k1", "typ": "JWT" })), encode(claims));
        let signature = self.key.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn explain(&self, token: &str) -> Explanation {
        explain(&self.snapshot, token, Way::Bare, source(), NOW)
    }
}

/// Good claims with some of them changed; `null` takes one out.
fn with(change: Value) -> Value {
    let mut claims = json!({
        "iss": "https://idp.example", "aud": ["jpat://lab"], "sub": "employee:1",
        "iat": SECONDS - 10, "exp": SECONDS + 600, "roles": ["commerce-listings-admin"],
    });
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn encode(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

fn source() -> IpAddr {
    "192.0.2.9".parse().unwrap()
}
