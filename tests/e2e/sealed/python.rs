//! The implementation in `tests/python`, which was written from `docs/protocol.md` alone, against the real controller.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    knocker::{Knocker, Named},
    network::{Family, Member},
    probe::Port,
    process::Process,
};
use jpat_userspace::knock::proof::Kind;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::{SERVER, config};
use crate::{
    config::{Config, DB, HTTPS},
    stage::Stage,
    trial,
};

pub(super) fn trials() -> Vec<Trial> {
    let proof = || config("replay = \"proof\"");
    let bound = || config("replay = \"bind-source\"");
    vec![
        needing("p6_the_python_implementation_reproduces_every_vector", bound, |_stage| vectors()),
        needing("the_python_implementation_opens_renews_and_closes", bound, verbs),
        needing("the_python_implementation_proves_possession", proof, |stage| proves(stage, Kind::Ed25519)),
        needing("the_python_implementation_proves_possession_with_p256", proof, |stage| proves(stage, Kind::P256)),
        needing("the_python_implementation_is_refused_where_it_must_be", bound, refused),
    ]
}

fn needing(
    name: &'static str,
    config: fn() -> Config,
    body: impl FnOnce(&mut Stage) -> Result<()> + Send + 'static,
) -> Trial {
    trial::needing(name, python, config, |stage, ()| body(stage))
}

fn python() -> Result<()> {
    let asked = Command::new("python3").args(["-c", "import sys; sys.exit(sys.version_info < (3, 9))"]).output();
    ensure!(asked.is_ok_and(|answer| answer.status.success()), "python3, 3.9 or newer, is not here");
    Ok(())
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python")
}

#[expect(clippy::print_stdout, reason = "how many tests there were")]
fn vectors() -> Result<()> {
    let mut command = Command::new("python3");
    command.args(["-B", "-m", "unittest", "discover", "-s"]).arg(directory());
    let ended = command.output().context("python3")?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(ended.status.success(), "{said}");
    println!("{}", said.lines().filter(|line| line.starts_with("Ran ")).collect::<String>());
    Ok(())
}

/// Starts the controller, and writes what `jpatd client-config` prints for its clients.
fn start(stage: &mut Stage, kind: Kind) -> Result<Knocker> {
    let knocker = Knocker::new(SERVER, kind)?;
    knocker.write_keys(stage.dir.path())?;
    knocker.write_client_key(&stage.path("client.jwk"))?;
    stage.start(&[])?;
    let mut command = stage.jpatd("client-config")?;
    command.args(["--host", &Member::Host.address(Family::V4).to_string()]);
    let printed = command.output().context("jpatd client-config")?;
    ensure!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    stage.write_private("profile.toml", &String::from_utf8(printed.stdout)?)?;
    Ok(knocker)
}

/// Runs the client of the other implementation, and returns the line of JSON that it prints.
fn knock(stage: &Stage, from: Member, family: Family, token: &str, more: &[&str]) -> Result<Value> {
    stage.write_private("token", token)?;
    let mut command = Command::new("python3");
    command.arg("-B").arg(directory().join("jpat_knock.py"));
    command.arg("--profile").arg(stage.path("profile.toml")).arg("--token-file").arg(stage.path("token"));
    command.args(["--host", &Member::Host.address(family).to_string(), "--timeout", "3"]).args(more);
    let ended = Process::run(stage.net.of(from), "jpat_knock.py", command)?;
    let line = ended.output.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("{}: {}", ended.status, ended.output))
}

fn done(answer: &Value, services: &[&str]) -> Result<()> {
    let names: Vec<_> = answer["reply"]["services"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|pair| pair[0].as_str().unwrap_or_default())
        .collect();
    ensure!(answer["reply"]["outcome"] == "done" && names == services, "{answer}");
    Ok(())
}

fn verbs(stage: &mut Stage) -> Result<()> {
    let _keys = start(stage, Kind::Ed25519)?;
    let both = json!({ "roles": ["commerce-listings-admin", "dba"] });
    for family in Family::ALL {
        let token = stage.key.token(&stage.claims_with(both.clone()))?;
        let open = |more: &[&str]| knock(stage, Member::Client, family, &token, more);
        ensure!(open(&["--verb", "renew"])?["reply"]["reason"] == "not_open", "renew before open");
        done(&open(&["--service", "web"])?, &["web"])?;
        stage.expect_tcp(Member::Client, family, HTTPS, Port::Open)?;
        stage.expect_tcp(Member::Client, family, DB, Port::Silent)?;
        done(&open(&[])?, &["db", "web"])?;
        done(&open(&["--verb", "renew", "--service", "web", "--service", "db"])?, &["db", "web"])?;
        done(&open(&["--verb", "close"])?, &["db", "web"])?;
        stage.expect_tcp(Member::Client, family, HTTPS, Port::Silent)?;
    }
    Ok(())
}

fn proves(stage: &mut Stage, kind: Kind) -> Result<()> {
    let knocker = start(stage, kind)?;
    let key = stage.path("client.jwk");
    let key = key.to_str().context("a path of text")?;
    for (named, family) in [(Named::Key, Family::V4), (Named::Thumbprint, Family::V6)] {
        let token = stage.key.token(&stage.claims_with(json!({ "cnf": knocker.confirmation(named) })))?;
        done(&knock(stage, Member::Client, family, &token, &["--key", key])?, &["web"])?;
        stage.expect_tcp(Member::Client, family, HTTPS, Port::Open)?;
    }
    Ok(())
}

fn refused(stage: &mut Stage) -> Result<()> {
    let _keys = start(stage, Kind::Ed25519)?;
    let roles = |roles: Value| stage.key.token(&stage.claims_with(json!({ "roles": roles })));
    let answer = knock(stage, Member::Client, Family::V4, &roles(json!([]))?, &[])?;
    ensure!(answer["reply"]["reason"] == "not_allowed", "{answer}");
    let good = roles(json!(["commerce-listings-admin"]))?;
    let answer = knock(stage, Member::Client, Family::V4, &good, &["--time-offset-ms", "94000"])?;
    ensure!(answer["reply"]["reason"] == "clock_skew" && answer["reply"]["server_time"].is_u64(), "{answer}");
    let answer = knock(stage, Member::Client, Family::V4, &good, &["--address", "198.51.100.1"])?;
    ensure!(answer["reply"].is_null(), "an answer to a wrong address: {answer}");
    // What one sender's datagram was worth it is worth to nobody again.
    let stored = stage.path("datagram");
    let stored = stored.to_str().context("a path of text")?;
    done(&knock(stage, Member::Client, Family::V4, &good, &["--print-datagram", stored])?, &["web"])?;
    for from in [Member::Client, Member::Stranger] {
        let answer = knock(stage, from, Family::V4, &good, &["--send-datagram", stored])?;
        ensure!(answer["reply"].is_null(), "an answer to a replay: {answer}");
    }
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)
}
