//! What those who authenticate are told.

use anyhow::{Context, Result, bail, ensure};
use jpat_tests::{
    knocker::{Knocker, Named, Wish},
    metrics::Metrics,
    network::{Family, Member},
    probe::{self, Port},
    wait::{self, PATIENCE},
};
use jpat_userspace::{
    clock,
    knock::{
        proof::Kind,
        reply::{Outcome, Reply},
        sealed::Verb,
    },
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::json;

use super::{
    NO_REPLY, ONCE, PLAIN, PROOF, SERVER, bound_token, config, opened, start, start_and_wait, thief::refused_with, told,
};
use crate::{
    config::{DB, HTTPS, KNOCK_PORT},
    robust::start_on_one_cpu,
    stage::{Stage, address},
    trial,
};

pub(super) fn trials() -> Vec<Trial> {
    let bound = || config("replay = \"bind-source\"");
    let once = || config(ONCE);
    let proof = || config("replay = \"proof\"");
    vec![
        trial::on("p6_a_knock_with_a_proof_opens_and_renews", proof, proved),
        trial::on("a_reply_tells_services_and_ends", bound, services),
        trial::on("a_knock_opens_the_services_it_names", bound, named),
        trial::on("renew_prolongs_and_opens_nothing", bound, renews),
        trial::on("close_gives_back", bound, closes),
        trial::on("knocks_of_one_sender_that_come_together_take_effect_in_their_order", bound, together),
        trial::on("a_wrong_clock_is_told_by_how_much", bound, skewed),
        trial::on("a_lost_reply_is_answered_again", once, lost),
        trial::on("p1_a_refusal_is_told_to_those_who_authenticate_alone", bound, refusals),
    ]
}

/// On one CPU, so that one batch holds all of them.
fn together(stage: &mut Stage) -> Result<()> {
    let knocker = Knocker::new(SERVER, Kind::Ed25519)?;
    knocker.write_keys(stage.dir.path())?;
    let jpatd = start_on_one_cpu(stage)?;
    let token = both(stage)?;
    jpatd.signal(Signal::SIGSTOP)?;
    for verb in [Verb::Open, Verb::Renew, Verb::Close, Verb::Open, Verb::Renew] {
        let sealed = knocker.seal(&token, Wish { verb: Some(verb), ..PLAIN })?;
        probe::send(&stage.net.client, address(Family::V4, KNOCK_PORT), &sealed.datagram)?;
    }
    jpatd.signal(Signal::SIGCONT)?;
    let mut knocks = String::new();
    wait::for_true("five knocks to take effect", PATIENCE, || {
        let metrics = stage.metrics()?;
        knocks = metrics.changes(&Metrics::default(), "jpat_knocks_total");
        Ok(["granted", "renewed", "closed"].map(|result| metrics.knocks(result)) == [2.0, 2.0, 1.0])
    })
    .with_context(|| format!("counted were: {knocks}"))?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)
}

fn proved(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    for (named, family) in [(Named::Key, Family::V4), (Named::Thumbprint, Family::V6)] {
        let token = bound_token(stage, &knocker, named)?;
        for _ in 0..2 {
            let wish = Wish { proof: Some(named), ..PLAIN };
            opened(stage, &knocker.seal(&token, wish)?, family, &["web"])?;
        }
        stage.expect_tcp(Member::Client, family, HTTPS, Port::Open)?;
    }
    let unbound = knocker.seal(&stage.token()?, PLAIN)?;
    let reply = unbound.exchange(&stage.net.client, address(Family::V4, KNOCK_PORT), NO_REPLY)?;
    ensure!(reply.is_none() && stage.metrics()?.knocks("no_confirmation") == 1.0, "{reply:?}");
    Ok(())
}

fn done(reply: Reply) -> Result<Vec<(String, u64)>> {
    match reply.outcome {
        Outcome::Done { services, .. } => {
            Ok(services.into_iter().map(|(name, end)| (name, end.0 / 1_000_000)).collect())
        }
        Outcome::Refused(code) => bail!("refused: {code}"),
    }
}

