//! Sealed knocks of the program `jpat`, against a server that opens them and answers as it is told.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod lab;

use std::{fs, net::UdpSocket, os::unix::fs::PermissionsExt, time::Duration};

use jpat_userspace::{
    clock::{self, UnixTime},
    knock::{
        inner::Verb,
        reply::{Outcome, Reply},
        sealed,
    },
};
use serde_json::json;

use crate::lab::{Answering, Answers, Lab, Seen, command, done, jpat, receive};

const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const ID: &str = "web-1.example";

#[test]
fn a_profile_makes_a_sealed_knock_and_the_reply_is_told() {
    let lab = Lab::new();
    let token = lab.sign(&[]);
    let (seen, inners) = lab.knock(&[], |now| done(&[("commerce-listings", now.after(Duration::from_secs(30)))]));
    assert_eq!((seen.code, &*seen.err), (DONE, ""));
    assert!(seen.out.starts_with("opened commerce-listings for 30 s (until "), "{}", seen.out);
    let [inner] = &inners[..] else { panic!("{} datagrams", inners.len()) };
    assert_eq!((&inner.token, &*inner.server, inner.verb), (&token, ID, Verb::Open));
    assert_eq!((&inner.services, inner.address, inner.proof.is_some()), (&None, None, false));
}

#[test]
fn what_is_asked_for_is_inside_the_seal() {
    let lab = Lab::new();
    lab.sign(&[]);
    let wish = ["--renew", "--service", "web", "--service", "db", "--address", "auto"];
    let (seen, inners) = lab.knock(&wish, |now| done(&[("db", now.after(Duration::from_secs(60)))]));
    assert!(seen.out.starts_with("renewed db for 60 s (until "), "{} {}", seen.out, seen.err);
    assert_eq!(inners[0].verb, Verb::Renew);
    assert_eq!(inners[0].services.as_ref().unwrap(), &["db", "web"]);
    assert_eq!(inners[0].address, Some("127.0.0.1".parse().unwrap()));
    let (seen, inners) = lab.knock(&["--close"], |_| done(&[("db", UnixTime(0))]));
    assert_eq!((seen.code, &*seen.out, inners[0].verb), (DONE, "closed db\n", Verb::Close));
}

#[test]
fn a_refusal_is_exit_code_1_with_its_code_and_words() {
    let lab = Lab::new();
    lab.sign(&[]);
    let (seen, _) = lab.knock(&[], |_| Outcome::Refused("not_allowed".into()));
    assert_eq!((seen.code, &*seen.err), (FAILED, ""));
    assert!(
        seen.out.starts_with("refused: not_allowed (no service's policy ") && seen.out.ends_with(")\n"),
        "{}",
        seen.out
    );
    // And nobody waits for what will not open.
    let (seen, _) = lab.knock(&["--wait", "tcp/9", "--wait-timeout", "600s"], |_| Outcome::Refused("denied".into()));
    assert_eq!(seen.code, FAILED);
}

#[test]
fn a_clock_that_differs_is_told_by_how_much() {
    let lab = Lab::new();
    lab.sign(&[]);
    let server = Answering::start(
        lab.server(),
        Answers { after: 0, ahead: 94, outcome: Box::new(|_| Outcome::Refused("clock_skew".into())) },
    );
    let seen = lab.run(server.port, &[]);
    assert_eq!(seen.code, FAILED);
    assert!(seen.out.starts_with("refused: clock_skew"), "{}", seen.out);
    assert_eq!(seen.err, "your clock is 94 s behind the server's\n");
}

#[test]
fn p6_a_lost_reply_is_asked_for_with_a_knock_sealed_afresh() {
    let lab = Lab::new();
    lab.sign(&[]);
    let opened = |now: UnixTime| done(&[("web", now.after(Duration::from_secs(30)))]);
    let server = Answering::start(lab.server(), Answers { after: 2, ahead: 0, outcome: Box::new(opened) });
    let seen = lab.run(server.port, &[]);
    assert_eq!(seen.code, DONE);
    assert!(seen.out.starts_with("opened web for 30 s"), "{}", seen.out);
    let told =
        "no reply from 127.0.0.1 yet: knocking again (2 of 3)\nno reply from 127.0.0.1 yet: knocking again (3 of 3)\n";
    assert_eq!(seen.err, told);
    let (datagrams, inners) = server.end();
    assert_eq!(datagrams.len(), 3);
    for (at, one) in datagrams.iter().enumerate() {
        // Type and key are the same; time, tag, encapsulated key and all that follows are not.
        assert!(datagrams[..at].iter().all(|other| other[16..] != one[16..] && other[24..56] != one[24..56]));
    }
    let nonces: std::collections::BTreeSet<_> = inners.iter().map(|inner| inner.nonce).collect();
    assert_eq!(nonces.len(), 3);
}

