//! Who gets through, and until when: promises P2 and P3.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    capture::{Capture, FENCE_PORT},
    network::{Family, Member},
    probe::{self, Port},
    wait,
};
use jpat_userspace::clock;
use libtest_mimic::Trial;
use serde_json::json;

use crate::{
    config::{Config, DB, FREE, HTTPS, UDP, db, web},
    stage::{Stage, address},
    trial,
};

/// One timer tick at 100 Hz, the coarsest kernel.
const TICK: Duration = Duration::from_millis(10);

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for family in Family::ALL {
        let name = |what: &str| format!("{what}_{}", family.as_str().to_lowercase());
        trials.extend([
            trial::on(name("p1_a_closed_port_answers_nothing"), Config::default, move |stage| silent(stage, family)),
            trial::on(name("p2_only_the_knocker_gets_in"), Config::default, move |stage| only_knocker(stage, family)),
            trial::on(name("p2_a_token_for_one_service_opens_no_other"), Config::default, move |stage| {
                only_its_service(stage, family)
            }),
            trial::on(name("p2_fragments_reach_no_protected_port_and_harm_no_other"), Config::default, move |stage| {
                fragments(stage, family)
            }),
            trial::on(name("p3_a_grant_ends_after_its_ttl"), cutting, move |stage| ends_after_ttl(stage, family)),
            trial::on(name("p3_a_grant_ends_at_the_tokens_exp"), long_ttl, move |stage| ends_at_exp(stage, family)),
        ]);
    }
    trials.push(trial::on("p3_a_renewed_grant_lasts_from_the_second_knock", Config::default, renewal));
    trials.push(trial::on("p3_revoke_ends_a_standing_connection", long_ttl, revoked));
    trials
}

fn long_ttl() -> Config {
    Config { services: vec![web("60s"), db("60s")], ..Config::default() }
}

fn cutting() -> Config {
    let cut = |service: String| service + "sessions = \"cut\"\n";
    Config { services: vec![cut(web("2s")), cut(db("2s"))], ..Config::default() }
}

fn silent(stage: &mut Stage, family: Family) -> Result<()> {
    stage.start(&[])?;
    let before = stage.metrics()?;
    let capture = Capture::start(&stage.net.stranger)?;
    for port in [HTTPS, DB] {
        stage.expect_tcp(Member::Stranger, family, port, Port::Silent)?;
    }
    stage.expect_udp(Member::Stranger, family, UDP, Port::Silent)?;
    capture.expect_silence(&stage.net.stranger, &[family])?;
    stage.expect_tcp(Member::Stranger, family, FREE, Port::Open)?;
    let dropped = stage.metrics()?.packets("no_grant") - before.packets("no_grant");
    ensure!(dropped >= 3.0, "three packets were dropped, {dropped} were counted");
    Ok(())
}

fn only_knocker(stage: &mut Stage, family: Family) -> Result<()> {
    stage.start(&[])?;
    let web = address(family, HTTPS);
    stage.expect_tcp(Member::Client, family, HTTPS, Port::Silent)?;
    stage.expect_udp(Member::Client, family, UDP, Port::Silent)?;
    stage.knock(Member::Client, family, &stage.token()?, "granted")?;
    let page = probe::https_get(&stage.net.client, web)?.context("no answer after the knock")?;
    ensure!(page.contains(&Member::Client.address(family).to_string()), "{page}");
    stage.expect_udp(Member::Client, family, UDP, Port::Open)?;
    // The other family is another source, and the stranger has none.
    for other in Family::ALL {
        stage.expect_tcp(Member::Stranger, other, HTTPS, Port::Silent)?;
        if other != family {
            stage.expect_tcp(Member::Client, other, HTTPS, Port::Silent)?;
        }
    }
    Ok(())
}

fn only_its_service(stage: &mut Stage, family: Family) -> Result<()> {
    stage.start(&[])?;
    stage.knock(Member::Client, family, &stage.token()?, "granted")?;
    stage.expect_tcp(Member::Client, family, HTTPS, Port::Open)?;
    stage.expect_tcp(Member::Client, family, DB, Port::Silent)?;
    let dba = stage.key.token(&stage.claims_with(json!({ "sub": "employee:bob", "roles": ["dba"] })))?;
    stage.knock(Member::Stranger, family, &dba, "granted")?;
    stage.expect_tcp(Member::Stranger, family, DB, Port::Open)?;
    stage.expect_tcp(Member::Stranger, family, HTTPS, Port::Silent)
}