fn both(stage: &Stage) -> Result<String> {
    stage.key.token(&stage.claims_with(json!({ "roles": ["commerce-listings-admin", "dba"] })))
}

fn services(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    let before = clock::now().unix.0 / 1_000_000;
    let reply = told(stage, &knocker.seal(&both(stage)?, PLAIN)?, Family::V6)?;
    let after = clock::now().unix.0 / 1_000_000;
    let server_time = reply.server_time.0 / 1_000_000;
    ensure!((before..=after).contains(&server_time), "the server's time {server_time} is not in {before}..={after}");
    let services = done(reply)?;
    ensure!(services.iter().map(|(name, _)| name.as_str()).eq(["db", "web"]), "{services:?}");
    for (name, end) in &services {
        ensure!((before + 59_000..=after + 60_000).contains(end), "{name} ends at {end}, asked at {before}");
    }
    for port in [HTTPS, DB] {
        stage.expect_tcp(Member::Client, Family::V6, port, Port::Open)?;
    }
    Ok(())
}

fn named(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    let wish = |names: &'static [&'static str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let seal = |token: &str, names: &[String]| knocker.seal(token, Wish { services: names, ..PLAIN });
    opened(stage, &seal(&both(stage)?, &wish(&["db"]))?, Family::V4, &["db"])?;
    stage.expect_tcp(Member::Client, Family::V4, DB, Port::Open)?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent)?;
    // All that are named, or none.
    let more = seal(&stage.token()?, &wish(&["db", "web"]))?;
    refused_with(Some(told(stage, &more, Family::V4)?), "not_allowed")?;
    let unknown = seal(&both(stage)?, &wish(&["nothing-like-it"]))?;
    refused_with(Some(told(stage, &unknown, Family::V4)?), "not_allowed")?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent)
}

fn verb(knocker: &Knocker, token: &str, verb: Verb) -> Result<jpat_tests::knocker::Sealed> {
    knocker.seal(token, Wish { verb: Some(verb), ..PLAIN })
}

fn renews(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    let token = stage.token()?;
    refused_with(Some(told(stage, &verb(&knocker, &token, Verb::Renew)?, Family::V4)?), "not_open")?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent)?;
    let first = done(told(stage, &knocker.seal(&token, PLAIN)?, Family::V4)?)?;
    let second = done(told(stage, &verb(&knocker, &token, Verb::Renew)?, Family::V4)?)?;
    ensure!(second[0].0 == first[0].0 && second[0].1 >= first[0].1, "{first:?}, then {second:?}");
    ensure!(stage.metrics()?.knocks("renewed") == 1.0, "not counted as renewed");
    // With a token that may open more.
    let more = both(stage)?;
    let renewed = done(told(stage, &verb(&knocker, &more, Verb::Renew)?, Family::V4)?)?;
    ensure!(renewed.iter().map(|(name, _)| name.as_str()).eq(["web"]), "{renewed:?}");
    let names = ["db".to_owned()];
    let wish = Wish { verb: Some(Verb::Renew), services: &names, ..PLAIN };
    refused_with(Some(told(stage, &knocker.seal(&more, wish)?, Family::V4)?), "not_open")?;
    stage.expect_tcp(Member::Client, Family::V4, DB, Port::Silent)
}

fn closes(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    let (mine, theirs) = (both(stage)?, stage.key.token(&stage.claims_with(json!({ "sub": "employee:bob" })))?);
    opened(stage, &knocker.seal(&mine, PLAIN)?, Family::V4, &["db", "web"])?;
    opened(stage, &knocker.seal(&theirs, PLAIN)?, Family::V4, &["web"])?;
    let closed = done(told(stage, &verb(&knocker, &mine, Verb::Close)?, Family::V4)?)?;
    ensure!(closed == [("db".to_owned(), 0), ("web".to_owned(), 0)], "{closed:?}");
    stage.expect_tcp(Member::Client, Family::V4, DB, Port::Silent).context("nobody holds db")?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open).context("another principal holds web")?;
    // With the token that came after the one that opened.
    let next = stage.key.token(&stage.claims_with(json!({ "sub": "employee:bob" })))?;
    done(told(stage, &verb(&knocker, &next, Verb::Close)?, Family::V4)?)?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent)
}

