//! A worker with sealed knocks: what it opens, in which order it refuses, and who may be answered.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use jpat_userspace::{
    clock::{BootTime, Now, UnixTime},
    config::{self, Config, ReplayMode, SourceBinding},
    knock::{
        Body, Form, Knock, Peer,
        proof::Kind,
        sealed::{self, ClientKey, KnockKey, Possession, Request, Server, ServerKey, Target, Verb},
    },
    policy::Policy,
    refusal::Refusal,
    snapshot::Snapshot,
    verify::{CLOCK_WINDOW, Judged, NoRecord, Outcome, judge},
};

use crate::bench::{Bench, NOW, claims};

const HERE: &str = "192.0.2.7";

/// A server with two services, its issuer, and a client with a key.
struct Post {
    bench: Bench,
    server: Arc<Server>,
    target: Target,
    client: ClientKey,
}

/// What a client asks for, and how it came.
struct Ask<'a> {
    token: String,
    verb: Verb,
    services: &'a [&'a str],
    address: Option<&'a str>,
    by_thumbprint: Option<bool>,
    time: UnixTime,
    source: &'a str,
}

impl Post {
    fn new() -> Self {
        let bench = Bench::new().issuer(|issuer| {
            issuer.accept.insert(Form::Sealed);
        });
        let key = ServerKey::generate().unwrap();
        let target =
            Target { server: "web-1.example".to_owned(), public: key.public(), knock_key: KnockKey::new(1, [7; 32]) };
        let server = Arc::new(Server { id: target.server.clone(), keys: vec![key] });
        let mut post = Self { bench, server, target, client: ClientKey::generate(Kind::Ed25519).unwrap() };
        let config = &mut post.bench.config;
        config.server = Some(config::Server { id: "web-1.example".to_owned(), keys: Vec::new(), reply: true });
        config.services[0].allow = "knock.form == 'sealed'".to_owned();
        let bound =
            config::Service { name: "vault".to_owned(), allow: "knock.proof".to_owned(), ..config.services[0].clone() };
        config.services.push(bound);
        post
    }

    fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.bench.config);
        self
    }

    fn jkt(&self) -> String {
        self.token(&format!("{{\"jkt\":\"{}\"}}", self.client.public().thumbprint()))
    }

    /// A token with this `cnf`.
    fn token(&self, cnf: &str) -> String {
        self.bench.token(&claims().set("cnf", cnf))
    }

    fn judge(&self, ask: &Ask<'_>) -> Judged {
        let services: Vec<_> = ask.services.iter().map(|name| (*name).to_owned()).collect();
        let request = Request {
            verb: ask.verb,
            token: &ask.token,
            services: &services,
            address: ask.address.map(ip),
            proof: ask.by_thumbprint.map(|by_thumbprint| Possession { key: &self.client, by_thumbprint }),
        };
        let (datagram, _) = sealed::seal(&request, &self.target, ask.time).unwrap();
        self.deliver(datagram, ask.source)
    }

    fn deliver(&self, datagram: Vec<u8>, source: &str) -> Judged {
        deliver(&self.snapshot(), self.bench.now, datagram, source)
    }

    fn snapshot(&self) -> Snapshot {
        let ids: BTreeMap<String, u32> = [("listings".to_owned(), 7), ("vault".to_owned(), 8)].into();
        let config = &self.bench.config;
        Snapshot {
            generation: 1,
            server: config.server.as_ref().map(|_| Arc::clone(&self.server)),
            policy: Arc::new(Policy::compile(config, &ids).unwrap()),
            config: Arc::new(config.clone()),
            keys: Arc::new(self.bench.ring.clone()),
            service_ids: Arc::new(ids),
        }
    }

    /// The services that it opens, or the refusal; and whether the sender may be told.
    #[track_caller]
    fn told(&self, ask: &Ask<'_>) -> (Result<Vec<String>, Refusal>, bool) {
        let judged = self.judge(ask);
        let may_tell = judged.sealed.as_ref().is_some_and(|sealed| sealed.accepted);
        assert_eq!(judged.sealed.is_some_and(|sealed| sealed.ticket.is_some()), self.bench.config.server.is_some());
        match judged.outcome {
            Outcome::Allowed(allowed) => {
                (Ok(allowed.openings.iter().map(|opening| opening.name.to_string()).collect()), may_tell)
            }
            Outcome::Denied(denied) => (Err(denied.refusal), may_tell),
        }
    }
}

fn deliver(snapshot: &Snapshot, now: Now, datagram: Vec<u8>, source: &str) -> Judged {
    let peer = Peer { source: (ip(source), 4_000).into(), destination: (ip("198.51.100.1"), 1_337).into() };
    let (form, body, received) = (Form::Sealed, Body::Sealed(datagram.into()), BootTime(1));
    let knock = Knock { form, body, group: 1, source: ip(source), peer, received };
    judge(&knock, snapshot, now, &mut NoRecord)
}

