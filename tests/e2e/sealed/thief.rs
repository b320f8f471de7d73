//! Promise P6: what somebody can do with a knock that was captured on its way.

use std::fs;

use anyhow::{Context, Result};
use jpat_tests::{
    guest,
    knocker::{Knocker, Named, Wish},
    network::{Family, Member},
    probe::{self, Port},
    wait::{self, PATIENCE},
};
use jpat_userspace::knock::{proof::Kind, reply::Outcome};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use super::{
    Counted, NO_REPLY, ONCE, PLAIN, PROOF, bound_token, config, opened, refused_in_silence, start, start_and_wait,
};
use crate::{
    config::{Config, HTTPS, KNOCK_PORT},
    stage::{Stage, address},
    trial,
};

pub(super) fn trials() -> Vec<Trial> {
    let once = || config(ONCE);
    let bound = || config("replay = \"bind-source\"");
    let proof = || config("replay = \"proof\"");
    let mut trials = vec![
        trial::on("p6_a_captured_knock_is_dropped_at_once_later_and_from_elsewhere", bound, again),
        trial::on("p6_a_captured_knock_is_refused_after_restarts", bound, after_restarts),
        trial::on("p6_a_captured_knock_is_refused_where_the_program_has_forgotten_it", bound, after_detach),
        trial::on("p6_a_captured_knock_is_refused_without_the_store", bound, without_store),
        trial::on("p6_a_captured_knock_is_refused_without_any_state", bound, without_state),
        trial::on("p6_a_captured_knock_is_worth_nothing_at_another_server", proof, another_server),
        trial::on("p6_a_token_once_used_opens_nothing_for_somebody_else", once, used_once),
        trial::on("p6_a_proof_cannot_be_made_without_the_key", proof, stolen_token),
        trial::on("p6_a_bare_knock_from_another_address_is_refused", Config::default, bare_elsewhere),
    ];
    trials.push(trial::in_guest("p6_a_captured_knock_is_refused_after_clock_steps", bound, after_clock_steps));
    trials
}

fn again(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    for family in Family::ALL {
        let knock = knocker.seal(&stage.token()?, PLAIN)?;
        opened(stage, &knock, family, &["web"])?;
        for from in [Member::Client, Member::Stranger] {
            for _ in 0..3 {
                refused_in_silence(stage, from, family, &knock.datagram, Counted::Packet("knock_tag_seen"))?;
            }
        }
        stage.expect_tcp(Member::Stranger, family, HTTPS, Port::Silent)?;
    }
    Ok(())
}

fn after_restarts(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    let knock = knocker.seal(&stage.token()?, PLAIN)?;
    opened(stage, &knock, Family::V4, &["web"])?;
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        stage.end(signal)?;
        stage.start(&[])?;
        for from in [Member::Client, Member::Stranger] {
            refused_in_silence(stage, from, Family::V4, &knock.datagram, Counted::Packet("knock_tag_seen"))?;
        }
    }
    Ok(())
}

/// The tags go with the pins; the store knows the nonce.
fn after_detach(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    let knock = knocker.seal(&stage.token()?, PLAIN)?;
    opened(stage, &knock, Family::V4, &["web"])?;
    stage.end(Signal::SIGKILL)?;
    detach(stage)?;
    stage.start(&[])?;
    refused_in_silence(stage, Member::Client, Family::V4, &knock.datagram, Counted::Knock("knock_replayed"))?;
    for from in [Member::Client, Member::Stranger] {
        refused_in_silence(stage, from, Family::V4, &knock.datagram, Counted::Packet("knock_tag_seen"))?;
    }
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent)
}

fn without_store(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    let used = knocker.seal(&stage.token()?, PLAIN)?;
    opened(stage, &used, Family::V4, &["web"])?;
    let held_back = knocker.seal(&stage.token()?, PLAIN)?;
    // By the clock of a client that is ahead this one was sent after the restart.
    let ahead = knocker.seal(&stage.token()?, Wish { ahead_ms: 25_000, ..PLAIN })?;
    opened(stage, &ahead, Family::V4, &["web"])?;
    stage.end(Signal::SIGKILL)?;
    detach(stage)?;
    fs::remove_dir_all(stage.path("state/replay"))?;
    fs::remove_file(stage.path("state/replay.json"))?;
    stage.start(&[])?;
    for knock in [&used, &held_back, &ahead] {
        refused_in_silence(stage, Member::Client, Family::V4, &knock.datagram, Counted::Knock("before_start"))?;
    }
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent)
}

/// Nothing of the state is left. What a client's clock that is ahead dated after the new start is a known limit.
fn without_state(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    let used = knocker.seal(&stage.token()?, PLAIN)?;
    opened(stage, &used, Family::V4, &["web"])?;
    stage.end(Signal::SIGKILL)?;
    detach(stage)?;
    fs::remove_dir_all(stage.path("state"))?;
    stage.start(&[])?;
    refused_in_silence(stage, Member::Client, Family::V4, &used.datagram, Counted::Knock("before_start"))?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent)?;
    opened(stage, &knocker.seal(&stage.token()?, PLAIN)?, Family::V4, &["web"]).context("a fresh one")
}