/// Beyond the controller's thirty seconds, within the filter's three hundred.
fn skewed(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    for ahead_ms in [-94_000, 94_000, -290_000] {
        let knock = knocker.seal(&stage.token()?, Wish { ahead_ms, ..PLAIN })?;
        let reply = knock.exchange(&stage.net.client, address(Family::V4, KNOCK_PORT), NO_REPLY)?;
        if ahead_ms < 0 {
            // Dated before the start of a controller that remembers nothing: silence, and nothing opens.
            ensure!(reply.is_none(), "{reply:?}");
            continue;
        }
        let reply = reply.context("no reply")?;
        let off = reply.server_time.0 / 1_000_000;
        ensure!(off.abs_diff(clock::now().unix.0 / 1_000_000) < 10_000, "the server's time {off}");
        refused_with(Some(reply), "clock_skew")?;
        super::refused_in_silence(
            stage,
            Member::Client,
            Family::V4,
            &knock.datagram,
            super::Counted::Packet("knock_tag_seen"),
        )?;
    }
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent)
}

fn lost(stage: &mut Stage) -> Result<()> {
    let knocker = start_and_wait(stage)?;
    let token = stage.token()?;
    let first = done(told(stage, &knocker.seal(&token, PLAIN)?, Family::V4)?)?;
    let again = told(stage, &knocker.seal(&token, PLAIN)?, Family::V4)?;
    match again.outcome {
        Outcome::Done { services, repeated: true } => {
            let services: Vec<_> = services.into_iter().map(|(name, end)| (name, end.0 / 1_000_000)).collect();
            let is_same = |((a, x), (b, y)): (&(String, u64), &(String, u64))| a == b && x.abs_diff(*y) <= 5;
            ensure!(
                services.len() == first.len() && services.iter().zip(&first).all(is_same),
                "{first:?}, then {services:?}"
            );
        }
        other @ (Outcome::Done { .. } | Outcome::Refused(_)) => bail!("{other:?}"),
    }
    ensure!(stage.metrics()?.knocks("repeated") == 1.0, "not counted as repeated");
    opened(stage, &knocker.seal(&token, PLAIN)?, Family::V6, &["web"]).context("the client's other address")
}

fn refusals(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    let to = address(Family::V4, KNOCK_PORT);
    let now = clock::now().unix.secs();
    let claims = [
        (json!({ "roles": [] }), Some("not_allowed")),
        (json!({ "roles": ["commerce-listings-admin", "doge"] }), Some("not_allowed")),
        (json!({ "exp": now - 5, "iat": now - 60 }), Some("expired")),
        // Anybody may have a token of the issuer for something else.
        (json!({ "aud": "another" }), None),
        (json!({ "cnf": knocker.confirmation(Named::Key) }), None),
        (json!({ "cnf": { "kid": "x" } }), None),
    ];
    for (changes, told) in claims {
        let token = stage.key.token(&stage.claims_with(changes.clone()))?;
        let reply = knocker.seal(&token, PLAIN)?.exchange(&stage.net.client, to, NO_REPLY)?;
        match told {
            Some(code) if reply.is_some() => refused_with(reply, code).with_context(|| changes.to_string())?,
            // Silence is always allowed.
            Some("expired") | None => ensure!(reply.is_none(), "{changes}: {reply:?}"),
            Some(code) => bail!("{changes}: no reply, not {code}"),
        }
    }
    let token = bound_token(stage, &knocker, Named::Key)?;
    opened(stage, &knocker.seal(&token, PROOF)?, Family::V4, &["web"])
}
