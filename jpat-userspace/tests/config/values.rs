//! Values that mean nothing, or too much.

use std::fs;

use jpat_userspace::config::{Config, KeySource};

use super::{directory, errors, with};

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
        ("v4 = 32", "v4 = 0", "40:17: service[0].prefix.v4: 0 is out of range\n  remedy: use a number from 1 to 32"),
        ("\"30s\"", "\"48h\"", "36:7: service[0].ttl: `48h` is out of range\n  remedy: use \"1s\" to \"24h\""),
        (
            "\"keep\"",
            "\"kept\"",
            "37:12: service[0].sessions: unknown value \"kept\"\n  remedy: did you mean \"keep\"?",
        ),
        ("\"10m\"", "\"0s\"", "38:13: service[0].flow_idle: `0s` is out of range\n  remedy: use \"1s\" to \"168h\""),
        (
            "\"12h\"\nprefix",
            "\"721h\"\nprefix",
            "39:12: service[0].flow_max: `721h` is out of range\n  remedy: use \"1s\" to \"720h\"",
        ),
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
            "44:10: service[1].ports[0]: `tcp/8000-9000` of `db` is taken by `tcp/8443` of `commerce-listings` in line 32, column 10\n  remedy: a port belongs to one service: remove it from one of the two places",
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
            "43:8: service[1].name: `commerce-listings` is already the name of the one in line 30\n  remedy: give it another name",
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
            "51:9: admin.read[0]: there is no user `nobdoy` on this host\n  remedy: write a user (\"root\"), a group (\"@adm\") or a number (\"1000\", \"@4\") of this host",
        ),
    ] {
        let toml = with(from, to);
        // The rule that follows from a wrong issuer name is not the point here.
        let toml = if to.contains("a/b") { toml.replace("[\"corp\"]", "[\"a/b\"]") } else { toml };
        assert_eq!(errors(&toml), [format!("jpat.toml:{expected}")]);
    }
}
