mod compilation;
mod failure;

use serde_json::{Value as Json, json};

use super::*;
use crate::{
    clock::{BootTime, UnixTime},
    config::DenyRule,
};

const EXAMPLE: &str = r#"claims.sub.startsWith("employee:")
  && "commerce-listings-admin" in claims.roles
  && !("doge" in claims.roles)"#;

/// 2026-01-02T03:04:05Z.
const NOW: Now = Now { boot: BootTime(7), unix: UnixTime(1_767_323_045_000_000_000) };

#[test]
fn the_example_lets_admins_in_who_are_no_doge() {
    let ask = |claims| decide(EXAMPLE, claims);
    let admin = json!({"sub": "employee:1", "roles": ["staff", "commerce-listings-admin"]});
    assert_eq!(ask(admin), Ok(vec!["listings".to_owned()]));
    for claims in [
        json!({"sub": "employee:1", "roles": ["staff"]}),
        json!({"sub": "employee:1", "roles": []}),
        json!({"sub": "employee:1", "roles": ["commerce-listings-admin", "doge"]}),
        json!({"sub": "robot:1", "roles": ["commerce-listings-admin"]}),
        json!({"sub": "robot:1"}),
        json!({"sub": "employee:1", "roles": {"doge": 1}}),
    ] {
        assert_eq!(ask(claims.clone()), Err(Refusal::NotAllowed), "{claims}");
    }
    for claims in [
        json!({"sub": "employee:1"}),
        json!({"sub": "employee:1", "roles": "commerce-listings-admin"}),
        json!({"sub": "employee:1", "roles": null}),
        json!({"roles": ["commerce-listings-admin"]}),
        json!({"sub": 5, "roles": ["commerce-listings-admin"]}),
    ] {
        assert_eq!(ask(claims.clone()), Err(Refusal::PolicyError), "{claims}");
    }
}

#[test]
fn every_variable_says_what_it_should() {
    let claims = json!({
        "sub": "a", "exp": 1_767_323_105, "big": 18_446_744_073_709_551_615_u64, "half": 0.5, "yes": true, "none": null,
        "kubernetes.io": {"namespace": "prod"}, "scope": "read write", "groups": [{"name": "ops"}],
    });
    for rule in [
        r#"claims.sub == "a""#,
        r#"claims["kubernetes.io"].namespace == "prod""#,
        r#""write" in claims.scope.split(" ")"#,
        r#"claims.groups.exists(g, g.name == "ops")"#,
        r#"claims.groups.exists(claims, claims.name == "ops")"#,
        r#"claims.groups.all(g, g.name.startsWith("o")) && claims.groups.map(g, g.name) == ["ops"]"#,
        r#"claims.big == 18446744073709551615u && claims.half < 1 && claims.yes && claims.none == null"#,
        r#"header.alg == "ES256" && !has(header.kid) && header.?typ.orValue("JWT") == "JWT""#,
        r#"issuer == "corp" && service == "listings""#,
        r#"source == "192.0.2.9""#,
        r#"now == timestamp("2026-01-02T03:04:05Z") && now.getHours() == 3"#,
        r#"timestamp(claims.exp) - now == duration("60s")"#,
        r#"knock.form == "bare" && knock.proof == false && !knock.proof"#,
        r#"has(claims.sub) && !has(claims.admin)"#,
        r#"claims.sub.matches("^[a-c]$") && matches(claims.sub, "a") && !claims.sub.matches("b")"#,
        r#"claims.sub.endsWith("a") && claims.sub.contains("a") && claims.sub.upperAscii() == "A""#,
        r#"type(claims.sub) == string && size(claims.sub) == 1 && claims.sub in ["a", "b"]"#,
        r#"optional.of(1).hasValue() && claims.?nothing.orValue(true)"#,
    ] {
        assert_eq!(decide(rule, claims.clone()), Ok(vec!["listings".to_owned()]), "{rule}: {:?}", why(rule, &claims));
    }
}

