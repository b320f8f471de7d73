//! Sealed knocks against the real controller: promise P6 with what a thief has, and what those who authenticate are told.

mod altered;
mod answers;
mod python;
mod rotation;
mod thief;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    capture::Capture,
    knocker::{Knocker, Named, Sealed, Wish},
    network::{Family, Member},
    probe,
    wait::{self, PATIENCE},
};
use jpat_userspace::knock::{
    proof::Kind,
    reply::{Outcome, Reply},
};
use libtest_mimic::Trial;
use serde_json::json;

use crate::{
    config::{AUDIENCE, Config, ISSUER, KNOCK_PORT, db, web},
    stage::{Stage, address},
};

pub(crate) fn trials() -> Vec<Trial> {
    [thief::trials(), altered::trials(), answers::trials(), rotation::trials(), python::trials()]
        .into_iter()
        .flatten()
        .collect()
}

/// Longer than any knock takes on a busy machine; shorter than a trial.
const NO_REPLY: Duration = Duration::from_millis(1500);

const SERVER: &str = "web-1.example";

/// What an issuer's tokens must come in, beside what all have.
pub(crate) fn config(issuer: &str) -> Config {
    config_with(issuer, "")
}

fn config_with(issuer: &str, rest: &str) -> Config {
    let keys = "keys = { jwks_file = \"jwks.json\" }";
    Config {
        issuers: format!(
            "[[issuer]]\nname = \"corp\"\nissuer = \"{ISSUER}\"\naudience = [\"{AUDIENCE}\"]\nalgorithms = [\"ES256\"]\n\
             {keys}\naccept = [\"sealed\"]\n{issuer}\n"
        ),
        services: vec![web("60s"), db("60s")],
        rest: format!(
            "[server]\nid = \"{SERVER}\"\nkeys = [\"server.key\"]\n\
             [[knock_key]]\nid = 1\ngroup = \"staff\"\nfile = \"knock-1.key\"\n{rest}"
        ),
        ..Config::default()
    }
}

/// A started controller, and a client of it.
fn start(stage: &mut Stage) -> Result<Knocker> {
    let knocker = Knocker::new(SERVER, Kind::Ed25519)?;
    knocker.write_keys(stage.dir.path())?;
    stage.start(&[])?;
    Ok(knocker)
}

/// A token that is bound to the client's key.
fn bound_token(stage: &Stage, knocker: &Knocker, named: Named) -> Result<String> {
    stage.key.token(&stage.claims_with(json!({ "cnf": knocker.confirmation(named) })))
}

/// Sends a knock from the client and returns what it is told.
fn told(stage: &Stage, sealed: &Sealed, family: Family) -> Result<Reply> {
    let reply = sealed.exchange(&stage.net.client, address(family, KNOCK_PORT), PATIENCE)?;
    reply.with_context(|| format!("no reply over {family:?}"))
}

/// Requires that a knock opened these services.
fn opened(stage: &Stage, sealed: &Sealed, family: Family, names: &[&str]) -> Result<()> {
    match told(stage, sealed, family)?.outcome {
        Outcome::Done { services, .. } => {
            let found: Vec<_> = services.iter().map(|(name, _)| name.as_str()).collect();
            ensure!(found == names, "opened were {found:?}, not {names:?}");
            Ok(())
        }
        Outcome::Refused(code) => anyhow::bail!("refused: {code}"),
    }
}

/// Sends a datagram again and again and requires that it is counted as `reason`, that nobody is answered, and that nothing
/// is granted.
fn refused_in_silence(stage: &Stage, from: Member, family: Family, datagram: &[u8], reason: Counted<'_>) -> Result<()> {
    let before = stage.metrics()?;
    let ns = stage.net.of(from);
    let capture = Capture::start(ns)?;
    probe::send(ns, address(family, KNOCK_PORT), datagram)?;
    let count = |metrics: &jpat_tests::metrics::Metrics| match reason {
        Counted::Packet(reason) => metrics.packets(reason),
        Counted::Knock(code) => metrics.knocks(code),
    };
    let mut after = before.clone();
    wait::for_true(&format!("a datagram to be counted as {reason:?}"), PATIENCE, || {
        after = stage.metrics()?;
        Ok(count(&after) > count(&before))
    })
    .with_context(|| {
        let packets = after.changes(&before, "jpat_packets_total");
        format!("counted were: {} {packets}", after.changes(&before, "jpat_knocks_total"))
    })?;
    for result in TAKEN {
        ensure!(after.knocks(result) == before.knocks(result), "one more is {result}");
    }
    capture.expect_silence(ns, &Family::ALL)
}

/// Results of knocks that did something.
const TAKEN: [&str; 4] = ["granted", "renewed", "repeated", "closed"];

/// Where a refusal is counted.
#[derive(Clone, Copy, Debug)]
enum Counted<'a> {
    /// By the program.
    Packet(&'a str),
    /// By the controller.
    Knock(&'a str),
}

/// A knock with the client's proof.
const PROOF: Wish<'_> = Wish { verb: None, services: &[], address: None, proof: Some(Named::Key), ahead_ms: 0 };

/// A knock without anything.
const PLAIN: Wish<'_> = Wish { proof: None, ..PROOF };

/// For tokens that may be used once: none is good that was signed in the start's own second.
const ONCE: &str = "replay = \"once\"\nleeway = \"0s\"";

/// As [`start`], and waits until a new token is dated after it.
fn start_and_wait(stage: &mut Stage) -> Result<Knocker> {
    let knocker = start(stage)?;
    let started = jpat_userspace::clock::now().unix.secs();
    wait::for_true("the next second", PATIENCE, || Ok(jpat_userspace::clock::now().unix.secs() > started))?;
    Ok(knocker)
}