#[test]
fn p1_a_server_that_does_not_answer_is_told_as_what_is_known() {
    let lab = Lab::new();
    lab.sign(&[]);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let seen = lab.run(port, &["--timeout", "30ms"]);
    assert_eq!(seen.code, DONE);
    let told = format!(" bytes to 127.0.0.1 udp/{port}, 3 times; the server does not answer\n");
    assert!(seen.out.starts_with("sent ") && seen.out.ends_with(&told), "{}", seen.out);
    // Nobody waits where nothing can come.
    let seen = lab.run(port, &["--timeout", "0s"]);
    let told = format!(" bytes to 127.0.0.1 udp/{port}; the server does not answer\n");
    assert!(seen.code == DONE && seen.out.ends_with(&told) && seen.err.is_empty(), "{}", seen.out);
    let seen = lab.run(port, &["--timeout", "30ms", "-o", "json"]).json();
    assert_eq!((&seen["outcome"], &seen["sent"][0]["times"]), (&json!("sent"), &json!(3)));
    drop(silent);
    let seen = lab.run(port, &["--timeout", "1s"]);
    assert!(seen.out.contains("; the server does not answer, and the network says: "), "{}", seen.out);
}

#[test]
fn p6_only_the_server_that_the_knock_was_for_can_answer() {
    let lab = Lab::new();
    lab.sign(&[]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let server = lab.server();
    let liar = std::thread::spawn(move || {
        let (datagram, from) = receive(&socket);
        let opened = sealed::open(&datagram, from.ip(), &server).unwrap();
        let reply = Reply { outcome: done(&[("web", clock::now().unix)]), server_time: clock::now().unix };
        let good = opened.ticket.seal(&reply).unwrap();
        let mut bad = vec![datagram, vec![0; 64], Vec::new(), good[..good.len() - 1].to_vec()];
        bad.extend((0..good.len()).map(|at| {
            let mut altered = good.clone();
            altered[at] ^= 1;
            altered
        }));
        for datagram in bad {
            socket.send_to(&datagram, from).unwrap();
        }
        socket
    });
    let seen = lab.run(port, &["--timeout", "300ms"]);
    assert!(seen.code == DONE && seen.out.ends_with("the server does not answer\n"), "{} {}", seen.out, seen.err);
    liar.join().unwrap();
}

#[test]
fn json_has_everything_the_reply_has() {
    let lab = Lab::new();
    lab.sign(&[]);
    let (seen, _) = lab.knock(&["-o", "json"], |now| done(&[("web", now.after(Duration::from_secs(30)))]));
    let told = seen.json();
    assert_eq!((&told["version"], &told["outcome"], &told["form"]), (&json!(1), &json!("opened"), &json!("sealed")));
    let reply = &told["sent"][0]["reply"];
    assert_eq!((&reply["outcome"], &reply["services"][0]["name"]), (&json!("done"), &json!("web")));
    assert!((29.0..=30.0).contains(&reply["services"][0]["seconds"].as_f64().unwrap()), "{reply}");
    assert!(reply["server"]["ahead_seconds"].as_f64().unwrap().abs() < 5.0, "{reply}");
    let (seen, _) = lab.knock(&["-o", "json"], |_| Outcome::Refused("not_allowed".into()));
    assert_eq!((seen.code, seen.out.lines().count(), &*seen.err), (FAILED, 1, ""));
    let told = seen.json();
    assert_eq!((&told["outcome"], &told["sent"][0]["reply"]["reason"]), (&json!("refused"), &json!("not_allowed")));
}

#[test]
fn p6_a_bound_token_is_sent_with_a_proof_of_its_key_alone() {
    let lab = Lab::new();
    for (alg, form) in [("EdDSA", "jkt"), ("EdDSA", "jwk"), ("ES256", "jkt"), ("ES256", "jwk")] {
        let key = lab.file(&format!("{alg}-{form}.jwk"));
        let made = jpat(&["keygen", "--alg", alg, "--out", &key, "-o", "json"]).json();
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(made["public"].get("d").is_none());
        let token = lab.sign(&["--cnf", &key, "--cnf-form", form]);
        assert!(!token.contains("\"d\""));
        let seen = lab.run(9, &["--timeout", "0s"]);
        assert!(seen.code == FAILED && seen.err.contains("bound to a key (cnf)"), "{}", seen.err);
        let (seen, inners) = lab.knock(&["--key", &key], |now| done(&[("web", now.after(Duration::from_secs(30)))]));
        assert_eq!(seen.code, DONE, "{} {}", seen.out, seen.err);
        assert!(inners[0].proof.is_some(), "{alg} {form}");
        let other = lab.file(&format!("{alg}-{form}-other.jwk"));
        assert_eq!(jpat(&["keygen", "--alg", alg, "--out", &other]).code, DONE);
        let seen = lab.run(9, &["--key", &other]);
        assert!(seen.code == FAILED && seen.err.contains("bound to another key"), "{}", seen.err);
        assert_eq!(jpat(&["keygen", "--out", &key]).code, FAILED, "never overwritten");
    }
    // A key that the token does not ask for is not shown to anybody.
    let token = lab.sign(&[]);
    let (_, inners) = lab.knock(&["--key", &lab.file("EdDSA-jkt.jwk")], |_| done(&[]));
    assert!(inners[0].proof.is_none() && inners[0].token == token);
}

#[test]
fn profiles_are_found_by_path_by_name_and_by_host() {
    let lab = Lab::new();
    lab.sign(&[]);
    let config = lab.0.path().join("config");
    fs::create_dir_all(config.join("jpat")).unwrap();
    for name in ["work.toml", "127.0.0.1.toml"] {
        fs::copy(lab.profile_file(), config.join("jpat").join(name)).unwrap();
    }
    let token = lab.file("token");
    for (arguments, profile) in [
        (&["127.0.0.1"][..], None),
        (&["127.0.0.1", "--profile", "work"], None),
        (&["127.0.0.1"], Some("work")),
        (&["--profile", "work"], None),
    ] {
        let server = Answering::start(lab.server(), Answers { after: 0, ahead: 0, outcome: Box::new(|_| done(&[])) });
        let mut command = command();
        command.env("XDG_CONFIG_HOME", &config).args(["knock", "--token-file", &token]).args(arguments);
        command.args(["--knock-port", &server.port.to_string()]);
        profile.map(|profile| command.env("JPAT_PROFILE", profile));
        let seen = Seen::of(command.output().unwrap());
        assert_eq!((seen.code, &*seen.err), (DONE, ""), "{arguments:?}");
    }
    let mut command = command();
    command.env("XDG_CONFIG_HOME", &config).args(["knock", "web-2", "--token-file", &token]);
    let seen = Seen::of(command.output().unwrap());
    assert_eq!(seen.code, USAGE);
    assert!(seen.err.starts_with("jpat: no profile of the server web-2: give --profile FILE"), "{}", seen.err);
    let mut command = self::command();
    command.args(["knock", "127.0.0.1", "--profile", "nobody", "--token-file", &token]);
    let seen = Seen::of(command.output().unwrap());
    assert!(
        seen.code == FAILED && seen.err.contains("nobody.toml") && seen.err.contains("client-config"),
        "{}",
        seen.err
    );
}

#[test]
fn p6_a_profile_that_others_can_read_is_refused() {
    let lab = Lab::new();
    lab.sign(&[]);
    fs::set_permissions(lab.profile_file(), fs::Permissions::from_mode(0o644)).unwrap();
    let seen = lab.run(9, &[]);
    assert_eq!(seen.code, FAILED);
    assert!(seen.err.contains("others can read ") && seen.err.contains("chmod 600"), "{}", seen.err);
}
