//! Configurations as people write them: the good one of the design, and broken ones with the exact message each earns.
#![cfg(feature = "daemon")]
#![expect(clippy::unwrap_used, reason = "helpers of tests; a failure to set up is a failed test")]

mod keys;
mod sealed;
mod values;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use jpat_userspace::{
    check::{HostFacts, report},
    config::{Audit, Config, Destinations, InterfacePattern, KeySource, Mode, Peer},
    secret_file,
};

/// The design's example as far as this version goes.
const EXAMPLE: &str = r#"mode = "enforce"
state = "/var/lib/jpat"
pins = "/sys/fs/bpf/jpat"

[listen]
interfaces = ["external"]
attach = "auto"
port = 1337
destinations = "local"
tunnels = "pass"

[always_allow]
sources = ["192.0.2.0/28"]

[[issuer]]
name = "corp"
issuer = "https://idp.contoso.com"
audience = ["jpat://prod"]
algorithms = ["ES256", "EdDSA"]
keys = { discovery = true }
accept = ["bare"]
replay = "bind-source"
typ = ["JWT", "at+jwt", "jpat+jwt"]
leeway = "10s"
max_lifetime = "24h"
max_stale = "12h"
source_binding = "observed"

[[service]]
name = "commerce-listings"
issuers = ["corp"]
ports = ["tcp/8443"]
allow = '''claims.sub.startsWith("employee:")
  && "commerce-listings-admin" in claims.roles
  && !("doge" in claims.roles)'''
ttl = "30s"
sessions = "keep"
flow_idle = "10m"
flow_max = "12h"
prefix = { v4 = 32, v6 = 128 }

[[deny]]
name = "left-the-company"
when = 'claims.sub in ["employee:nobody"]'

[audit]
file = "audit.jsonl"

[admin]
socket = "/run/jpat/admin.sock"
read = ["root", "@0"]
change = ["root"]
metrics = "127.0.0.1:9337"
"#;

/// Loads `toml` from a directory with a few key files; what is wrong, one text each.
fn errors(toml: &str) -> Vec<String> {
    let dir = directory();
    let path = dir.path().join("jpat.toml");
    fs::write(&path, toml).unwrap();
    let errors = Config::load(&path).expect_err("it is broken");
    let prefix = format!("{}/", dir.path().display());
    errors.iter().map(|error| error.to_string().replace(&prefix, "")).collect()
}

fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, mode, text) in
        [("tight", 0o600, "0123456789abcdef"), ("loose", 0o644, "0123456789abcdef"), ("empty", 0o600, "\n")]
    {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for (name, secret) in
        [("server.key", [1; 32]), ("next.key", [2; 32]), ("knock-1.key", [3; 32]), ("knock-2.key", [4; 32])]
    {
        secret_file::create(&dir.path().join(name), secret_file::text(&secret).as_bytes()).unwrap();
    }
    dir
}

/// The example with one piece replaced, which must be there once.
fn with(from: &str, to: &str) -> String {
    assert_eq!(EXAMPLE.matches(from).count(), 1, "{from}");
    EXAMPLE.replace(from, to)
}

#[test]
fn the_example_of_the_design_loads() {
    let dir = directory();
    let path = dir.path().join("jpat.toml");
    fs::write(&path, EXAMPLE).unwrap();
    let (config, warnings) = Config::load(&path).unwrap();
    assert_eq!(config.mode, Mode::Enforce);
    assert_eq!(config.listen.interfaces, [InterfacePattern::External]);
    assert_eq!(config.listen.destinations, Destinations::Local);
    assert_eq!(config.issuers[0].keys, KeySource::Discovery);
    assert_eq!(config.services[0].ttl, Duration::from_secs(30));
    assert_eq!(config.audit, Audit::File(dir.path().join("audit.jsonl")));
    assert_eq!(config.admin.read, [Peer::User("root".into(), 0), Peer::Group("0".into(), 0)]);
    assert_eq!(warnings.len(), 1, "that bare knocks are accepted is said: {warnings:?}");
}

#[test]
fn every_error_is_told_at_once_in_the_order_of_the_file() {
    let toml = with("port = 1337", "port = \"1337\"")
        .replace("destinations = \"local\"", "destinations = 5")
        .replace("keys = { discovery = true }", "keys = \"discovery\"")
        .replace("accept = [\"bare\"]", "accept = \"bare\"")
        .replace("[\"tcp/8443\"]", "[\"tcp/8443\", 22]")
        .replace("ttl = \"30s\"", "ttl = 30\nhue = 1")
        .replace("[[deny]]", "[deny]");
    assert_eq!(
        errors(&toml),
        [
            "jpat.toml:8:8: listen.port: invalid type: string \"1337\", expected an integer\n  remedy: write a number without quotes",
            "jpat.toml:9:16: listen.destinations: expected \"local\", \"any\" or a list of prefixes",
            "jpat.toml:20:8: issuer[0].keys: invalid type: string \"discovery\", expected a table\n  remedy: write it as { key = value }, or as a section of its own",
            "jpat.toml:21:10: issuer[0].accept: invalid type: string \"bare\", expected a list\n  remedy: write it in brackets: [\"…\"]",
            "jpat.toml:32:22: service[0].ports[1]: invalid type: integer `22`, expected a string\n  remedy: write one value in quotes",
            "jpat.toml:36:7: service[0].ttl: invalid type: integer `30`, expected a string\n  remedy: write one value in quotes",
            "jpat.toml:37:1: service[0].hue: unknown key\n  remedy: known here: allow, flow_idle, flow_max, issuers, name, ports, prefix, sessions, ttl",
            "jpat.toml:43:1: deny: invalid type: table, expected a list\n  remedy: write [[deny]]",
        ]
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let errors = Config::load(Path::new("/nonexistent/jpat.toml")).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "/nonexistent/jpat.toml: cannot read it: No such file or directory (os error 2)\n  remedy: name another with --config or $JPAT_CONFIG, or write one with `jpatd init --out DIR`"
    );
}

#[test]
fn a_report_is_stable_json() {
    let dir = directory();
    let path = dir.path().join("jpat.toml");
    fs::write(&path, with("port = 1337", "prot = 1337")).unwrap();
    let report = report(&path, &HostFacts::read());
    assert!(
        !report.is_good() && report.to_string().ends_with("jpat.toml: not usable: 1 error, 0 warnings"),
        "{report}"
    );
    assert_eq!(
        serde_json::to_value(&report).unwrap(),
        serde_json::json!({
            "version": 1,
            "file": path,
            "good": false,
            "errors": [{ "file": path, "line": 8, "column": 1, "key": "listen.prot", "message": "unknown key", "remedy": "did you mean `port`?" }],
            "warnings": [],
        })
    );
}