#[test]
fn cidr_knows_both_families_and_mapped_addresses() {
    let token =
        VerifiedToken::for_tests("corp", json!({"net": "10.0.0.0/8", "bad": "10.0.0.1/8", "ip": "2001:db8::1"}));
    let opens = |rule: &str, source: &str| {
        listings(rule)
            .evaluate(&token, source.parse().unwrap(), Form::Bare, NOW)
            .map(|o| o.len())
            .map_err(|d| d.refusal)
    };
    for (rule, source) in [
        (r#"cidr(source, "10.0.0.0/8")"#, "10.255.0.1"),
        (r#"cidr(source, "10.0.0.0/8")"#, "::ffff:10.0.0.1"),
        (r#"cidr(source, "::ffff:10.0.0.0/104")"#, "10.0.0.1"),
        (r#"cidr(source, "2001:db8::/32")"#, "2001:db8:1::1"),
        (r#"cidr(source, "0.0.0.0/0") && !cidr(source, "::/0")"#, "192.0.2.1"),
        (r#"cidr(source, claims.net)"#, "10.0.0.1"),
        (r#"cidr(claims.ip, "2001:db8::/64")"#, "10.0.0.1"),
    ] {
        assert_eq!(opens(rule, source), Ok(1), "{rule} {source}");
    }
    for (rule, source) in [
        (r#"cidr(source, "10.0.0.0/8")"#, "11.0.0.1"),
        (r#"cidr(source, "10.0.0.0/8")"#, "2001:db8::1"),
        (r#"cidr(source, "2001:db8::/32")"#, "2001:db9::1"),
    ] {
        assert_eq!(opens(rule, source), Err(Refusal::NotAllowed), "{rule} {source}");
    }
    for rule in [r#"cidr(source, claims.bad)"#, r#"cidr("localhost", "10.0.0.0/8")"#, r#"cidr(claims.x, "::/0")"#] {
        assert_eq!(opens(rule, "10.0.0.1"), Err(Refusal::PolicyError), "{rule}");
    }
}

#[test]
fn deny_comes_before_every_allow() {
    let services = [("a", "true"), ("b", "true"), ("c", "false")];
    let deny = [("first", r#"claims.sub == "x""#), ("second", r#"claims.sub in ["y", "x"]"#)];
    let policy = Policy::compile(&config(&services, &deny), &ids()).unwrap();
    let ask = |sub: &str| {
        let token = VerifiedToken::for_tests("corp", json!({ "sub": sub }));
        let verdict = policy.evaluate(&token, source(), Form::Bare, NOW);
        let revoked = policy.denies(&token, source(), Form::Bare, NOW).map(str::to_owned);
        (verdict.map(|o| o.iter().map(|o| (o.service, o.name.to_string())).collect::<Vec<_>>()), revoked)
    };
    assert_eq!(ask("z").0.unwrap(), [(1, "a".to_owned()), (2, "b".to_owned())]);
    assert_eq!(ask("z").1, None);
    for (sub, rule) in [("x", "first"), ("y", "second")] {
        let (verdict, revoked) = ask(sub);
        let denied = verdict.unwrap_err();
        assert_eq!((denied.refusal, denied.rule.as_deref()), (Refusal::DenyRule, Some(rule)));
        assert_eq!(denied.who.unwrap().principal.subject, sub);
        assert_eq!(denied.issuer.as_deref(), Some("corp"));
        assert_eq!(revoked.as_deref(), Some(rule));
    }
}

#[test]
fn a_deny_rule_that_fails_denies() {
    for when in ["claims.banned", r#"claims.sub < 5"#, "claims.sub", r#"claims.sub == "x" || claims.nothing"#] {
        let policy = Policy::compile(&config(&[("a", "true")], &[("d", when)]), &ids()).unwrap();
        let token = VerifiedToken::for_tests("corp", json!({"sub": "me"}));
        let (verdict, results) = policy.examine(&token, source(), Form::Bare, NOW);
        assert_eq!(verdict.unwrap_err().refusal, Refusal::DenyRule, "{when}");
        assert_eq!(policy.denies(&token, source(), Form::Bare, NOW), Some("d"), "{when}");
        assert!(matches!(&results[0].outcome, RuleOutcome::Error(text) if !text.contains('\n')), "{results:?}");
        assert_eq!(results[1].outcome, RuleOutcome::True);
    }
}

#[test]
fn other_issuers_services_stay_closed_and_do_not_count_as_errors() {
    let mut config = config(&[("a", "true"), ("b", "claims.nothing"), ("c", "true")], &[]);
    config.services[0].issuers = vec!["other".to_owned()];
    config.services[2].issuers = vec!["other".to_owned(), "corp".to_owned()];
    let ask = |config: &Config, issuer: &str| {
        let policy = Policy::compile(config, &ids()).unwrap();
        let token = VerifiedToken::for_tests(issuer, json!({}));
        policy
            .evaluate(&token, source(), Form::Bare, NOW)
            .map(|o| o.iter().map(|o| o.name.to_string()).collect::<Vec<_>>())
            .map_err(|denied| denied.refusal)
    };
    assert_eq!(ask(&config, "corp"), Ok(vec!["c".to_owned()]));
    assert_eq!(ask(&config, "other"), Ok(vec!["a".to_owned(), "c".to_owned()]));
    assert_eq!(ask(&config, "third"), Err(Refusal::NotAllowed));
    config.services.truncate(2);
    assert_eq!(ask(&config, "corp"), Err(Refusal::PolicyError));
}

#[test]
fn examine_decides_as_evaluate_and_shows_every_rule() {
    let services = [("a", "true"), ("b", "claims.nothing"), ("c", "false")];
    let policy = Policy::compile(&config(&services, &[("d", "claims.banned"), ("e", "false")]), &ids()).unwrap();
    for claims in [json!({}), json!({"banned": true}), json!({"banned": false})] {
        let token = VerifiedToken::for_tests("corp", claims);
        let (examined, results) = policy.examine(&token, source(), Form::Bare, NOW);
        let evaluated = policy.evaluate(&token, source(), Form::Bare, NOW);
        assert_eq!(examined.map_err(|d| (d.refusal, d.rule)), evaluated.map_err(|d| (d.refusal, d.rule)));
        assert_eq!(results.len(), 5);
        assert_eq!(results[2].outcome, RuleOutcome::True);
        assert_eq!(results[3].outcome, RuleOutcome::Error("there is no `nothing`".to_owned()));
        assert_eq!(results[4].outcome, RuleOutcome::False);
    }
}

/// No bound on time: prints what one compilation and one evaluation cost, and what the most that a datagram can carry costs in
/// two loops.
#[test]
fn t47_loops_over_more_than_the_budget_fail_and_close() {
    let ask = |rule: &str, count: i64| {
        let many: Vec<i64> = (0..count).collect();
        let token = VerifiedToken::for_tests("corp", json!({ "many": many, "none": [] }));
        listings(rule).evaluate(&token, source(), Form::Bare, NOW).map(|o| o.len()).map_err(|d| d.refusal)
    };
    let twice = "claims.many.all(x, claims.many.exists(y, x == y))";
    // 31 + 31 * 31 elements are within 1024, 32 + 32 * 32 are not.
    assert_eq!(ask(twice, 31), Ok(1));
    assert_eq!(ask(twice, 32), Err(Refusal::PolicyError));
    assert_eq!(ask("claims.many.exists(x, x == 5)", 1024), Ok(1));
    assert_eq!(ask("claims.many.exists(x, x == 5)", 1025), Err(Refusal::PolicyError));
    assert_eq!(ask("claims.many.filter(x, x == 5).map(x, x) == [5]", 600), Ok(1));
    assert_eq!(ask("claims.many.map(x, claims.many.map(y, y)) != []", 600), Err(Refusal::PolicyError));
    assert_eq!(ask("!claims.many.exists(x, claims.many.filter(y, false) == [1])", 600), Err(Refusal::PolicyError));
    assert_eq!(ask("claims.many.all(x, claims.none.all(y, false))", 513), Err(Refusal::PolicyError));
    // What is true whatever the loops would say needs no loop.
    assert_eq!(ask("claims.many.all(x, claims.many.all(y, false)) || true", 600), Ok(1));
}

#[test]
fn decisions_repeat_and_cost() {
    let config = config(&[("listings", EXAMPLE)], &[("left", r#"claims.sub in ["employee:nobody"]"#)]);
    let claims = json!({"sub": "employee:1", "roles": ["a", "commerce-listings-admin"], "b": 1});
    let token = VerifiedToken::for_tests("corp", claims);
    let micros = |rounds: u32, work: &dyn Fn()| {
        work();
        let start = crate::clock::now().boot;
        (0..rounds).for_each(|_| work());
        start.until(crate::clock::now().boot) / rounds
    };
    let policy = Policy::compile(&config, &ids()).unwrap();
    let compile = micros(200, &|| assert!(Policy::compile(&config, &ids()).is_ok()));
    let evaluate = micros(200, &|| assert!(policy.evaluate(&token, source(), Form::Bare, NOW).is_ok()));
    let token = VerifiedToken::for_tests("corp", json!({ "many": vec![1; 380] }));
    let loops = listings("claims.many.all(x, claims.many.all(y, x == y))");
    let worst = micros(5, &|| assert!(loops.evaluate(&token, source(), Form::Bare, NOW).is_err()));
    println!("two rules: compile {compile:?}, evaluate {evaluate:?}; two loops over 380 elements: {worst:?}");
}

fn listings(allow: &str) -> Policy {
    Policy::compile(&config(&[("listings", allow)], &[]), &ids()).unwrap()
}

fn decide(allow: &str, claims: Json) -> Result<Vec<String>, Refusal> {
    let token = VerifiedToken::for_tests("corp", claims);
    match listings(allow).evaluate(&token, source(), Form::Bare, NOW) {
        Ok(openings) => Ok(openings.iter().map(|opening| opening.name.to_string()).collect()),
        Err(denied) => Err(denied.refusal),
    }
}

fn why(allow: &str, claims: &Json) -> Vec<RuleResult> {
    listings(allow).examine(&VerifiedToken::for_tests("corp", claims.clone()), source(), Form::Bare, NOW).1
}

fn source() -> IpAddr {
    "::ffff:192.0.2.9".parse().unwrap()
}

fn ids() -> BTreeMap<String, ServiceId> {
    ["a", "b", "c", "listings"].into_iter().map(str::to_owned).zip(1..).collect()
}

/// A configuration with these services, of issuer `corp`, and these deny rules. Rules may be broken.
pub(crate) fn config(services: &[(&str, &str)], deny: &[(&str, &str)]) -> Config {
    let mut config = Config::for_tests(
        r#"
        mode = "enforce"
        [[issuer]]
        name = "corp"
        issuer = "https://idp.example"
        audience = ["jpat://lab"]
        algorithms = ["ES256"]
        keys = { discovery = true }
        accept = ["bare"]
        replay = "bind-source"
        [[service]]
        name = "model"
        ports = ["tcp/8443"]
        allow = "true"
        ttl = "30s"
        "#,
    );
    let model = config.services[0].clone();
    let service = |(name, allow): &(&str, &str)| Service {
        name: (*name).to_owned(),
        allow: (*allow).to_owned(),
        ..model.clone()
    };
    config.services = services.iter().map(service).collect();
    config.deny =
        deny.iter().map(|(name, when)| DenyRule { name: (*name).to_owned(), when: (*when).to_owned() }).collect();
    config
}
