//! A captured knock with anything about it changed: by a stranger, whose tag is wrong then, and by an insider, who can
//! make the tag right again.

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    capture::Capture,
    metrics::Metrics,
    network::{Family, Member},
    probe::{self, Port},
    wait::{self, PATIENCE},
};
use libtest_mimic::Trial;

use super::{Counted, NO_REPLY, PLAIN, TAKEN, config, opened, refused_in_silence, start};
use crate::{
    config::{HTTPS, KNOCK_PORT},
    stage::{Stage, address},
    trial,
};

pub(super) fn trials() -> Vec<Trial> {
    let bound = || config("replay = \"bind-source\"");
    vec![
        trial::on("p6_no_byte_of_a_knock_can_be_changed_by_a_stranger", bound, by_stranger),
        trial::on("p6_no_byte_of_a_knock_can_be_changed_by_an_insider", bound, by_insider),
        trial::on("p6_no_knock_can_be_cut_or_prolonged", bound, lengths),
        trial::on("p6_a_strict_issuer_wants_the_address_inside", || config("source_binding = \"strict\""), strict),
    ]
}

/// Sends them all from the stranger, while the knock itself is unused, and waits until each is counted as dropped or refused.
fn all_refused(stage: &Stage, datagrams: &[Vec<u8>]) -> Result<Metrics> {
    let before = stage.metrics()?;
    let stranger = &stage.net.stranger;
    let capture = Capture::start(stranger)?;
    for datagram in datagrams {
        probe::send(stranger, address(Family::V4, KNOCK_PORT), datagram)?;
    }
    let mut after = before.clone();
    wait::for_true(&format!("{} datagrams to be judged", datagrams.len()), PATIENCE, || {
        after = stage.metrics()?;
        // What was queued is counted a second time by its refusal.
        let dropped = knock_drops(&after) - knock_drops(&before);
        let queued = after.packets("knock_queued") - before.packets("knock_queued");
        let refused = refusals(&after) - refusals(&before);
        Ok(dropped >= count(datagrams) && refused >= queued)
    })
    .with_context(|| {
        format!("{} {}", after.changes(&before, "jpat_packets_total"), after.changes(&before, "jpat_knocks_total"))
    })?;
    for result in TAKEN {
        ensure!(after.knocks(result) == before.knocks(result), "one is {result}");
    }
    capture.expect_silence(stranger, &Family::ALL)?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    Ok(after)
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn count(datagrams: &[Vec<u8>]) -> f64 {
    datagrams.len() as f64
}

/// Everything for the knock port that the program has counted.
fn knock_drops(metrics: &Metrics) -> f64 {
    let reasons = jpat_common::reason::DropReason::ALL.iter().filter(|reason| reason.is_knock());
    reasons.map(|reason| metrics.packets(reason.as_str())).sum()
}

fn refusals(metrics: &Metrics) -> f64 {
    jpat_userspace::refusal::Refusal::ALL.iter().map(|refusal| metrics.knocks(refusal.code())).sum()
}

/// The datagram with one bit of each byte changed, and with each byte replaced.
fn altered(datagram: &[u8]) -> Vec<Vec<u8>> {
    let change = |at: usize, by: u8| {
        let mut changed = datagram.to_owned();
        changed[at] ^= by;
        changed
    };
    (0..datagram.len()).flat_map(|at| [change(at, 1 << (at % 8)), change(at, 0xff)]).collect()
}

#[expect(clippy::print_stdout, reason = "how many there were is what is quoted")]
fn by_stranger(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    let knock = knocker.seal(&stage.token()?, PLAIN)?;
    let datagrams = altered(&knock.datagram);
    let before = stage.metrics()?;
    let after = all_refused(stage, &datagrams)?;
    ensure!(after.packets("knock_queued") == before.packets("knock_queued"), "one has reached the controller");
    println!("{} changed datagrams of {} bytes: none reached the controller", datagrams.len(), knock.datagram.len());
    opened(stage, &knock, Family::V4, &["web"]).context("the knock itself")
}

/// The tag is made right: what is left is the work of HPKE and of the inner message.
#[expect(clippy::print_stdout, reason = "how many there were is what is quoted")]
fn by_insider(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    let knock = knocker.seal(&stage.token()?, PLAIN)?;
    let mut datagrams = altered(&knock.datagram);
    for datagram in &mut datagrams {
        knocker.tag(datagram);
    }
    // A change of the tag alone is undone by that.
    datagrams.retain(|datagram| *datagram != knock.datagram);
    let before = stage.metrics()?;
    let mut after = before.clone();
    // No more at a time than the group's budget and the queue take.
    for some in datagrams.chunks(200) {
        after = all_refused(stage, some)?;
    }
    let reached = after.packets("knock_queued") - before.packets("knock_queued");
    ensure!(reached > count(&datagrams) / 2.0, "only {reached} have reached the controller");
    println!("{} changed datagrams with a right tag: {reached} reached the controller, none opened", datagrams.len());
    opened(stage, &knock, Family::V4, &["web"]).context("the knock itself")
}

fn lengths(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    let knock = knocker.seal(&stage.token()?, PLAIN)?;
    let cut = (1..knock.datagram.len()).map(|length| knock.datagram[..length].to_owned());
    let prolonged = (1..=64).map(|more| [knock.datagram.as_slice(), &vec![0; more]].concat());
    let datagrams: Vec<_> = cut.chain(prolonged).collect();
    all_refused(stage, &datagrams)?;
    let mut tagged: Vec<_> =
        datagrams.into_iter().filter(|datagram| datagram.len() >= 128 && datagram.len().is_multiple_of(8)).collect();
    for datagram in &mut tagged {
        knocker.tag(datagram);
    }
    let before = stage.metrics()?;
    let after = all_refused(stage, &tagged)?;
    ensure!(after.knocks("cannot_open") - before.knocks("cannot_open") >= count(&tagged), "refused otherwise");
    opened(stage, &knock, Family::V4, &["web"]).context("the knock itself")
}

fn strict(stage: &mut Stage) -> Result<()> {
    let knocker = start(stage)?;
    let client = Member::Client.address(Family::V4);
    let silent = knocker.seal(&stage.token()?, PLAIN)?;
    let reply = silent.exchange(&stage.net.client, address(Family::V4, KNOCK_PORT), NO_REPLY)?;
    super::thief::refused_with(reply, "no_address")?;
    let named = |address| super::Wish { address: Some(address), ..PLAIN };
    let stolen = knocker.seal(&stage.token()?, named(client))?;
    refused_in_silence(stage, Member::Stranger, Family::V4, &stolen.datagram, Counted::Knock("wrong_address"))?;
    opened(stage, &knocker.seal(&stage.token()?, named(client))?, Family::V4, &["web"])?;
    let v6 = Member::Client.address(Family::V6);
    opened(stage, &knocker.seal(&stage.token()?, named(v6))?, Family::V6, &["web"])
}
