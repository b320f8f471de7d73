//! Sealed knocks of the program `jpat`, against a server that opens them and answers as it is told.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    net::{SocketAddr, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread::JoinHandle,
    time::Duration,
};

use jpat_userspace::{
    client::profile::Profile,
    clock::{self, UnixTime},
    knock::{
        inner::{Inner, Verb},
        reply::{Outcome, Reply},
        sealed::{self, KnockKey, Server, ServerKey},
    },
    secret_file::Secret,
};
use serde_json::{Value, json};

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
    assert!(seen.out.contains("; they were rejected: "), "{}", seen.out);
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

/// A directory with an issuer, a server's keys, a profile, and a place for a token.
struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Self {
        let lab = Self(tempfile::tempdir().unwrap());
        assert_eq!(jpat(&["issuer", "keys", "generate", "--dir", &lab.file("keys")]).code, DONE);
        let profile = Profile {
            path: PathBuf::new(),
            host: Some("127.0.0.1".parse().unwrap()),
            port: 9,
            reply: true,
            token_file: None,
            client_key: None,
            address: None,
            server_id: ID.into(),
            server_keys: vec![lab.server().keys[0].public()],
            knock_key_id: 1,
            knock_key: Secret::new([3; 32]),
        };
        jpat_userspace::secret_file::create(Path::new(&lab.profile_file()), profile.render().as_bytes()).unwrap();
        lab
    }

    fn server(&self) -> Server {
        Server { id: ID.into(), keys: vec![ServerKey::from_bytes(&[7; 32]).unwrap()] }
    }

    fn file(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn profile_file(&self) -> String {
        self.file("profile.toml")
    }

    /// Signs a token into the token file.
    fn sign(&self, extra: &[&str]) -> String {
        let dir = self.file("keys");
        let fixed = ["issuer", "sign", "--dir", &dir, "--issuer", "https://tokens.example", "--audience", "jpat://lab"];
        let seen = jpat(&fixed.iter().chain(&["--subject", "employee:1"]).chain(extra).collect::<Vec<_>>());
        assert_eq!((seen.code, &*seen.err), (DONE, ""));
        fs::write(self.file("token"), &seen.out).unwrap();
        seen.out.trim_end().to_owned()
    }

    fn run(&self, port: u16, extra: &[&str]) -> Seen {
        let (port, token, profile) = (port.to_string(), self.file("token"), self.profile_file());
        let fixed = ["knock", "127.0.0.1", "--knock-port", &port, "--token-file", &token, "--profile", &profile];
        jpat(&fixed.iter().chain(extra).collect::<Vec<_>>())
    }

    /// A knock that is answered at once, and what was in it.
    fn knock(&self, extra: &[&str], outcome: impl Fn(UnixTime) -> Outcome + Send + 'static) -> (Seen, Vec<Inner>) {
        let server = Answering::start(self.server(), Answers { after: 0, ahead: 0, outcome: Box::new(outcome) });
        let seen = self.run(server.port, extra);
        (seen, server.end().1)
    }
}

/// How knocks are answered.
struct Answers {
    /// This many are not.
    after: usize,
    /// Seconds that the server's clock is ahead.
    ahead: u64,
    outcome: Box<dyn Fn(UnixTime) -> Outcome + Send>,
}

/// A server in a thread, until the end.
struct Answering {
    port: u16,
    stop: mpsc::Sender<()>,
    thread: JoinHandle<(Vec<Vec<u8>>, Vec<Inner>)>,
}

impl Answering {
    fn start(server: Server, answers: Answers) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let port = socket.local_addr().unwrap().port();
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let (mut datagrams, mut inners) = (Vec::new(), Vec::new());
            let tag = KnockKey::new(1, [3; 32]).tag_key(ID);
            let mut buffer = [0; 2048];
            loop {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    match stopped.try_recv() {
                        Ok(()) => return (datagrams, inners),
                        Err(_) => continue,
                    }
                };
                let datagram = buffer[..length].to_vec();
                assert_eq!(tag.tag(&datagram), datagram[16..24], "the filter would take it");
                let opened = sealed::open(&datagram, from.ip(), &server).unwrap();
                datagrams.push(datagram);
                inners.push(opened.inner);
                if inners.len() > answers.after {
                    let server_time = clock::now().unix.after(Duration::from_secs(answers.ahead));
                    let reply = Reply { outcome: (answers.outcome)(server_time), server_time };
                    socket.send_to(&opened.ticket.seal(&reply).unwrap(), from).unwrap();
                }
            }
        });
        Self { port, stop, thread }
    }

    fn end(self) -> (Vec<Vec<u8>>, Vec<Inner>) {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap()
    }
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..length].to_vec(), from)
}

fn done(services: &[(&str, UnixTime)]) -> Outcome {
    let services: BTreeMap<_, _> = services.iter().map(|(name, end)| ((*name).to_owned(), *end)).collect();
    Outcome::Done { services: services.into_iter().collect(), repeated: false }
}

struct Seen {
    code: i32,
    out: String,
    err: String,
}

impl Seen {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("no JSON: {} {}", self.out, self.err))
    }
}

fn jpat(arguments: &[impl AsRef<OsStr>]) -> Seen {
    Seen::of(command().args(arguments).output().unwrap())
}

fn command() -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_jpat")));
    for name in ["JPAT_TOKEN_FILE", "JPAT_KNOCK_PORT", "JPAT_ISSUER_DIR", "JPAT_PROFILE", "XDG_CONFIG_HOME"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}
