//! What each step costs on one core: `cargo test --release -p jpat-userspace --test sealed -- --ignored --nocapture cost`.

use std::{hint::black_box, net::IpAddr};

use jpat_userspace::{
    clock::{self, UnixTime},
    knock::{
        header,
        proof::Kind,
        reply::{Outcome, Reply},
        sealed::{ClientKey, Inner, KnockKey, Possession, Request, Server, ServerKey, Target, Verb, open, seal},
    },
};
use serde_json::json;

use crate::vectors::case::token;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// Median of rounds, in microseconds.
#[expect(clippy::print_stdout, reason = "figures are what it is for")]
fn measure(name: &str, mut step: impl FnMut()) {
    let mut rounds: Vec<u64> = (0..200)
        .map(|_| {
            let start = clock::now().boot;
            for _ in 0..20 {
                step();
            }
            (clock::now().boot.0 - start.0) / 20
        })
        .collect();
    rounds.sort_unstable();
    println!("{name:<34} {:>8.2} us (p90 {:.2})", rounds[100] as f64 / 1e3, rounds[180] as f64 / 1e3);
}

#[test]
#[ignore = "measures; wants --release and an idle core"]
fn cost_of_each_step() {
    let key = ServerKey::generate().unwrap();
    let knock_key = KnockKey::generate(1).unwrap();
    let target = Target { server: "web-1.example".to_owned(), public: key.public(), knock_key: knock_key.clone() };
    let server = Server { id: "web-1.example".to_owned(), keys: vec![key] };
    let source: IpAddr = "192.0.2.7".parse().unwrap();
    let token = token(None);
    let plain = request(None, &token, source);
    let (datagram, ticket) = seal(&plain, &target, NOW).unwrap();
    println!("token {} bytes, datagram {} bytes", token.len(), datagram.len());
    measure("seal", || drop(black_box(seal(&plain, &target, NOW))));
    measure("open", || drop(black_box(open(&datagram, source, &server))));
    for (name, kind) in [("Ed25519", Kind::Ed25519), ("P-256", Kind::P256)] {
        let client = ClientKey::generate(kind).unwrap();
        let cnf = json!({ "jwk": client.public().to_jwk() });
        let bound = request(Some(Possession { key: &client, by_thumbprint: false }), &token, source);
        let (datagram, _) = seal(&bound, &target, NOW).unwrap();
        measure(&format!("seal with proof {name}"), || drop(black_box(seal(&bound, &target, NOW))));
        measure(&format!("open and proof {name}"), || {
            let opened = open(&datagram, source, &server).unwrap();
            opened.inner.proof.unwrap().verify(&cnf).unwrap();
        });
        let opened = open(&datagram, source, &server).unwrap();
        let proof = opened.inner.proof.unwrap();
        measure(&format!("proof {name} alone"), || proof.verify(&cnf).unwrap());
    }
    let mut altered = datagram.clone();
    *altered.last_mut().unwrap() ^= 1;
    measure("open, refused: altered", || assert!(open(&altered, source, &server).is_err()));
    let reply =
        Reply { outcome: Outcome::Done { services: vec![("ssh".to_owned(), NOW)], repeated: false }, server_time: NOW };
    measure("reply: seal", || drop(black_box(ticket.clone().seal(&reply))));
    let answer = ticket.clone().seal(&reply).unwrap();
    measure("reply: open", || drop(black_box(ticket.open(&answer))));
    measure("header alone", || assert!(black_box(header::parse(&datagram)).is_ok()));
    let tag_key = knock_key.tag_key("web-1.example");
    measure("tag alone", || assert_eq!(black_box(tag_key.tag(&datagram)), datagram[16..24]));
    let inner = inner_of(&token);
    measure("inner message alone", || drop(black_box(Inner::decode(&inner))));
}

fn request<'r>(proof: Option<Possession<'r>>, token: &'r str, source: IpAddr) -> Request<'r> {
    Request { verb: Verb::Open, token, services: &[], address: Some(source), proof }
}

fn inner_of(token: &str) -> Vec<u8> {
    let case = &crate::vectors::case::cases()[0];
    crate::vectors::case::padded(crate::reference::map(&crate::vectors::case::entries(case, token)))
}
