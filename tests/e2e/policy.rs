//! Roles allow and deny: what a good token may open.

use anyhow::{Result, ensure};
use jpat_tests::{
    network::{Family, Member},
    probe::Port,
};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::{
    config::{Config, DB, HTTPS},
    stage::Stage,
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::on("p2_roles_allow_and_deny", Config::default, roles),
        trial::on("p2_a_deny_rule_comes_before_every_allow", denying, deny_rule),
        trial::on("p6_a_token_belongs_to_its_first_source", Config::default, bound_to_source),
        trial::on("p6_a_once_token_is_used_once", once, used_once),
        trial::on("audit_lines_name_principal_service_and_source_but_no_token", Config::default, audit_lines),
    ]
}

fn roles(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let refused = [
        json!({ "roles": ["commerce-listings-admin", "doge"] }),
        json!({ "roles": ["intern"] }),
        json!({ "roles": [] }),
        json!({ "sub": "contractor:alice" }),
        // A string is no list of roles: "commerce-listings-admin" in "…" is an error, and an error denies.
        json!({ "roles": "commerce-listings-admin" }),
        json!({ "roles": null }),
    ];
    for changes in refused {
        let token = stage.key.token(&stage.claims_with(changes.clone()))?;
        let before = stage.metrics()?;
        stage.send(Member::Client, Family::V4, token.as_bytes())?;
        jpat_tests::wait::for_true(&format!("{changes} to be refused"), jpat_tests::wait::PATIENCE, || {
            let now = stage.metrics()?;
            let counted = |code| now.knocks(code) > before.knocks(code);
            ensure!(!counted("granted"), "{changes} opened something");
            Ok(counted("not_allowed") || counted("policy_error"))
        })?;
        stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent)?;
    }
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)
}

fn denying() -> Config {
    Config {
        rest: "[[deny]]\nname = \"left-the-company\"\nwhen = '''claims.sub in [\"employee:nobody\"]'''\n".to_owned(),
        ..Config::default()
    }
}

fn deny_rule(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let token = stage.key.token(&stage.claims_with(json!({ "sub": "employee:nobody" })))?;
    stage.knock(Member::Client, Family::V4, &token, "deny_rule")?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent)?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted").map(drop)
}

fn bound_to_source(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let token = stage.token()?;
    stage.knock(Member::Client, Family::V4, &token, "granted")?;
    stage.knock(Member::Stranger, Family::V4, &token, "other_source")?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    // One source of each family.
    stage.knock(Member::Client, Family::V6, &token, "granted")?;
    stage.expect_tcp(Member::Client, Family::V6, HTTPS, Port::Open)?;
    stage.knock(Member::Stranger, Family::V6, &token, "other_source")?;
    stage.expect_tcp(Member::Stranger, Family::V6, HTTPS, Port::Silent)
}

fn once() -> Config {
    let config = Config::default();
    let issuers = format!("{}replay = \"once\"\nleeway = \"0s\"\n", config.issuers);
    Config { issuers, ..config }
}

fn used_once(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let dated = || json!({ "iat": jpat_userspace::clock::now().unix.secs() });
    let early = json!({ "iat": jpat_userspace::clock::now().unix.secs() - 60 });
    stage.knock(Member::Client, Family::V4, &stage.key.token(&stage.claims_with(early))?, "before_start")?;
    // The second in which the controller started counts as before it.
    jpat_tests::wait::until(jpat_tests::wait::now().after(std::time::Duration::from_millis(1_100)));
    let token = stage.key.token(&stage.claims_with(dated()))?;
    stage.knock(Member::Client, Family::V4, &token, "granted")?;
    stage.knock(Member::Client, Family::V4, &token, "replayed")?;
    stage.knock(Member::Stranger, Family::V4, &token, "replayed")?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    let mut nameless = stage.claims_with(dated());
    nameless.as_object_mut().map(|claims| claims.remove("jti"));
    stage.knock(Member::Stranger, Family::V4, &stage.key.token(&nameless)?, "no_token_id")?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)
}

fn audit_lines(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let token = stage.token()?;
    stage.knock(Member::Client, Family::V4, &token, "granted")?;
    let doge = stage.key.token(&stage.claims_with(json!({ "roles": ["doge"] })))?;
    stage.knock(Member::Stranger, Family::V4, &doge, "not_allowed")?;
    let wanted: [&[(&str, &str)]; 3] = [
        &[
            ("event", "granted"),
            ("principal", "employee:alice"),
            ("issuer", "corp"),
            ("service", "web"),
            ("source", "192.0.2.10"),
        ],
        &[("event", "denied"), ("reason", "not_allowed"), ("source", "192.0.2.66")],
        &[("event", "expired"), ("service", "web"), ("source", "192.0.2.10")],
    ];
    for fields in wanted {
        jpat_tests::wait::for_true(&format!("{fields:?} in the audit log"), jpat_tests::wait::PATIENCE, || {
            let log = std::fs::read_to_string(stage.path("audit.jsonl")).unwrap_or_default();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            Ok(lines.into_iter().any(|line| fields.iter().all(|(key, value)| holds(&line[key], value))))
        })?;
    }
    let log = std::fs::read_to_string(stage.path("audit.jsonl"))?;
    for part in token.split('.').chain(doge.split('.')) {
        ensure!(!log.contains(part) && !stage.output().contains(part), "a part of a token is in a log");
    }
    stage.expect_tcp(Member::Client, Family::V4, DB, Port::Silent)
}

/// A source may be written with its prefix length or port, a principal with its issuer.
fn holds(field: &Value, wanted: &str) -> bool {
    field.as_str().is_some_and(|text| text.contains(wanted))
}
