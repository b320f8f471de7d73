//! What becomes of connections when their grant ends, is renewed or is revoked: promises P3 and P4.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    metrics::Metrics,
    network::{Family, Member},
    probe::{Port, SILENCE},
    transfer::{Echoed, Transfer},
    wait,
};
use jpat_userspace::clock::BootTime;
use libtest_mimic::Trial;
use serde_json::json;

use crate::{
    config::{Config, DB, HTTPS, UDP, db, web},
    stage::{Stage, address},
    trial,
};

/// One timer tick at 100 Hz, the coarsest kernel.
const TICK: Duration = Duration::from_millis(10);
const TTL: Duration = Duration::from_secs(2);
/// How far transfers that go on must come behind the end of their grant.
const BEYOND: Duration = Duration::from_secs(1);

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for family in Family::ALL {
        let name = |what: &str| format!("{what}_{}", family.as_str().to_lowercase());
        trials.extend([
            trial::on(
                name("p4_kept_sessions_outlive_their_grant"),
                || services("keep"),
                move |stage| kept(stage, family),
            ),
            trial::on(
                name("p3_cut_sessions_end_with_their_grant"),
                || services("cut"),
                move |stage| cut(stage, family),
            ),
            trial::on(name("p4_by_default_tcp_is_kept_and_udp_is_cut"), Config::default, move |stage| {
                default(stage, family)
            }),
            trial::on(
                name("p3_revoke_ends_kept_sessions_at_once"),
                || services("keep"),
                move |stage| revoked(stage, family),
            ),
            trial::on(
                name("p4_renewal_disturbs_no_kept_session"),
                || services("keep"),
                move |stage| renewed(stage, family),
            ),
            trial::on(
                name("p4_renewal_disturbs_no_cut_session"),
                || services("cut"),
                move |stage| renewed(stage, family),
            ),
        ]);
    }
    trials
}

fn services(sessions: &str) -> Config {
    let with = |service: String| format!("{service}sessions = \"{sessions}\"\n");
    Config { services: vec![with(web("2s")), with(db("2s"))], ..Config::default() }
}

/// A transfer of each kind, under one grant each.
struct Transfers {
    tcp: Transfer,
    udp: Transfer,
}

impl Transfers {
    /// Knocks and starts them; no grant ends before the first moment, none after the second.
    fn start(stage: &Stage, family: Family) -> Result<(Self, BootTime, BootTime)> {
        let (sent, granted) = stage.knock(Member::Client, family, &token(stage)?, "granted")?;
        let tcp = Transfer::tcp(&stage.net.client, address(family, DB))?;
        let udp = Transfer::udp(&stage.net.client, address(family, UDP))?;
        Ok((Self { tcp, udp }, sent.after(TTL), granted.after(TTL)))
    }

    fn wait_past(&self, moment: BootTime) -> Result<()> {
        self.tcp.wait_past(moment).context("TCP")?;
        self.udp.wait_past(moment).context("UDP")
    }

    fn finish(self) -> Result<[Echoed; 2]> {
        Ok([self.tcp.finish()?, self.udp.finish()?])
    }
}

fn token(stage: &Stage) -> Result<String> {
    stage.key.token(&stage.claims_with(json!({ "roles": ["commerce-listings-admin", "dba"] })))
}

fn expect_closed(stage: &Stage, family: Family) -> Result<()> {
    for port in [HTTPS, DB] {
        stage.expect_tcp(Member::Client, family, port, Port::Silent)?;
    }
    stage.expect_udp(Member::Client, family, UDP, Port::Silent)
}

fn kept(stage: &mut Stage, family: Family) -> Result<()> {
    stage.start(&[])?;
    let (transfers, _, end) = Transfers::start(stage, family)?;
    wait::until(end.after(TICK));
    expect_closed(stage, family).context("a new connection after the end")?;
    transfers.wait_past(end.after(BEYOND))?;
    for echoed in transfers.finish()? {
        ensure!(echoed.blocks > 100, "only {} blocks", echoed.blocks);
    }
    Ok(())
}