fn ask<'a>(token: String) -> Ask<'a> {
    Ask {
        token,
        verb: Verb::Open,
        services: &[],
        address: None,
        by_thumbprint: None,
        time: UnixTime::from_secs(NOW),
        source: HERE,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn open(names: &[&str]) -> (Result<Vec<String>, Refusal>, bool) {
    (Ok(names.iter().map(|name| (*name).to_owned()).collect()), true)
}

#[test]
fn p6_a_token_that_is_bound_to_a_key_needs_its_proof() {
    let post = Post::new();
    let jwk = || post.token(&format!("{{\"jwk\":{}}}", post.client.public().to_jwk()));
    let with = |token: String, by_thumbprint| post.told(&Ask { by_thumbprint, ..ask(token) });
    assert_eq!(with(post.bench.good(), None), open(&["listings"]));
    assert_eq!(with(post.jkt(), Some(true)), open(&["listings", "vault"]), "knock.proof");
    assert_eq!(with(jwk(), Some(false)), open(&["listings", "vault"]));
    for (why, token, by_thumbprint, refusal) in [
        ("none sent", post.jkt(), None, Refusal::ProofMissing),
        ("no cnf to prove", post.bench.good(), Some(true), Refusal::BadProof),
        ("jkt without the key", post.jkt(), Some(false), Refusal::BadProof),
        ("jwk with a key beside it", jwk(), Some(true), Refusal::BadProof),
        ("x5t#S256", post.token("{\"x5t#S256\":\"abc\"}"), Some(true), Refusal::UnknownConfirmation),
        ("two members", post.token("{\"jkt\":\"a\",\"kid\":\"b\"}"), Some(true), Refusal::UnknownConfirmation),
        ("null", post.token("null"), Some(true), Refusal::UnknownConfirmation),
    ] {
        assert_eq!(with(token, by_thumbprint), (Err(refusal), false), "{why}: no answer either");
    }
    let thief = Post { client: ClientKey::generate(Kind::P256).unwrap(), ..post };
    let stolen = thief.bench.token(&claims().set("cnf", &format!("{{\"jkt\":\"{}\"}}", "A".repeat(43))));
    assert_eq!(thief.told(&Ask { by_thumbprint: Some(true), ..ask(stolen) }), (Err(Refusal::BadProof), false));
}

#[test]
fn p6_replay_proof_asks_every_token_for_one() {
    let post = Post::new().config(|config| config.issuers[0].replay = ReplayMode::Proof);
    assert_eq!(post.told(&ask(post.bench.good())), (Err(Refusal::NoConfirmation), false));
    assert_eq!(post.told(&Ask { by_thumbprint: Some(true), ..ask(post.jkt()) }), open(&["listings", "vault"]));
    let denied = post.bench.verify(&post.bench.good()).unwrap_err();
    assert_eq!(denied.refusal, Refusal::NoConfirmation, "bare");
}

#[test]
fn p6_a_bound_address_must_be_the_one_that_it_came_from() {
    for (binding, none) in
        [(SourceBinding::Observed, open(&["listings"])), (SourceBinding::Strict, (Err(Refusal::NoAddress), true))]
    {
        let post = Post::new().config(|config| config.issuers[0].source_binding = binding);
        let from = |address, source| post.told(&Ask { address, source, ..ask(post.bench.good()) });
        assert_eq!(from(None, HERE), none, "{binding:?}");
        assert_eq!(from(Some(HERE), HERE), open(&["listings"]), "{binding:?}");
        assert_eq!(from(Some("2001:db8::7"), "2001:db8::7"), open(&["listings"]), "{binding:?}");
    }
    let post = Post::new();
    let judged = post.judge(&Ask { address: Some(HERE), source: "192.0.2.8", ..ask(post.bench.good()) });
    assert!(judged.sealed.is_none(), "a stranger to all that we know");
    assert!(matches!(judged.outcome, Outcome::Denied(denied) if denied.refusal == Refusal::WrongAddress));
}

#[test]
fn p6_the_clock_counts_after_the_token() {
    let post = Post::new();
    let window = i64::try_from(CLOCK_WINDOW.as_millis()).unwrap();
    let at = |ms: i64, token| {
        let time = UnixTime(UnixTime::from_secs(NOW).0.strict_add_signed(ms * 1_000_000));
        post.told(&Ask { time, ..ask(token) })
    };
    for ms in [-window, 0, window] {
        assert_eq!(at(ms, post.bench.good()), open(&["listings"]), "{ms}");
    }
    for ms in [-window - 1, window + 1, 290_000, -290_000] {
        assert_eq!(at(ms, post.bench.good()), (Err(Refusal::ClockSkew), true), "{ms}");
        let expired = post.bench.token(&claims().set("exp", "1"));
        assert_eq!(at(ms, expired), (Err(Refusal::Expired), false), "{ms}: no answer to who has no good token");
    }
}

#[test]
fn services_that_are_named_are_given_all_or_none() {
    let post = Post::new();
    let named = |services: &[&str], verb| post.judge(&Ask { services, verb, ..ask(post.bench.good()) });
    let names = |judged: Judged| match judged.outcome {
        Outcome::Allowed(allowed) => Ok(allowed.openings.iter().map(|one| one.name.to_string()).collect::<Vec<_>>()),
        Outcome::Denied(denied) => Err((denied.refusal, denied.rule)),
    };
    assert_eq!(names(named(&["listings"], Verb::Open)), Ok(vec!["listings".to_owned()]));
    for (services, missing) in [(&["listings", "vault"][..], "vault"), (&["nothing"], "nothing")] {
        for verb in [Verb::Open, Verb::Renew] {
            assert_eq!(names(named(services, verb)), Err((Refusal::NotAllowed, Some(missing.to_owned()))));
        }
        // The policy has no say in who leaves.
        let closing = named(services, Verb::Close);
        assert_eq!(closing.sealed.as_ref().unwrap().wanted.as_ref().unwrap().len(), services.len());
        assert_eq!(names(closing), Ok(vec![]));
    }
}

#[test]
fn p1_nobody_is_answered_where_replies_are_off_or_no_server_is() {
    let mut post = Post::new().config(|config| config.server.as_mut().unwrap().reply = false);
    let judged = post.judge(&ask(post.bench.good()));
    assert!(matches!(judged.outcome, Outcome::Allowed(_)) && judged.sealed.unwrap().ticket.is_none());
    post.bench.config.server = None;
    let judged = post.judge(&ask(post.bench.good()));
    assert!(judged.sealed.is_none());
    assert!(matches!(judged.outcome, Outcome::Denied(denied) if denied.refusal == Refusal::UnknownServerKey));
}

#[test]
fn p1_a_stranger_to_the_issuer_is_never_answered() {
    let post = Post::new();
    let foreign = Bench::new().good();
    assert_eq!(post.told(&ask(foreign)), (Err(Refusal::BadSignature), false));
    let elsewhere = post.bench.token(&claims().set("aud", "\"jpat://other\""));
    assert_eq!(post.told(&ask(elsewhere)), (Err(Refusal::WrongAudience), false));
    let only_bare = Post::new().config(|config| {
        config.issuers[0].accept.remove(&Form::Sealed);
    });
    assert_eq!(only_bare.told(&ask(only_bare.bench.good())), (Err(Refusal::FormNotAccepted), false));
}

/// Every byte and every length of a captured knock changed: never accepted, never anybody to answer.
#[test]
fn p6_a_captured_knock_that_was_altered_opens_nothing() {
    let post = Post::new();
    let token = post.jkt();
    let request = Request {
        verb: Verb::Open,
        token: &token,
        services: &[],
        address: None,
        proof: Some(Possession { key: &post.client, by_thumbprint: true }),
    };
    let (datagram, _) = sealed::seal(&request, &post.target, UnixTime::from_secs(NOW)).unwrap();
    let (snapshot, now) = (post.snapshot(), post.bench.now);
    assert!(matches!(post.deliver(datagram.clone(), HERE).outcome, Outcome::Allowed(_)));
    let mut tried = 0;
    // The tag (offset 16, eight bytes) is the filter's: nothing behind it looks at it.
    for at in (0..datagram.len()).filter(|at| !(16..24).contains(at)) {
        for flip in [0x01, 0x80] {
            let mut altered = datagram.clone();
            altered[at] ^= flip;
            let judged = deliver(&snapshot, now, altered, HERE);
            assert!(matches!(judged.outcome, Outcome::Denied(_)) && judged.sealed.is_none(), "byte {at}");
            tried += 1;
        }
    }
    for length in (0..datagram.len()).chain(datagram.len() + 1..datagram.len() + 17) {
        let mut altered = datagram.clone();
        altered.resize(length, 0);
        let judged = deliver(&snapshot, now, altered, HERE);
        assert!(matches!(judged.outcome, Outcome::Denied(_)) && judged.sealed.is_none(), "length {length}");
        tried += 1;
    }
    println!("{tried} altered copies of a knock of {} bytes: none opened", datagram.len());
    let other = Arc::new(Server { id: "web-2.example".to_owned(), keys: post.server.keys.clone() });
    let judged = Post { server: other, ..post }.deliver(datagram, HERE);
    assert!(matches!(judged.outcome, Outcome::Denied(denied) if denied.refusal == Refusal::CannotOpen));
    assert_eq!(CLOCK_WINDOW, Duration::from_secs(30));
}
