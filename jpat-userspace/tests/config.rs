//! Configurations as people write them: the good one of the design, and broken ones with the exact message each earns.
#![cfg(feature = "daemon")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use jpat_userspace::{
    check::{HostFacts, report},
    config::{Audit, Config, Destinations, InterfacePattern, KeySource, Mode, Peer},
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
sessions = "cut"
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
fn a_wrong_key_is_refused_where_it_stands() {
    for (toml, expected) in [
        (with("port = 1337", "prot = 1337"), "jpat.toml:8:1: listen.prot: unknown key\n  remedy: did you mean `port`?"),
        (
            with("ttl = \"30s\"", "ttl = \"30s\"\ncolour = 5"),
            "jpat.toml:37:1: service[0].colour: unknown key\n  remedy: known here: allow, issuers, name, ports, prefix, sessions, ttl",
        ),
        (with("port = 1337", "port 1337"), "jpat.toml:8:6: not valid TOML: key with no value, expected `=`"),
        (
            with("port = 1337", "port = 1337\nport = 7"),
            "jpat.toml:9:1: not valid TOML: duplicate key\n  remedy: keep one of them",
        ),
    ] {
        assert_eq!(errors(&toml), [expected]);
    }
}

#[test]
fn what_is_missing_is_asked_for() {
    let service = EXAMPLE.find("[[service]]").unwrap()..EXAMPLE.find("[[deny]]").unwrap();
    let mut no_services = EXAMPLE.to_owned();
    no_services.replace_range(service, "");
    let two_issuers = "[[issuer]]\nname = \"other\"\nissuer = \"x\"\naudience = [\"a\"]\nalgorithms = [\"ES256\"]\nkeys = { pem_file = \"tight\" }\naccept = [\"bare\"]\n[[deny]]";
    for (toml, expected) in [
        (
            with("mode = \"enforce\"\n", ""),
            "jpat.toml:1:1: mode: required\n  remedy: add mode = \"audit\" to watch first, or mode = \"enforce\"",
        ),
        (
            no_services,
            "jpat.toml:1:1: service: required, and at least one\n  remedy: add a [[service]]: without one there is nothing to protect",
        ),
        (
            with("accept = [\"bare\"]\n", ""),
            "jpat.toml:15:1: issuer[0].accept: required, and at least one\n  remedy: add accept = [\"bare\"]",
        ),
        (
            with("issuers = [\"corp\"]\n", "").replace("[[deny]]", two_issuers),
            "jpat.toml:29:1: service[0].issuers: required\n  remedy: add issuers = [\"corp\", \"other\"], or those that count",
        ),
    ] {
        assert_eq!(errors(&toml), [expected]);
    }
}

#[test]
fn what_comes_later_is_refused_not_ignored() {
    for (from, to, expected) in [
        (
            "[[issuer]]",
            "[server]\nid = \"web-1.example\"\n[[issuer]]",
            "15:2: server: not available in this version\n  remedy: remove it: sealed knocks come later, and bare ones need no server key",
        ),
        (
            "[[issuer]]",
            "[[knock_key]]\nid = 1\n[[issuer]]",
            "15:3: knock_key: not available in this version\n  remedy: remove it: filter keys come with sealed knocks",
        ),
        (
            "[\"bare\"]",
            "[\"sealed\", \"bare\"]",
            "21:11: issuer[0].accept[0]: \"sealed\" is not available in this version\n  remedy: sealed knocks are not available yet: use accept = [\"bare\"]",
        ),
        (
            "\"bind-source\"",
            "\"proof\"",
            "22:10: issuer[0].replay: \"proof\" is not available in this version\n  remedy: client signatures come with sealed knocks: use \"bind-source\" or \"once\"",
        ),
        (
            "\"observed\"",
            "\"strict\"",
            "27:18: issuer[0].source_binding: \"strict\" is not available in this version\n  remedy: it comes with sealed knocks: leave it out",
        ),
        (
            "\"cut\"",
            "\"keep\"",
            "37:12: service[0].sessions: \"keep\" is not available in this version\n  remedy: connections end with their grant so far: use \"cut\", and a ttl as long as they need",
        ),
        (
            "sessions = \"cut\"",
            "flow_idle = \"10m\"",
            "37:1: service[0].flow_idle: not available in this version\n  remedy: remove it: connections end with their grant so far",
        ),
        (
            "sessions = \"cut\"",
            "flow_max = \"12h\"",
            "37:1: service[0].flow_max: not available in this version\n  remedy: remove it: connections end with their grant so far",
        ),
        (
            "[audit]",
            "[limits]\nflows = 5\n[audit]",
            "45:1: limits.flows: not available in this version\n  remedy: remove it: connections end with their grant so far",
        ),
    ] {
        assert_eq!(errors(&with(from, to)), [format!("jpat.toml:{expected}")]);
    }
}