fn cut(stage: &mut Stage, family: Family) -> Result<()> {
    stage.start(&[])?;
    let (transfers, earliest, end) = Transfers::start(stage, family)?;
    wait::until(end.after(TICK));
    expect_closed(stage, family).context("a new connection after the end")?;
    for echoed in transfers.finish()? {
        expect_ran_until(echoed, earliest)?;
        let late = end.after(TICK).until(echoed.sent);
        ensure!(late.is_zero(), "a block that was sent {late:?} after the end came back");
    }
    Ok(())
}

fn default(stage: &mut Stage, family: Family) -> Result<()> {
    stage.start(&[])?;
    let (transfers, earliest, end) = Transfers::start(stage, family)?;
    wait::until(end.after(TICK));
    expect_closed(stage, family).context("a new connection after the end")?;
    transfers.tcp.wait_past(end.after(BEYOND)).context("TCP")?;
    let [_, udp] = transfers.finish()?;
    expect_ran_until(udp, earliest)?;
    let late = end.after(TICK).until(udp.sent);
    ensure!(late.is_zero(), "a datagram that was sent {late:?} after the end came back");
    Ok(())
}

/// It is a transfer that ran into the end, and not one that had stopped before.
fn expect_ran_until(echoed: Echoed, end: BootTime) -> Result<()> {
    let early = echoed.sent.until(end);
    ensure!(
        echoed.blocks > 100 && early < Duration::from_millis(500),
        "it stopped {early:?} before the end: {echoed:?}"
    );
    Ok(())
}

fn revoked(stage: &mut Stage, family: Family) -> Result<()> {
    stage.start(&[])?;
    let source = Member::Client.address(family).to_string();
    let ways = [
        &["grants", "revoke", "--source", &source][..],
        &["grants", "revoke", "--principal", "corp:employee:alice"],
        &["grants", "flush"],
    ];
    for way in ways {
        for is_ended in [false, true] {
            let (transfers, _, end) = Transfers::start(stage, family)?;
            let past = if is_ended { end.after(TICK) } else { BootTime::default() };
            transfers.wait_past(past).with_context(|| format!("{way:?}: before"))?;
            stage.admin_ok(way)?;
            let revoked = wait::now();
            wait::until(revoked.after(SILENCE));
            for echoed in transfers.finish()? {
                let late = revoked.until(echoed.sent);
                ensure!(late.is_zero(), "{way:?}, grant ended {is_ended}: it went on for {late:?}");
            }
            expect_closed(stage, family).with_context(|| format!("{way:?}"))?;
        }
    }
    Ok(())
}

fn renewed(stage: &mut Stage, family: Family) -> Result<()> {
    stage.start(&[])?;
    let token = token(stage)?;
    let (granted, _) = stage.knock(Member::Client, family, &token, "granted")?;
    let tcp = Transfer::tcp(&stage.net.client, address(family, DB))?;
    let udp = Transfer::udp(&stage.net.client, address(family, UDP))?;
    let transfers = Transfers { tcp, udp };
    let before = stage.metrics()?;
    let (mut next, mut renewals) = (granted, 0);
    while next < granted.after(TTL * 2) {
        next = next.after(TTL / 8);
        wait::until(next);
        stage.knock(Member::Client, family, &token, "renewed")?;
        renewals += 1;
    }
    transfers.wait_past(granted.after(TTL * 2))?;
    let echoed = transfers.finish()?;
    let after = stage.metrics()?;
    for service in ["web", "db"] {
        let dropped =
            |metrics: &Metrics| metrics.sum("jpat_packets_total", &[("service", service), ("verdict", "drop")]);
        let dropped = dropped(&after) - dropped(&before);
        let counted = after.changes(&before, "jpat_packets_total");
        ensure!(
            dropped == 0.0,
            "{dropped} of {service}'s packets were dropped in {renewals} renewals: {counted} {echoed:?}"
        );
    }
    Ok(())
}
