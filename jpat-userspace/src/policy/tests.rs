use std::{path::PathBuf, time::Duration};

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::{
    clock::{BootTime, UnixTime},
    config::{
        Admin, AttachMode, Audit, DenyRule, Destinations, InterfacePattern, Limits, Listen, Mode, PortRange,
        PrefixWidths, Protocol,
    },
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
    let policy = |rule: &str| Policy::compile(&config(&[("listings", rule)], &[]), &ids()).unwrap();
    let token =
        VerifiedToken::for_tests("corp", json!({"net": "10.0.0.0/8", "bad": "10.0.0.1/8", "ip": "2001:db8::1"}));
    let opens = |rule: &str, source: &str| {
        policy(rule).evaluate(&token, source.parse().unwrap(), Form::Bare, NOW).map(|o| o.len()).map_err(|d| d.refusal)
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
        let revoked = policy.denies(&token, source(), NOW).map(str::to_owned);
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
        assert_eq!(policy.denies(&token, source(), NOW), Some("d"), "{when}");
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

#[test]
fn broken_rules_are_refused_with_place_and_remedy() {
    for (rule, at, message) in [
        (
            "claim.sub == \"a\"",
            Some((1, 1)),
            "unknown variable `claim`; known: claims, header, issuer, source, now, knock, service",
        ),
        ("true &&\n  user == 1", Some((2, 3)), "unknown variable `user`"),
        ("\"ü\" == \"\" || user == 1", Some((1, 14)), "unknown variable `user`"),
        ("claims.roles.exists(r, role == \"a\")", Some((1, 24)), "unknown variable `role`"),
        ("claims.roles.exists(r, r == \"a\") && r == \"b\"", Some((1, 21)), "unknown variable `r`"),
        ("claims.sub.startswith(\"a\")", Some((1, 12)), "did you mean `startsWith`?"),
        ("claims.sub.replace(\"a\", \"b\") == \"\"", Some((1, 12)), "unknown function `replace`; known: "),
        ("cdir(source, \"10.0.0.0/8\")", Some((1, 1)), "did you mean `cidr`?"),
        ("optional.off(1) == 1", Some((1, 10)), "did you mean `of`?"),
        ("claims.roles.exists(\"a\")", Some((1, 14)), "list.exists(x, x == \"a\")"),
        ("knock.from == \"bare\"", Some((1, 7)), "`knock` has no `from`; it has: form, proof"),
        ("has(header.jwk)", Some((1, 12)), "`header` has no `jwk`"),
        ("cidr(source, \"10.1.0.0/8\")", Some((1, 14)), "host bits set; write \"10.0.0.0/8\""),
        ("cidr(source, \"10.0.0.0/40\")", Some((1, 14)), "is no prefix"),
        ("claims.sub.matches(\"(\")", Some((1, 20)), "invalid pattern: unclosed group"),
        ("claims.sub.matches(\"(\\\\w{99}){99}\")", Some((1, 20)), "too large"),
        ("claims.sub.matches(claims.pattern)", Some((1, 12)), "needs a pattern in quotes"),
        ("\"true\"", Some((1, 1)), "must be true or false, and this is a constant"),
        ("[true]", Some((1, 1)), "this is a list"),
        ("claims.sub ==", Some((1, 14)), ""),
        ("claims.sub = \"a\"", Some((1, 12)), ""),
        ("", None, "the expression is empty"),
        (" \n", None, "the expression is empty"),
        ("Foo{a: 1} == 1", Some((1, 1)), "unknown message type `Foo`"),
        ("claims.a.all(x, claims.b.all(y, claims.c.all(z, x == y)))", Some((1, 46)), "more than 2 of all, exists"),
    ] {
        let errors = compile_errors(rule);
        let first = &errors[0];
        assert_eq!(first.owner, Owner::Service("listings".to_owned()));
        assert!(first.message.contains(message), "{rule}: {first:?}");
        if let Some(at) = at {
            assert_eq!(first.line.zip(first.column), Some(at), "{rule}: {first:?}");
        }
        assert!(!first.message.contains('\n') && !first.message.is_empty(), "{rule}: {first:?}");
    }
    let errors = Policy::compile(&config(&[("a", "true")], &[("d", "service == \"a\"")]), &ids()).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "deny \"d\", when: `service` is unknown here: a deny rule is judged before any service"
    );
}

#[test]
fn all_errors_of_all_rules_are_reported_at_once() {
    let services = [("a", "x && y"), ("b", "true"), ("c", "z")];
    let errors = Policy::compile(&config(&services, &[("d", "w")]), &ids()).unwrap_err();
    let owners: Vec<_> = errors.iter().map(|error| error.owner.to_string()).collect();
    assert_eq!(owners, ["deny \"d\", when", "service \"a\", allow", "service \"a\", allow", "service \"c\", allow"]);
    let errors = Policy::compile(&config(&[("unnumbered", "true")], &[]), &ids()).unwrap_err();
    assert!(errors[0].message.contains("no number"), "{errors:?}");
}

#[test]
fn loops_beside_each_other_are_fine_within_each_other_two() {
    for rule in [
        "claims.a.all(x, claims.b.all(y, x == y))",
        "claims.a.filter(x, x > 1).map(x, x + 1).exists(x, x == 1) && claims.b.all(x, x == 1) && claims.a.exists(x, true)",
    ] {
        assert!(compile_errors(rule).is_empty(), "{rule}");
    }
}

/// On the stack of an ordinary thread, in a debug build, where frames are largest.
#[test]
fn the_longest_and_deepest_expressions_do_no_harm() {
    let chain = |part: &str, between: &str| {
        let count = (compile::MAX_EXPRESSION - 40) / (part.len() + between.len());
        vec![part; count].join(between)
    };
    let long = format!("{} == \"\"", "x".repeat(compile::MAX_EXPRESSION));
    assert!(compile_errors(&long)[0].message.contains("at most 4096"));
    for (name, rule) in [
        ("sum", format!("{} == 1", chain("1", "+"))),
        ("and", chain("true", "&&")),
        ("member", format!("claims.{} == 1", chain("a", "."))),
        ("not", "!".repeat(4000) + "true"),
        ("minus", "-".repeat(4000) + "1 == 1"),
        ("paren", "(".repeat(2000) + "true" + &")".repeat(2000)),
        ("list", "[".repeat(2000) + &"]".repeat(2000) + " == []"),
        ("open", "(".repeat(4000)),
        ("index", format!("claims{} == 1", "[0]".repeat(1300))),
        ("ternary", "true ? ".repeat(400) + "true" + &" : true".repeat(400)),
        ("ternary on the right", "true ? true : ".repeat(280) + "true"),
        ("comparison", chain("true", "==")),
        ("method", format!("claims.sub{} == \"\"", ".trim()".repeat(500))),
    ] {
        println!("{name}");
        let token = VerifiedToken::for_tests("corp", json!({}));
        match Policy::compile(&config(&[("listings", &rule)], &[]), &ids()) {
            Ok(policy) => assert!(policy.evaluate(&token, source(), Form::Bare, NOW).is_ok(), "{name}"),
            Err(errors) => assert!(!errors[0].message.is_empty(), "{name}"),
        }
    }
}

/// Not a test of time: prints what one compilation and one evaluation cost.
#[test]
fn cost() {
    let config = config(&[("listings", EXAMPLE)], &[("left", r#"claims.sub in ["employee:nobody"]"#)]);
    let token =
        VerifiedToken::for_tests("corp", json!({"sub": "employee:1", "roles": ["a", "commerce-listings-admin"]}));
    let rounds = 200_u32;
    let micros = |work: &dyn Fn()| {
        work();
        let start = crate::clock::now().boot;
        (0..rounds).for_each(|_| work());
        start.until(crate::clock::now().boot) / rounds
    };
    let policy = Policy::compile(&config, &ids()).unwrap();
    let compile = micros(&|| assert!(Policy::compile(&config, &ids()).is_ok()));
    let evaluate = micros(&|| assert!(policy.evaluate(&token, source(), Form::Bare, NOW).is_ok()));
    println!("two rules: compile {compile:?}, evaluate {evaluate:?}");
}

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
            prop_assert_eq!(opens, guarded.denies(&token, source(), NOW).is_none());
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

fn decide(allow: &str, claims: Json) -> Result<Vec<String>, Refusal> {
    let policy = Policy::compile(&config(&[("listings", allow)], &[]), &ids()).unwrap();
    let token = VerifiedToken::for_tests("corp", claims);
    match policy.evaluate(&token, source(), Form::Bare, NOW) {
        Ok(openings) => Ok(openings.iter().map(|opening| opening.name.to_string()).collect()),
        Err(denied) => Err(denied.refusal),
    }
}

fn why(allow: &str, claims: &Json) -> Vec<RuleResult> {
    let policy = Policy::compile(&config(&[("listings", allow)], &[]), &ids()).unwrap();
    policy.examine(&VerifiedToken::for_tests("corp", claims.clone()), source(), Form::Bare, NOW).1
}

fn compile_errors(allow: &str) -> Vec<CompileError> {
    Policy::compile(&config(&[("listings", allow)], &[]), &ids()).err().unwrap_or_default()
}

fn source() -> IpAddr {
    "::ffff:192.0.2.9".parse().unwrap()
}

fn ids() -> BTreeMap<String, ServiceId> {
    ["a", "b", "c", "listings"].into_iter().map(str::to_owned).zip(1..).collect()
}

/// A configuration with these services, of issuer `corp`, and these deny rules.
pub(crate) fn config(services: &[(&str, &str)], deny: &[(&str, &str)]) -> Config {
    let service = |(at, (name, allow)): (usize, &(&str, &str))| {
        let port = 8443 + u16::try_from(at).unwrap();
        Service {
            name: (*name).to_owned(),
            issuers: vec!["corp".to_owned()],
            ports: vec![PortRange { protocol: Protocol::Tcp, first: port, last: port }],
            allow: (*allow).to_owned(),
            ttl: Duration::from_secs(30),
            prefix: PrefixWidths { v4: 32, v6: 128 },
        }
    };
    Config {
        source: Default::default(),
        path: PathBuf::from("jpat.toml"),
        mode: Mode::Enforce,
        state: PathBuf::from("state"),
        pins: PathBuf::from("pins"),
        listen: Listen {
            interfaces: vec![InterfacePattern::External],
            attach: AttachMode::Auto,
            port: 1337,
            destinations: Destinations::Local,
            drop_tunnels: false,
        },
        always_allow: vec![],
        issuers: vec![],
        services: services.iter().enumerate().map(service).collect(),
        deny: deny.iter().map(|(name, when)| DenyRule { name: (*name).to_owned(), when: (*when).to_owned() }).collect(),
        limits: Limits {
            grants: 4096,
            sources_per_principal: 64,
            workers: 1,
            queue: 16,
            bare_per_second: 100,
            replay_entries: 1024,
        },
        audit: Audit::Journal,
        admin: Admin { socket: PathBuf::from("admin.sock"), read: vec![], change: vec![], metrics: None },
    }
}