#[test]
fn secrets_that_others_can_read_are_refused() {
    let secret = |file: &str| {
        with("\"ES256\", \"EdDSA\"", "\"HS256\"").replace("discovery = true", &format!("secret_file = \"{file}\""))
    };
    for (file, expected) in [
        ("loose", "others can read loose (mode 0644)\n  remedy: chmod 600 loose; in Kubernetes `defaultMode: 0400`"),
        (
            "absent",
            "cannot read absent: No such file or directory (os error 2)\n  remedy: correct the path (relative ones count from the configuration's directory) or the file's owner",
        ),
        ("empty", "empty is empty\n  remedy: write at least 32 random bytes into it"),
        (
            "../",
            "cannot read ../: not a regular file\n  remedy: correct the path (relative ones count from the configuration's directory) or the file's owner",
        ),
    ] {
        assert_eq!(errors(&secret(file)), [format!("jpat.toml:20:24: issuer[0].keys.secret_file: {expected}")]);
    }
    let dir = directory();
    let path = dir.path().join("jpat.toml");
    fs::write(&path, secret("tight")).unwrap();
    assert_eq!(Config::load(&path).unwrap().0.issuers[0].keys, KeySource::SecretFile(dir.path().join("tight")));
}

#[test]
fn algorithms_and_keys_belong_together() {
    for (toml, expected) in [
        (
            with("\"EdDSA\"", "\"HS256\""),
            "19:14: issuer[0].algorithms: HMAC and asymmetric algorithms in one issuer\n  remedy: make two issuers: who can check an HMAC can also make one, so the two never share keys",
        ),
        (
            with("\"ES256\", \"EdDSA\"", "\"HS256\""),
            "19:14: issuer[0].algorithms: HMAC algorithms need a shared secret\n  remedy: use keys = { secret_file = \"…\" }",
        ),
        (
            with("discovery = true", "secret_file = \"tight\""),
            "19:14: issuer[0].algorithms: a shared secret needs HMAC algorithms\n  remedy: use \"HS256\", \"HS384\" or \"HS512\"",
        ),
        (
            with("\"EdDSA\"", "\"es384\""),
            "19:24: issuer[0].algorithms[1]: unknown value \"es384\"\n  remedy: did you mean \"ES384\"?",
        ),
        (
            with("\"ES256\", \"EdDSA\"", "\"none\""),
            "19:15: issuer[0].algorithms[0]: unknown value \"none\"\n  remedy: use \"RS256\", \"RS384\", \"RS512\", \"PS256\", \"PS384\", \"PS512\", \"ES256\", \"ES384\", \"EdDSA\", \"HS256\", \"HS384\", \"HS512\"",
        ),
        (
            with("discovery = true", "discovery = true, jwks_url = \"https://x\""),
            "20:8: issuer[0].keys: one source of keys is needed, and no more\n  remedy: keep one of discovery, jwks_url, jwks_file, pem_file, secret_file",
        ),
        (
            with("https://idp", "http://idp"),
            "20:8: issuer[0].keys: `http://idp.contoso.com` is not https: whoever is on the path could replace the keys\n  remedy: use https; in a lab, allow_http = true in this issuer",
        ),
    ] {
        assert_eq!(errors(&toml), [format!("jpat.toml:{expected}")]);
    }
}

#[test]
fn http_is_for_this_host_and_for_labs() {
    let dir = directory();
    let path = dir.path().join("jpat.toml");
    for (keys, warnings) in [
        ("{ jwks_url = \"http://127.8.8.8:80/jwks\" }", 1),
        ("{ jwks_url = \"http://[::1]/jwks\" }", 1),
        ("{ jwks_url = \"http://localhost/jwks\" }", 1),
        ("{ jwks_url = \"http://10.0.0.1/jwks\" }\nallow_http = true", 2),
    ] {
        fs::write(&path, with("{ discovery = true }", keys)).unwrap();
        assert_eq!(Config::load(&path).unwrap().1.len(), warnings, "{keys}");
    }
    for keys in [
        "\"http://127.0.0.1.evil.example/\"",
        "\"http://10.0.0.1/\"",
        "\"ftp://127.0.0.1/\"",
        "\"https://u:p@idp/\"",
        "\"idp\"",
    ] {
        assert_eq!(errors(&with("discovery = true", &format!("jwks_url = {keys}"))).len(), 1, "{keys}");
    }
}

