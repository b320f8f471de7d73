//! The programs as people call them: exit codes, messages, and the socket.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    binaries,
    network::{Family, Member},
    probe::Port,
    process::{Ended, Process},
};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::{
    config::{Config, HTTPS},
    stage::Stage,
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial::on("knock_waits_until_the_service_answers", Config::default, knock_and_wait),
        trial::on("knock_without_success_says_what_it_knows_and_exits_1", Config::default, knock_in_vain),
        trial::on("knock_usage_errors_exit_2", Config::default, knock_usage),
        trial::on("check_accepts_a_good_configuration", Config::default, check_good),
        trial::on("check_refuses_broken_configurations_with_the_remedy", Config::default, check_broken),
        trial::on("explain_shows_every_check", Config::default, explain),
        trial::on("status_and_grants_speak_json", Config::default, json_output),
        trial::on("the_probes_tell_alive_and_ready", Config::default, probes),
    ];
    trials.push(trial::on("p7_only_root_may_use_the_socket", Config::default, socket_mode));
    trials
}

fn knock_and_wait(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    for family in Family::ALL {
        let host = Member::Host.address(family).to_string();
        stage.expect_tcp(Member::Client, family, HTTPS, Port::Silent)?;
        let ended = stage.jpat_knock(Member::Client, &host, &stage.token()?, &["--wait", "tcp/8443"])?;
        ensure!(ended.status.code() == Some(0), "{}: {}", ended.status, ended.output);
        stage.expect_tcp(Member::Client, family, HTTPS, Port::Open)?;
    }
    Ok(())
}

fn knock_in_vain(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let expired = stage.key.token(&stage.claims_with(serde_json::json!({ "exp": 1_000_000_000 })))?;
    let ended = stage.jpat_knock(Member::Client, "192.0.2.1", &expired, &[])?;
    ensure!(ended.status.code() == Some(1) && ended.output.contains("expired"), "{}", ended.output);
    let ended = stage.jpat_knock(Member::Client, "192.0.2.1", &expired, &["--force", "--wait", "tcp/8443"])?;
    let (code, text) = (ended.status.code(), &ended.output);
    ensure!(code == Some(1) && text.contains("192.0.2.1") && text.contains("1337"), "{code:?}: {text}");
    ensure!(!text.contains(&expired), "the token is shown");
    ensure!(stage.metrics()?.knocks("expired") >= 1.0, "it was not sent");
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent)
}

fn knock_usage(stage: &mut Stage) -> Result<()> {
    let token = stage.token()?;
    for (host, more, hint) in [
        ("192.0.2.1:8443", &[][..], "--wait tcp/8443"),
        ("[2001:db8::1]:8443", &[], "--wait tcp/8443"),
        ("192.0.2.1", &["--wait", "8443"], "tcp/8443"),
        ("192.0.2.1", &["--wait", "tcp/0"], "tcp/"),
        ("192.0.2.1", &["--knock-port", "0"], "--knock-port"),
        ("192.0.2.1", &["--no-such-option"], "--no-such-option"),
    ] {
        let ended = stage.jpat_knock(Member::Client, host, &token, more)?;
        let (code, text) = (ended.status.code(), &ended.output);
        ensure!(code == Some(2) && text.contains(hint), "{host} {more:?}: {code:?}, not 2 with {hint:?}: {text}");
    }
    Ok(())
}

fn check(stage: &Stage) -> Result<Ended> {
    Process::run(&stage.net.host, "jpatd check", stage.jpatd("check")?)
}

fn check_good(stage: &mut Stage) -> Result<()> {
    let ended = check(stage)?;
    ensure!(ended.status.code() == Some(0), "{}: {}", ended.status, ended.output);
    Ok(())
}

