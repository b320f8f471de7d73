//! `[server]`, `[[knock_key]]`, and what an issuer says of the forms of knock.

use std::{fmt::Write as _, fs};

use jpat_userspace::{
    config::{Config, ReplayMode, SourceBinding},
    knock::{Form, inner::is_service},
};

use super::{EXAMPLE, directory, errors};

/// The design's sections, in front of the issuers.
const SECTIONS: &str = "[server]\nid = \"web-1.example\"\nkeys = [\"server.key\"]\n[[knock_key]]\nid = 1\ngroup = \"staff\"\nfile = \"knock-1.key\"\n";

/// The example with `accept = ["sealed"]` and `sections`, which begin in line 15.
fn sealed(sections: &str) -> String {
    EXAMPLE.replace("[\"bare\"]", "[\"sealed\"]").replace("[[issuer]]", &format!("{sections}[[issuer]]"))
}

fn load(toml: &str) -> (Config, Vec<String>) {
    let dir = directory();
    let path = dir.path().join("jpat.toml");
    fs::write(&path, toml).unwrap();
    let (config, warnings) = Config::load(&path).unwrap_or_else(|errors| panic!("{errors:#?}"));
    (config, warnings.iter().map(|warning| warning.0.message.clone()).collect())
}

#[test]
fn sealed_knocks_alone_earn_no_warning() {
    let (config, warnings) = load(&sealed(SECTIONS));
    let server = config.server.as_ref().unwrap();
    assert_eq!((server.id.as_str(), server.keys.len(), server.reply), ("web-1.example", 1, true));
    assert_eq!((config.knock_keys[0].id, config.groups()), (1, vec!["staff".to_owned()]));
    assert_eq!(config.issuers[0].accept, [Form::Sealed].into());
    assert_eq!(config.limits.knocks_per_second, 1000);
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn p6_keys_rotate_side_by_side() {
    let sections = SECTIONS.replace("[\"server.key\"]", "[\"next.key\", \"server.key\"]\nreply = false")
        + "[[knock_key]]\nid = 2\ngroup = \"robots\"\nfile = \"knock-2.key\"\n[[knock_key]]\nid = 3\ngroup = \"staff\"\nfile = \"knock-2.key\"\n";
    let (config, _) = load(&sealed(&sections));
    assert_eq!(config.server.as_ref().unwrap().keys.len(), 2);
    assert!(!config.server.as_ref().unwrap().reply);
    assert_eq!(config.groups(), ["staff", "robots"]);
}

#[test]
fn proof_and_strict_belong_to_sealed_knocks() {
    let strict = sealed(SECTIONS).replace("\"bind-source\"", "\"proof\"").replace("\"observed\"", "\"strict\"");
    let (config, _) = load(&strict);
    assert_eq!(
        (config.issuers[0].replay, config.issuers[0].source_binding),
        (ReplayMode::Proof, SourceBinding::Strict)
    );
    let both = strict.replace("[\"sealed\"]", "[\"sealed\", \"bare\"]");
    assert_eq!(
        errors(&both),
        [
            "jpat.toml:29:10: issuer[0].replay: a bare knock has no place for a client's proof\n  remedy: use accept = [\"sealed\"], or replay = \"bind-source\" or \"once\"",
            "jpat.toml:34:18: issuer[0].source_binding: a bare knock has no place for the client's address\n  remedy: use accept = [\"sealed\"], or source_binding = \"observed\"",
        ]
    );
}

#[test]
fn bare_knocks_are_warned_of_as_far_as_they_go() {
    let bare = |replay: &str| {
        let both = sealed(SECTIONS).replace("[\"sealed\"]", "[\"bare\", \"sealed\"]");
        load(&both.replace("\"bind-source\"", &format!("\"{replay}\""))).1
    };
    assert_eq!(
        bare("bind-source"),
        [
            "bare knocks carry the token in the clear: whoever sees the packet can use the token until it is spent or bound"
        ]
    );
    assert_eq!(
        bare("once"),
        ["bare knocks carry the token in the clear: whoever holds the packet back can use the token first"]
    );
    let unused = EXAMPLE.replace("[[issuer]]", &format!("{SECTIONS}[[issuer]]"));
    assert_eq!(load(&unused).1[..2], ["no issuer accepts sealed knocks: nobody needs it"; 2]);
}

#[test]
fn every_service_name_of_the_configuration_can_be_asked_for() {
    let named = |name: &str| sealed(SECTIONS).replace("\"commerce-listings\"", &format!("{name:?}"));
    for name in ["Commerce.Listings", "a_b-c.9"] {
        let (config, warnings) = load(&named(name));
        assert!(warnings.is_empty() && config.services[0].name == name, "{warnings:?}");
        assert!(is_service(name));
    }
}

#[test]
fn what_sealed_knocks_need_is_asked_for() {
    let keygen = "`jpatd keygen --out DIR` makes the keys and prints what to add";
    let (server, knock_key) = SECTIONS.split_at(SECTIONS.find("[[knock_key]]").unwrap());
    for (sections, expected) in [
        (
            String::new(),
            vec![
                format!("21:10: issuer[0].accept: sealed knocks need a [server]\n  remedy: {keygen}"),
                format!("21:10: issuer[0].accept: sealed knocks need a [[knock_key]]\n  remedy: {keygen}"),
            ],
        ),
        (
            server.to_owned(),
            vec![format!("24:10: issuer[0].accept: sealed knocks need a [[knock_key]]\n  remedy: {keygen}")],
        ),
        (
            knock_key.to_owned(),
            vec![format!("25:10: issuer[0].accept: sealed knocks need a [server]\n  remedy: {keygen}")],
        ),
        (
            SECTIONS.replace("keys = [\"server.key\"]\n", ""),
            vec![format!(
                "15:1: server.keys: required, and at least one\n  remedy: add keys = [\"server.key\"]: {keygen}"
            )],
        ),
        (
            SECTIONS.replace("id = \"web-1.example\"\n", ""),
            vec![
                "15:1: server.id: required\n  remedy: add id = \"…\", a name for this host that its clients know"
                    .to_owned(),
            ],
        ),
        (
            SECTIONS.replace("id = 1\n", ""),
            vec![
                "18:1: knock_key[0].id: required\n  remedy: add id = 1, or another number that no [[knock_key]] has"
                    .to_owned(),
            ],
        ),
    ] {
        let found = errors(&sealed(&sections));
        let expected: Vec<_> = expected.iter().map(|text| format!("jpat.toml:{text}")).collect();
        assert_eq!(found, expected, "{sections}");
    }
    // Of the wrong type is not missing.
    let wrong = sealed(knock_key).replace("mode = ", "server = 5\nmode = ");
    assert_eq!(errors(&wrong).len(), 1, "{:?}", errors(&wrong));
}

#[test]
fn p6_key_files_that_others_can_read_or_that_hold_no_key_are_refused() {
    let remedy = "correct the path (relative ones count from the configuration's directory) or the file's owner; `jpatd keygen --out DIR` makes keys";
    for (file, expected) in [
        (
            "loose",
            "others can read loose (mode 0644)\n  remedy: chmod 600 loose; in Kubernetes `defaultMode: 0400`".to_owned(),
        ),
        ("absent", format!("cannot read absent: No such file or directory (os error 2)\n  remedy: {remedy}")),
        ("../", format!("cannot read ../: not a regular file\n  remedy: {remedy}")),
        (
            "tight",
            "tight does not hold 32 bytes as base64url text (43 characters)\n  remedy: make keys with `jpatd keygen --out DIR`"
                .to_owned(),
        ),
        ("", "an empty path\n  remedy: name a file or directory".to_owned()),
    ] {
        let server = sealed(&SECTIONS.replace("server.key", file));
        assert_eq!(errors(&server), [format!("jpat.toml:17:9: server.keys[0]: {expected}")]);
        let knock_key = sealed(&SECTIONS.replace("knock-1.key", file));
        assert_eq!(errors(&knock_key), [format!("jpat.toml:21:8: knock_key[0].file: {expected}")]);
    }
}

#[test]
fn p6_a_key_file_of_another_user_is_refused() {
    let dir = directory();
    let (path, key) = (dir.path().join("jpat.toml"), dir.path().join("server.key"));
    fs::write(&path, sealed(SECTIONS)).unwrap();
    if std::os::unix::fs::chown(&key, Some(65_534), None).is_err() {
        eprintln!("skipped: to give a file away needs CAP_CHOWN");
        return;
    }
    let errors = Config::load(&path).unwrap_err();
    assert!(errors[0].to_string().contains("belongs to user 65534, who could change it"), "{}", errors[0]);
}

#[test]
fn ids_and_groups_keep_to_their_limits() {
    let second = "[[knock_key]]\nid = 1\ngroup = \"robots\"\nfile = \"knock-2.key\"\n";
    for (sections, expected) in [
        (
            format!("{SECTIONS}{second}"),
            "23:6: knock_key[1].id: 1 is already the id of the one in line 19\n  remedy: give each key a number of its own: clients name it in each knock",
        ),
        (
            SECTIONS.replace("id = 1", "id = 0"),
            "19:6: knock_key[0].id: 0 is out of range\n  remedy: use a number from 1 to 65535",
        ),
        (
            SECTIONS.replace("id = 1", "id = 65536"),
            "19:6: knock_key[0].id: 65536 is out of range\n  remedy: use a number from 1 to 65535",
        ),
        (
            SECTIONS.replace("web-1.example", "web 1"),
            "16:6: server.id: `web 1` is no server id\n  remedy: use 1 to 64 printable ASCII characters without spaces",
        ),
        (
            SECTIONS.replace("staff", "st/aff"),
            "20:9: knock_key[0].group: `st/aff` is no name\n  remedy: use 1 to 64 letters, digits, `.`, `_`, `-`, and no `.` in front",
        ),
    ] {
        assert_eq!(errors(&sealed(&sections)), [format!("jpat.toml:{expected}")], "{sections}");
    }
    let keys = |count: u32, groups: u32| {
        let mut sections = SECTIONS[..SECTIONS.find("[[knock_key]]").unwrap()].to_owned();
        for id in 1..=count {
            let group = id % groups;
            writeln!(sections, "[[knock_key]]\nid = {id}\ngroup = \"g{group}\"\nfile = \"knock-1.key\"").unwrap();
        }
        sealed(&sections)
    };
    assert_eq!(load(&keys(1024, 255)).0.groups().len(), 255);
    assert_eq!(
        errors(&keys(256, 256)),
        [
            "jpat.toml:1040:9: knock_key[255].group: `g0` is one group too many: there are budgets for 255\n  remedy: put several into one group"
        ]
    );
    assert_eq!(
        errors(&keys(1025, 1)),
        ["jpat.toml:18:1: knock_key: 1025 keys, and 1024 at most\n  remedy: let the clients of a group share one"]
    );
}