fn fragments(stage: &mut Stage, family: Family) -> Result<()> {
    const SIZE: usize = 4_000;
    stage.start(&[])?;
    let stranger = &stage.net.stranger;
    let before = stage.metrics()?;
    let capture = Capture::start(stranger)?;
    let protected = probe::udp_of(stranger, address(family, UDP), SIZE)?;
    ensure!(protected == Port::Silent, "fragments to a protected port: {protected:?}");
    // A knock in fragments is none.
    let token = stage.token()?;
    stage.send(Member::Stranger, family, &[token.as_bytes(), &[b'.'; SIZE]].concat())?;
    capture.expect_silence(stranger, &[family])?;
    let after = stage.metrics()?;
    for reason in ["first_fragment", "knock_fragmented"] {
        let dropped = after.packets(reason) - before.packets(reason);
        ensure!(dropped == 1.0, "one first fragment was sent to each port, {dropped} counted as {reason}");
    }
    let free = probe::udp_of(stranger, address(family, FENCE_PORT), SIZE)?;
    ensure!(free == Port::Open, "fragments to an unprotected port: {free:?}");
    Ok(())
}

fn ends_after_ttl(stage: &mut Stage, family: Family) -> Result<()> {
    let ttl = Duration::from_secs(2);
    stage.start(&[])?;
    let (sent, granted) = stage.knock(Member::Client, family, &both_roles(stage)?, "granted")?;
    let mut standing = probe::connect(&stage.net.client, address(family, DB))?;
    wait::until(sent.after(ttl - Duration::from_millis(300)));
    stage.expect_tcp(Member::Client, family, HTTPS, Port::Open).context("before the end")?;
    ensure!(probe::echo(&mut standing, Duration::from_millis(200))?, "the standing connection before the end");
    wait::until(granted.after(ttl + TICK));
    stage.expect_tcp(Member::Client, family, HTTPS, Port::Silent).context("after the end")?;
    stage.expect_udp(Member::Client, family, UDP, Port::Silent).context("after the end")?;
    // Here connections end with their grant.
    let standing = probe::echo(&mut standing, Duration::from_millis(300))?;
    ensure!(!standing, "the standing connection goes on after the end of its grant");
    // The controller sweeps what has ended, and then there is no grant.
    let metrics = stage.metrics()?;
    let dropped = metrics.packets("grant_ended") + metrics.packets("no_grant");
    ensure!(dropped >= 3.0, "three packets came after the end, {dropped} were counted");
    Ok(())
}

fn both_roles(stage: &Stage) -> Result<String> {
    stage.key.token(&stage.claims_with(json!({ "roles": ["commerce-listings-admin", "dba"] })))
}

fn ends_at_exp(stage: &mut Stage, family: Family) -> Result<()> {
    stage.start(&[])?;
    let now = clock::now();
    let exp = now.unix.secs() + 3;
    let end = now.boot_at(clock::UnixTime::from_secs(exp));
    let token = stage.key.token(&stage.claims_with(json!({ "exp": exp })))?;
    stage.knock(Member::Client, family, &token, "granted")?;
    wait::until(clock::BootTime(end.0.saturating_sub(300_000_000)));
    stage.expect_tcp(Member::Client, family, HTTPS, Port::Open).context("before exp")?;
    wait::until(end.after(TICK));
    stage.expect_tcp(Member::Client, family, HTTPS, Port::Silent).context("after exp")
}

fn renewal(stage: &mut Stage) -> Result<()> {
    let ttl = Duration::from_secs(2);
    stage.start(&[])?;
    let token = stage.token()?;
    let (first, _) = stage.knock(Member::Client, Family::V4, &token, "granted")?;
    wait::until(first.after(ttl / 2));
    let (_, second) = stage.knock(Member::Client, Family::V4, &token, "renewed")?;
    wait::until(first.after(ttl + Duration::from_millis(500)));
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open).context("after the first end")?;
    wait::until(second.after(ttl + TICK));
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent).context("after the second end")
}

fn revoked(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let source = Member::Client.address(Family::V4).to_string();
    let ways = [
        &["grants", "flush"][..],
        &["grants", "revoke", "--principal", "corp:employee:alice"],
        &["grants", "revoke", "--source", &source],
        &["grants", "revoke", "--service", "db"],
    ];
    for way in ways {
        stage.knock(Member::Client, Family::V4, &both_roles(stage)?, "granted")?;
        let mut standing = probe::connect(&stage.net.client, address(Family::V4, DB))?;
        ensure!(probe::echo(&mut standing, Duration::from_millis(200))?, "{way:?}: before");
        stage.admin_ok(way)?;
        ensure!(!probe::echo(&mut standing, Duration::from_millis(300))?, "{way:?}: the connection goes on");
        stage.expect_tcp(Member::Client, Family::V4, DB, Port::Silent).with_context(|| format!("{way:?}"))?;
    }
    // The last took back one service of two.
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)
}