#[test]
fn p2_values_that_would_open_too_much_are_refused() {
    for (from, to, expected) in [
        (
            "192.0.2.0/28",
            "0.0.0.0/0",
            "13:12: always_allow.sources[0]: `0.0.0.0/0` switches the firewall off\n  remedy: list the networks you administer from",
        ),
        (
            "192.0.2.0/28",
            "::/0",
            "13:12: always_allow.sources[0]: `::/0` switches the firewall off\n  remedy: list the networks you administer from",
        ),
        (
            "192.0.2.0/28",
            "::/64",
            "13:12: always_allow.sources[0]: `::/64` overlaps ::ffff:0:0/96, the IPv4-mapped addresses\n  remedy: write IPv4 prefixes as such; for all of global IPv6, 2000::/3",
        ),
        (
            "192.0.2.0/28",
            "192.0.2.0/33",
            "13:12: always_allow.sources[0]: `192.0.2.0/33` is no prefix: its length is not 0 to 32\n  remedy: write 192.0.2.0/24, 2001:db8::/32 or a single address",
        ),
        ("v4 = 32", "v4 = 0", "38:17: service[0].prefix.v4: 0 is out of range\n  remedy: use a number from 1 to 32"),
        ("\"30s\"", "\"48h\"", "36:7: service[0].ttl: `48h` is out of range\n  remedy: use \"1s\" to \"24h\""),
        (
            "\"30s\"",
            "\"30\"",
            "36:7: service[0].ttl: `30` is no duration\n  remedy: write hours, minutes or seconds: \"30s\", \"10m\", \"12h\"; a day is \"24h\"",
        ),
        (
            "[\"jpat://prod\"]",
            "[]",
            "18:12: issuer[0].audience: required, and at least one\n  remedy: add audience = [\"jpat://…\"]: a token for someone else must not open this host",
        ),
    ] {
        assert_eq!(errors(&with(from, to)), [format!("jpat.toml:{expected}")]);
    }
}

#[test]
fn a_port_belongs_to_one_service() {
    let second = "[[service]]\nname = \"db\"\nports = [\"tcp/8000-9000\"]\nallow = \"true\"\nttl = \"30s\"\n[[deny]]";
    for (from, to, expected) in [
        (
            "[\"tcp/8443\"]",
            "[\"tcp/8443\", \"tcp/8443\"]",
            "32:22: service[0].ports[1]: `tcp/8443` of `commerce-listings` is taken by `tcp/8443` of `commerce-listings` in line 32, column 10\n  remedy: a port belongs to one service: remove it from one of the two places",
        ),
        (
            "[[deny]]",
            second,
            "42:10: service[1].ports[0]: `tcp/8000-9000` of `db` is taken by `tcp/8443` of `commerce-listings` in line 32, column 10\n  remedy: a port belongs to one service: remove it from one of the two places",
        ),
        (
            "[\"tcp/8443\"]",
            "[\"udp/1000-2000\"]",
            "32:10: service[0].ports[0]: `udp/1000-2000` holds the knock port, where nothing else is let through\n  remedy: move listen.port, or take the port out of the service",
        ),
        (
            "[\"tcp/8443\"]",
            "[\"tcp/9-8\"]",
            "32:10: service[0].ports[0]: the range `tcp/9-8` runs backwards\n  remedy: write tcp/8-9",
        ),
    ] {
        assert_eq!(errors(&with(from, to)), [format!("jpat.toml:{expected}")]);
    }
}

#[test]
fn names_are_unique_and_known() {
    let again =
        "[[service]]\nname = \"commerce-listings\"\nports = [\"tcp/1\"]\nallow = \"true\"\nttl = \"1s\"\n[[deny]]";
    for (from, to, expected) in [
        (
            "[[deny]]",
            again,
            "41:8: service[1].name: `commerce-listings` is already the name of the one in line 30\n  remedy: give it another name",
        ),
        (
            "name = \"corp\"",
            "name = \"a/b\"",
            "16:8: issuer[0].name: `a/b` is no name\n  remedy: use 1 to 64 letters, digits, `.`, `_`, `-`, and no `.` in front",
        ),
        (
            "issuers = [\"corp\"]",
            "issuers = [\"crop\"]",
            "31:12: service[0].issuers[0]: there is no issuer `crop`\n  remedy: did you mean \"corp\"?",
        ),
        (
            "[\"root\", \"@0\"]",
            "[\"nobdoy\"]",
            "49:9: admin.read[0]: there is no user `nobdoy` on this host\n  remedy: write a user (\"root\"), a group (\"@adm\") or a number (\"1000\", \"@4\") of this host",
        ),
    ] {
        let toml = with(from, to);
        // The rule that follows from a wrong issuer name is not the point here.
        let toml = if to.contains("a/b") { toml.replace("[\"corp\"]", "[\"a/b\"]") } else { toml };
        assert_eq!(errors(&toml), [format!("jpat.toml:{expected}")]);
    }
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
            "jpat.toml:37:1: service[0].hue: unknown key\n  remedy: known here: allow, issuers, name, ports, prefix, sessions, ttl",
            "jpat.toml:41:1: deny: invalid type: table, expected a list\n  remedy: write [[deny]]",
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
