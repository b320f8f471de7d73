//! Whatever the claims and the rule: what fails to evaluate opens nothing.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

proptest! {
    /// Whatever the claims: a service whose rule fails, and a service whose rule is not plainly true, stays closed.
    #[test]
    fn an_evaluation_error_never_opens(claims in any_claims(), rule in any_rule()) {
        let services = [("listings", rule.as_str())];
        let Ok(policy) = Policy::compile(&config(&services, &[]), &ids()) else { return Ok(()) };
        let token = VerifiedToken::for_tests("corp", claims.clone());
        let (verdict, results) = policy.examine(&token, source(), Form::Bare, NOW);
        match (&results[0].outcome, verdict) {
            (RuleOutcome::True, Ok(openings)) => prop_assert_eq!(openings.len(), 1),
            (RuleOutcome::False, Err(denied)) => prop_assert_eq!(denied.refusal, Refusal::NotAllowed),
            (RuleOutcome::Error(_), Err(denied)) => prop_assert_eq!(denied.refusal, Refusal::PolicyError),
            (outcome, verdict) => prop_assert!(false, "{rule} {claims}: {outcome:?} became {verdict:?}"),
        }
        // The same expression as a deny rule beside an open service: an error denies as well.
        let guarded = Policy::compile(&config(&[("listings", "true")], &[("d", &rule)]), &ids());
        if let Ok(guarded) = guarded {
            let opens = guarded.evaluate(&token, source(), Form::Bare, NOW).is_ok();
            prop_assert_eq!(opens, results[0].outcome == RuleOutcome::False, "{}", rule);
            prop_assert_eq!(opens, guarded.denies(&token, source(), Form::Bare, NOW).is_none());
        }
    }
}

fn any_claims() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "[a-z:]{0,8}".prop_map(Json::from),
        Just(json!("employee:1")),
        Just(json!(["commerce-listings-admin"])),
    ];
    let value = leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map("[ab]", inner, 0..3).prop_map(|m| Json::Object(m.into_iter().collect())),
        ]
    });
    prop::collection::btree_map(prop_oneof!["sub", "roles", "a", "b"], value, 0..4)
        .prop_map(|members| Json::Object(members.into_iter().collect()))
}

fn any_rule() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(EXAMPLE.to_owned()),
        Just("claims.a".to_owned()),
        Just("claims.a.b".to_owned()),
        Just("claims.sub == claims.b".to_owned()),
        Just("claims.a < claims.b".to_owned()),
        Just("claims.roles.exists(x, x.b)".to_owned()),
        Just("claims.roles.all(x, x in claims.a)".to_owned()),
        Just("has(claims.a)".to_owned()),
        Just("cidr(source, claims.sub)".to_owned()),
        Just("claims.a + claims.b == 2".to_owned()),
        Just("1 / claims.a == 1".to_owned()),
        Just("timestamp(claims.a) < now".to_owned()),
        Just("claims.sub.matches(\"^e\")".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a}) ? ({b}) : claims.b")),
        ]
    })
}
