//! What a client seals a server opens, and the reply the other way.

use std::net::IpAddr;

use jpat_userspace::{
    clock::UnixTime,
    knock::{
        proof::Kind,
        reply::{Outcome, Reply},
        sealed::{ClientKey, KnockKey, Possession, Request, Server, ServerKey, Target, Verb, open, seal},
    },
};
use serde_json::json;

#[test]
fn p6_a_bound_token_goes_there_and_an_answer_back() {
    let key = ServerKey::generate().unwrap();
    let target =
        Target { server: "web-1.example".to_owned(), public: key.public(), knock_key: KnockKey::generate(7).unwrap() };
    let server = Server { id: "web-1.example".to_owned(), keys: vec![ServerKey::generate().unwrap(), key] };
    let source: IpAddr = "192.0.2.7".parse().unwrap();
    for kind in [Kind::Ed25519, Kind::P256] {
        for by_thumbprint in [false, true] {
            let client = ClientKey::generate(kind).unwrap();
            let client = ClientKey::from_jwk(&client.to_jwk().unwrap()).unwrap();
            let services = ["ssh".to_owned(), "db".to_owned()];
            let request = Request {
                verb: Verb::Open,
                token: "eyJhIjoxfQ.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
                services: &services,
                address: Some(source),
                proof: Some(Possession { key: &client, by_thumbprint }),
            };
            let now = UnixTime::from_secs(1_800_000_000);
            let (datagram, ticket) = seal(&request, &target, now).unwrap();
            let opened = open(&datagram, source, &server).unwrap();
            assert_eq!(opened.inner.token, request.token);
            assert_eq!(opened.inner.services.as_deref(), Some(&["db".to_owned(), "ssh".to_owned()][..]));
            let jwk = json!({ "jwk": client.public().to_jwk() });
            let jkt = json!({ "jkt": client.public().thumbprint() });
            let (right, wrong) = if by_thumbprint { (&jkt, &jwk) } else { (&jwk, &jkt) };
            let proof = opened.inner.proof.unwrap();
            assert_eq!(proof.verify(right), Ok(()));
            assert!(proof.verify(wrong).is_err());
            let reply = Reply {
                outcome: Outcome::Done { services: vec![("db".to_owned(), now)], repeated: false },
                server_time: now,
            };
            let answer = opened.ticket.seal(&reply).unwrap();
            assert!(answer.len() <= datagram.len());
            assert_eq!(ticket.open(&answer), Ok(reply));
        }
    }
}
