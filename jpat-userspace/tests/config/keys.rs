//! Keys that are wrong, missing, or of a later version.

use super::{EXAMPLE, errors, with};

#[test]
fn a_wrong_key_is_refused_where_it_stands() {
    for (toml, expected) in [
        (with("port = 1337", "prot = 1337"), "jpat.toml:8:1: listen.prot: unknown key\n  remedy: did you mean `port`?"),
        (
            with("ttl = \"30s\"", "ttl = \"30s\"\ncolour = 5"),
            "jpat.toml:37:1: service[0].colour: unknown key\n  remedy: known here: allow, flow_idle, flow_max, issuers, name, ports, prefix, sessions, ttl",
        ),
        (
            with("port = 1337", "port 1337"),
            "jpat.toml:8:6: not valid TOML: key with no value, expected `=`\n  remedy: the rest is read once this is right",
        ),
        (
            with("[\"jpat://prod\"]", "[\"jpat://prod]"),
            "jpat.toml:18:26: not valid TOML: invalid basic string, expected `\"`\n  remedy: the rest is read once this is right",
        ),
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
            "jpat.toml:15:1: issuer[0].accept: required, and at least one\n  remedy: add accept = [\"sealed\"]",
        ),
        (
            with("issuers = [\"corp\"]\n", "").replace("[[deny]]", two_issuers),
            "jpat.toml:29:1: service[0].issuers: required\n  remedy: add issuers = [\"corp\", \"other\"], or those that count",
        ),
    ] {
        assert_eq!(errors(&toml), [expected]);
    }
}