fn check_broken(stage: &mut Stage) -> Result<()> {
    let good = std::fs::read_to_string(stage.path("jpat.toml"))?;
    std::fs::write(stage.path("secret"), [7; 64])?;
    std::fs::set_permissions(stage.path("secret"), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    let secret =
        good.replace("jwks_file = \"jwks.json\"", "secret_file = \"secret\"").replace("[\"ES256\"]", "[\"HS256\"]");
    let no_services = good.split("[[service]]").next().unwrap_or_default().to_owned();
    for (what, text, words) in [
        ("an unknown key", format!("color = \"red\"\n{good}"), &["jpat.toml:1", "color"][..]),
        (
            "sealed knocks without keys",
            good.replace("[listen]", "[server]\nreply = true\n[listen]"),
            &["server.id", "server.keys", "jpatd keygen"],
        ),
        ("no services", no_services, &["service"]),
        ("a port twice", good.replace("tcp/5432", "tcp/8443"), &["tcp/8443", "web", "db"]),
        ("a world-readable secret", secret, &["secret", "chmod"]),
        ("an unreadable key file", good.replace("jwks.json", "absent.json"), &["absent.json"]),
        ("no mode", good.replace("mode = ", "# mode = "), &["mode", "enforce", "audit"]),
        ("a broken rule", good.replace("claims.sub.", "claims.sub.("), &["allow", "web"]),
        ("asymmetric and secret", good.replace("[\"ES256\"]", "[\"ES256\", \"HS256\"]"), &["algorithms"]),
        ("no TOML", good.replace("[[service]]", "[[service]"), &["jpat.toml:"]),
    ] {
        std::fs::write(stage.path("jpat.toml"), text)?;
        let ended = check(stage)?;
        let (code, text) = (ended.status.code(), &ended.output);
        ensure!(code == Some(1), "{what}: {code:?}: {text}");
        for word in words {
            ensure!(text.contains(word), "{what}: {word:?} is not in: {text}");
        }
        // What check refuses, run refuses.
        let ended = Process::run(&stage.net.host, "jpatd run", stage.jpatd("run")?)?;
        ensure!(ended.status.code() == Some(1), "{what}: run: {}: {}", ended.status, ended.output);
    }
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Open).context("nothing was attached")
}

fn explain(stage: &mut Stage) -> Result<()> {
    let doge = serde_json::json!({ "roles": ["commerce-listings-admin", "doge"] });
    let expired = serde_json::json!({ "iat": 999_999_000, "exp": 1_000_000_000 });
    for (claims, code, word) in [
        (stage.claims(), 0, "web"),
        (stage.claims_with(expired), 1, "expired"),
        (stage.claims_with(doge), 1, "not_allowed"),
    ] {
        std::fs::write(stage.path("token"), stage.key.token(&claims)?)?;
        let mut command = stage.jpatd("explain")?;
        command.arg("--token-file").arg(stage.path("token")).args(["--source", "192.0.2.10"]);
        let ended = Process::run(&stage.net.host, "jpatd explain", command)?;
        let text = &ended.output;
        ensure!(ended.status.code() == Some(code) && text.contains(word), "{word}: {}: {text}", ended.status);
        for check in ["signature", "exp", "aud"] {
            ensure!(text.contains(check), "{word}: {check} is not in: {text}");
        }
    }
    Ok(())
}

fn json_output(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    let status: Value = serde_json::from_str(&stage.admin_ok(&["status", "-o", "json"])?)?;
    ensure!(status["version"] == 1 && status["mode"] == "enforce" && status["grants"] == 1, "{status}");
    ensure!(status["interfaces"][0]["name"] == "eth0" && status["interfaces"][0]["attach"] == "driver", "{status}");
    let grants: Value = serde_json::from_str(&stage.admin_ok(&["grants", "list", "-o", "json"])?)?;
    let grant = &grants["grants"][0];
    ensure!(grant["service"] == "web" && grant["principal"] == "corp:employee:alice", "{grants}");
    Ok(())
}

fn probes(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    for path in ["/livez", "/readyz", "/metrics"] {
        ensure!(stage.http_status(path)? == 200, "{path}");
    }
    ensure!(stage.http_status("/")? == 404);
    Ok(())
}

fn socket_mode(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    // Group and user 65534 have no name in the configuration.
    std::fs::set_permissions(stage.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    for arguments in [&["grants", "flush"][..], &["status"], &["mode", "audit"]] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(binaries::jpat()?);
        command.args(arguments).arg("--socket").arg(stage.path("admin.sock"));
        let ended = Process::run(&stage.net.host, "jpat", command)?;
        ensure!(ended.status.code() == Some(1), "{arguments:?}: {}: {}", ended.status, ended.output);
    }
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)
}