/// Another id, another key, and both: nothing of a knock can be used there.
fn another_server(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    let token = bound_token(stage, &knocker, Named::Key)?;
    let other = Knocker::new("web-2.example", Kind::Ed25519)?;
    let elsewhere = other.seal_to(&other.target(), &token, PLAIN)?;
    refused_in_silence(stage, Member::Client, Family::V4, &elsewhere.datagram, Counted::Packet("knock_bad_tag"))?;
    // With this host's knock key, as its insiders can.
    let mut tagged = elsewhere.datagram;
    knocker.tag(&mut tagged);
    refused_in_silence(stage, Member::Client, Family::V4, &tagged, Counted::Knock("unknown_server_key"))?;
    // The same server key under another id, as two hosts with one key file have it.
    let mut renamed = knocker.seal_to(&knocker.towards(&other), &token, PROOF)?.datagram;
    refused_in_silence(stage, Member::Client, Family::V4, &renamed, Counted::Packet("knock_bad_tag"))?;
    knocker.tag(&mut renamed);
    refused_in_silence(stage, Member::Client, Family::V4, &renamed, Counted::Knock("cannot_open"))?;
    opened(stage, &knocker.seal(&token, PROOF)?, Family::V4, &["web"])
}

fn used_once(stage: &mut Stage) -> Result<()> {
    let knocker = start_and_wait(stage)?;
    let token = stage.token()?;
    opened(stage, &knocker.seal(&token, PLAIN)?, Family::V4, &["web"])?;
    // The thief has the token and the knock key, and seals it anew.
    let stolen = knocker.seal(&token, PLAIN)?;
    let reply = stolen.exchange(&stage.net.stranger, address(Family::V4, KNOCK_PORT), NO_REPLY)?;
    refused_with(reply, "replayed")?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)
}

fn stolen_token(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    let token = bound_token(stage, &knocker, Named::Key)?;
    opened(stage, &knocker.seal(&token, PROOF)?, Family::V4, &["web"])?;
    let without = knocker.seal(&token, PLAIN)?;
    let reply = without.exchange(&stage.net.stranger, address(Family::V4, KNOCK_PORT), NO_REPLY)?;
    anyhow::ensure!(reply.is_none(), "a reply to a token without its proof: {reply:?}");
    let thief = Knocker::new(super::SERVER, Kind::Ed25519)?;
    let forged = thief.seal_to(&knocker.target(), &token, Wish { proof: Some(Named::Key), ..PROOF })?;
    refused_in_silence(stage, Member::Stranger, Family::V4, &forged.datagram, Counted::Knock("bad_proof"))?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)
}

fn bare_elsewhere(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let token = stage.token()?;
    stage.knock(Member::Client, Family::V4, &token, "granted")?;
    let refused = Counted::Knock("other_source");
    refused_in_silence(stage, Member::Stranger, Family::V4, token.as_bytes(), refused)?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)
}

/// Set back so that the knock is dated now again, and forward again.
fn after_clock_steps(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    let mut seen = Vec::new();
    for step in [-200i64, 200, 3600, -3600, -250] {
        // The filter hears of the last step within a second.
        wait::for_true(&format!("a knock to be taken before a step of {step} s"), PATIENCE, || {
            let knock = knocker.seal(&stage.token()?, PLAIN)?;
            let reply = knock.exchange(&stage.net.client, address(Family::V4, KNOCK_PORT), NO_REPLY)?;
            let is_taken = reply.is_some_and(|reply| matches!(reply.outcome, Outcome::Done { .. }));
            seen.push(knock);
            Ok(is_taken)
        })?;
        let _put_back = guest::SteppedClock::by(step)?;
        stage.admin_ok(&["grants", "flush"])?;
        for knock in &seen {
            let before = stage.metrics()?;
            probe::send(&stage.net.stranger, address(Family::V4, KNOCK_PORT), &knock.datagram)?;
            stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
            let after = stage.metrics()?;
            for result in super::TAKEN {
                anyhow::ensure!(after.knocks(result) == before.knocks(result), "{result} after a step of {step} s");
            }
        }
    }
    Ok(())
}

pub(super) fn refused_with(reply: Option<jpat_userspace::knock::reply::Reply>, code: &str) -> Result<()> {
    match reply.context("no reply")?.outcome {
        Outcome::Refused(found) if found == code => Ok(()),
        other @ (Outcome::Done { .. } | Outcome::Refused(_)) => anyhow::bail!("{other:?}, not {code}"),
    }
}

fn detach(stage: &Stage) -> Result<()> {
    let ended = jpat_tests::process::Process::run(&stage.net.host, "jpatd detach", stage.jpatd("detach")?)?;
    anyhow::ensure!(ended.status.success(), "jpatd detach: {}", ended.output);
    Ok(())
}
