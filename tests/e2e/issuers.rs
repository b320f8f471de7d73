//! Where keys come from: files, JWKS over HTTP, discovery, an issuer that is down at start.

use std::process::Command;

use anyhow::{Result, ensure};
use jpat_tests::{
    binaries, forge,
    network::{Family, Member},
    probe::Port,
    process::{self, Process},
    services::{Documents, Service, Services},
    wait,
};
use libtest_mimic::Trial;
use serde_json::json;

use crate::{
    stage::{AUDIENCE, Config, HTTPS, IDP, Stage, issuer, issuer_named, web},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::on("p4_keys_come_from_a_jwks_url_and_serve_through_an_outage", from_url, jwks_url),
        trial::on("keys_come_from_discovery_at_jpats_own_issuer", from_discovery, own_issuer),
        trial::on("keys_of_every_algorithm_are_taken", every_algorithm, algorithms),
        trial::on("p4_an_issuer_that_is_down_at_start_opens_nothing_and_comes_back", from_discovery, down_at_start),
    ]
}

fn idp_url() -> String {
    format!("http://127.0.0.1:{IDP}")
}

fn from_url() -> Config {
    Config { issuers: issuer(&format!("keys = {{ jwks_url = \"{}/keys\" }}", idp_url())), ..Config::default() }
}

fn from_discovery() -> Config {
    Config { issuers: issuer_named("corp", &idp_url(), &["ES256"], "keys = { discovery = true }"), ..Config::default() }
}

fn serve(stage: &Stage, keys: &[&forge::Key]) -> Result<Services> {
    let documents = Documents::default();
    let (url, set) = (idp_url(), forge::jwks(keys)?.to_string());
    let metadata = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") });
    documents.put("/.well-known/openid-configuration", metadata.to_string());
    documents.put("/keys", set);
    Services::start(&stage.net.host, vec![Service::Http(IDP, documents)])
}

/// Knocks until the controller has the issuer's keys, which it fetches in the background.
fn opens(stage: &Stage, token: &str) -> Result<()> {
    let before = stage.metrics()?.knocks("granted");
    wait::for_true("a knock to be granted", wait::PATIENCE, || {
        stage.send(Member::Client, Family::V4, token.as_bytes())?;
        Ok(stage.metrics()?.knocks("granted") > before)
    })?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)
}

fn jwks_url(stage: &mut Stage) -> Result<()> {
    let idp = serve(stage, &[&stage.key])?;
    stage.start(&[])?;
    opens(stage, &stage.token()?)?;
    // The keys serve through an outage.
    drop(idp);
    stage.admin_ok(&["grants", "flush"])?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent)?;
    opens(stage, &stage.token()?)
}

fn own_issuer(stage: &mut Stage) -> Result<()> {
    let (keys, url) = (stage.path("issuer"), idp_url());
    let jpat = |arguments: &[&str]| -> Result<Command> {
        let mut command = Command::new(binaries::jpat()?);
        command.arg("issuer").args(arguments).arg("--dir").arg(&keys);
        Ok(command)
    };
    process::stdout_of(jpat(&["keys", "generate", "--alg", "ES256"])?)?;
    let listen = format!("127.0.0.1:{IDP}");
    let _issuer = Process::start(&stage.net.host, "issuer", jpat(&["serve", "--listen", &listen, "--issuer", &url])?)?;
    stage.start(&[])?;
    let (employee, role) = (["--subject", "employee:alice"], ["--role", "commerce-listings-admin"]);
    let common = ["sign", "--issuer", &url, "--audience", AUDIENCE, "--ttl", "5m"];
    let good = process::stdout_of(jpat(&[&common[..], &employee, &role].concat())?)?;
    opens(stage, good.trim())?;
    let doge = process::stdout_of(jpat(&[&common[..], &employee, &role, &["--role", "doge"]].concat())?)?;
    stage.knock(Member::Stranger, Family::V4, doge.trim(), "not_allowed")?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)
}

const THREE: [&str; 3] = ["ES256", "EdDSA", "RS256"];

fn every_algorithm() -> Config {
    let issuers = issuer_named("corp", crate::stage::ISSUER, &THREE, "keys = { jwks_file = \"jwks.json\" }");
    Config { issuers, services: vec![web("60s")], ..Config::default() }
}

fn algorithms(stage: &mut Stage) -> Result<()> {
    let keys = [forge::Key::es256("a")?, forge::Key::eddsa("b")?, forge::Key::rs256("c")?];
    let set = forge::jwks(&keys.iter().collect::<Vec<_>>())?;
    std::fs::write(stage.path("jwks.json"), set.to_string())?;
    stage.start(&[])?;
    for key in keys {
        ensure!(THREE.contains(&key.alg()));
        stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent)?;
        stage.knock(Member::Client, Family::V4, &key.token(&stage.claims())?, "granted")?;
        stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)?;
        stage.admin_ok(&["grants", "flush"])?;
    }
    Ok(())
}

fn down_at_start(stage: &mut Stage) -> Result<()> {
    stage.start_unready()?;
    let token = stage.key.token(&stage.claims_with(json!({ "iss": idp_url() })))?;
    stage.knock(Member::Client, Family::V4, &token, "no_keys")?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent)?;
    let _idp = serve(stage, &[&stage.key])?;
    opens(stage, &token)
}
