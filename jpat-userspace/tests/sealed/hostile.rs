//! What was not sealed for this server, or not like this.

use std::net::IpAddr;

use jpat_userspace::{
    clock::UnixTime,
    knock::{
        MAX_PAYLOAD,
        proof::{Kind, PublicKey},
        reply::{Outcome, Reply, ReplyError},
        sealed::{
            ClientKey, KnockKey, Opened, Possession, Request, SealError, Server, ServerKey, Target, Verb, open, seal,
        },
    },
    refusal::Refusal,
};
use serde_json::{Value, json};

use crate::vectors::case::token;

const ID: &str = "web-1.example";
const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

struct Bench {
    server: Server,
    target: Target,
    source: IpAddr,
}

impl Bench {
    fn new() -> Self {
        let key = ServerKey::generate().unwrap();
        let target = Target { server: ID.to_owned(), public: key.public(), knock_key: KnockKey::generate(1).unwrap() };
        Self { server: Server { id: ID.to_owned(), keys: vec![key] }, target, source: "192.0.2.7".parse().unwrap() }
    }

    fn seal(&self, proof: Option<Possession<'_>>) -> Vec<u8> {
        let token = token(None);
        let request = Request { verb: Verb::Open, token: &token, services: &[], address: None, proof };
        seal(&request, &self.target, NOW).unwrap().0
    }

    fn open(&self, datagram: &[u8]) -> Result<Opened, Refusal> {
        open(datagram, self.source, &self.server)
    }

    /// What the XDP program checks of the tag.
    fn tag_is_right(&self, datagram: &[u8]) -> bool {
        datagram.len() >= 24 && self.target.knock_key.tag_key(ID).tag(datagram) == datagram[16..24]
    }
}

#[test]
fn p6_every_altered_byte_is_refused() {
    let bench = Bench::new();
    let datagram = bench.seal(None);
    assert!(bench.open(&datagram).is_ok() && bench.tag_is_right(&datagram));
    for at in 0..datagram.len() {
        let mut altered = datagram.clone();
        altered[at] ^= 1 << (at % 8);
        assert!(!bench.tag_is_right(&altered), "byte {at}: the tag");
        // The tag itself is the program's; for all the rest the controller needs no program in front of it.
        if !(16..24).contains(&at) {
            assert!(bench.open(&altered).is_err(), "byte {at}");
        }
    }
    // The highest bit of enc, which X25519 itself ignores (RFC 7748 §5).
    let mut altered = datagram;
    altered[24 + 31] ^= 0x80;
    assert_eq!(bench.open(&altered).unwrap_err(), Refusal::CannotOpen);
}

#[test]
fn p6_every_other_length_is_refused() {
    let bench = Bench::new();
    let datagram = bench.seal(None);
    for length in (0..datagram.len()).chain(datagram.len() + 1..MAX_PAYLOAD + 9) {
        let mut other = datagram.clone();
        other.resize(length, 0);
        assert!(!bench.tag_is_right(&other) && bench.open(&other).is_err(), "{length}");
    }
}

#[test]
fn p6_a_knock_opens_at_its_server_alone() {
    let bench = Bench::new();
    let datagram = bench.seal(None);
    let key = bench.server.keys[0].clone();
    let other_id = Server { id: "web-2.example".to_owned(), keys: vec![key] };
    assert_eq!(open(&datagram, bench.source, &other_id).unwrap_err(), Refusal::CannotOpen);
    let tag_there = bench.target.knock_key.tag_key("web-2.example").tag(&datagram);
    assert_ne!(tag_there, datagram[16..24]);
    let none = Server { id: ID.to_owned(), keys: vec![] };
    assert_eq!(open(&datagram, bench.source, &none).unwrap_err(), Refusal::UnknownServerKey);

    // Two keys with one hint are found among some hundreds.
    let mut seen = std::collections::BTreeMap::new();
    let (key, twin) = std::iter::repeat_with(|| ServerKey::generate().unwrap())
        .find_map(|key| seen.insert(key.hint(), key.clone()).map(|twin| (key, twin)))
        .unwrap();
    let target = Target { public: key.public(), ..bench.target.clone() };
    let datagram = Bench { target, ..Bench::new() }.seal(None);
    let twins = Server { id: ID.to_owned(), keys: vec![twin.clone()] };
    assert_eq!(open(&datagram, bench.source, &twins).unwrap_err(), Refusal::CannotOpen);
    let both = Server { id: ID.to_owned(), keys: vec![twin, key] };
    assert!(open(&datagram, bench.source, &both).is_ok());
}

#[test]
fn p6_a_knock_that_names_an_address_opens_for_no_other() {
    let bench = Bench::new();
    let token = token(None);
    for (named, right, wrong) in [
        ("192.0.2.7", &["192.0.2.7", "::ffff:192.0.2.7"][..], &["192.0.2.8", "::192.0.2.7", "2001:db8::1"][..]),
        ("2001:db8::1", &["2001:db8::1"], &["2001:db8::2", "192.0.2.7"]),
        ("::ffff:192.0.2.7", &["192.0.2.7"], &["192.0.2.8"]),
    ] {
        let address = Some(named.parse().unwrap());
        let request = Request { verb: Verb::Open, token: &token, services: &[], address, proof: None };
        let (datagram, _) = seal(&request, &bench.target, NOW).unwrap();
        for source in right {
            assert!(open(&datagram, source.parse().unwrap(), &bench.server).is_ok(), "{named} {source}");
        }
        for source in wrong {
            let refused = open(&datagram, source.parse().unwrap(), &bench.server).unwrap_err();
            assert_eq!(refused, Refusal::WrongAddress, "{named} {source}");
        }
    }
}

#[test]
fn p6_a_proof_serves_one_key_and_one_datagram() {
    let bench = Bench::new();
    for kind in [Kind::Ed25519, Kind::P256] {
        let (mine, other) = (ClientKey::generate(kind).unwrap(), ClientKey::generate(kind).unwrap());
        let jwk = |key: &ClientKey| json!({ "jwk": key.public().to_jwk() });
        let jkt = |key: &ClientKey| json!({ "jkt": key.public().thumbprint() });
        for by_thumbprint in [false, true] {
            let named = |key: &ClientKey| if by_thumbprint { jkt(key) } else { jwk(key) };
            let possession = Possession { key: &mine, by_thumbprint };
            let (one, two) = (bench.seal(Some(possession)), bench.seal(Some(possession)));
            let proof = |datagram: &[u8]| bench.open(datagram).unwrap().inner.proof.unwrap();
            assert_eq!(proof(&one).verify(&named(&mine)), Ok(()));
            assert_eq!(proof(&one).verify(&named(&other)), Err(Refusal::BadProof));
            assert_ne!(proof(&one), proof(&two));
            let swapped = if by_thumbprint { jwk(&mine) } else { jkt(&mine) };
            assert_eq!(proof(&one).verify(&swapped), Err(Refusal::BadProof));
        }
        let proof = bench.open(&bench.seal(Some(Possession { key: &mine, by_thumbprint: false }))).unwrap().inner.proof;
        let proof = proof.unwrap();
        let mut private: Value = serde_json::from_str(&mine.to_jwk().unwrap()).unwrap();
        let unknown = [
            json!({}),
            json!([]),
            json!("jwk"),
            Value::Null,
            json!({ "x5t#S256": "abc" }),
            json!({ "kid": "abc" }),
            json!({ "jwk": mine.public().to_jwk(), "kid": "abc" }),
            json!({ "jwk": mine.public().to_jwk(), "jkt": mine.public().thumbprint() }),
            json!({ "jwk": private }),
            json!({ "jwk": [mine.public().to_jwk()] }),
            json!({ "jwk": { "kty": "RSA", "n": "AQAB", "e": "AQAB" } }),
            json!({ "jkt": 1 }),
            json!({ "jkt": "short" }),
            json!({ "jkt": format!("{}=", mine.public().thumbprint()) }),
        ];
        for cnf in unknown {
            assert_eq!(proof.verify(&cnf), Err(Refusal::UnknownConfirmation), "{cnf}");
        }
        private["x"] = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        assert!(ClientKey::from_jwk(&private.to_string()).is_err(), "a public half of another key");
        private.as_object_mut().unwrap().remove("d");
        assert_eq!(
            proof.verify(&json!({ "jwk": private })),
            Err(Refusal::UnknownConfirmation),
            "not on the curve, or low"
        );
    }
}

#[test]
fn thumbprints_are_those_of_the_rfcs() {
    // RFC 8037 §A.3.
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    let key = PublicKey::from_jwk(&jwk).unwrap();
    assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    assert_eq!(PublicKey::from_jwk(&key.to_jwk()), Some(key));
}

#[test]
fn p1_a_reply_opens_with_its_own_knock_alone() {
    let bench = Bench::new();
    let token = token(None);
    let request = Request { verb: Verb::Open, token: &token, services: &[], address: None, proof: None };
    let ((one, mine), (_, other)) =
        (seal(&request, &bench.target, NOW).unwrap(), seal(&request, &bench.target, NOW).unwrap());
    let reply = Reply { outcome: Outcome::Refused("not_allowed".to_owned()), server_time: NOW };
    let answer = bench.open(&one).unwrap().ticket.seal(&reply).unwrap();
    assert_eq!(mine.open(&answer), Ok(reply.clone()));
    assert_eq!(other.open(&answer), Err(ReplyError::NotAReply));
    assert_eq!(mine.open(&one), Err(ReplyError::NotAReply));
    for at in 0..answer.len() {
        for bit in 0..8 {
            let mut altered = answer.clone();
            altered[at] ^= 1 << bit;
            assert!(mine.open(&altered).is_err(), "byte {at}");
        }
    }
    for length in (0..answer.len()).chain(answer.len() + 1..answer.len() + 40) {
        let mut altered = answer.clone();
        altered.resize(length, 0);
        assert!(mine.open(&altered).is_err(), "{length}");
    }
    let again = bench.open(&one).unwrap().ticket.seal(&reply).unwrap();
    assert_ne!(answer, again, "two replies to one datagram share no nonce");
}

#[test]
fn p1_a_reply_is_never_longer_than_the_knock() {
    let bench = Bench::new();
    let datagram = bench.seal(None);
    let services: Vec<_> = (0..200).map(|at| (format!("service-{at:03}"), NOW)).collect();
    let mut most = 0;
    for count in 0..=services.len() {
        let outcome = Outcome::Done { services: services[..count].to_vec(), repeated: true };
        let ticket = bench.open(&datagram).unwrap().ticket;
        let answer = ticket.clone().seal(&Reply { outcome, server_time: NOW }).unwrap();
        assert!(answer.len() <= datagram.len());
        let Outcome::Done { services: shown, repeated: true } = ticket.open(&answer).unwrap().outcome else { panic!() };
        assert_eq!(shown, services[..shown.len()]);
        assert!(shown.len() == count || answer.len() + 25 > datagram.len(), "left out without need");
        most = most.max(shown.len());
        if count > most + 3 {
            break;
        }
    }
    assert!(most > 5);
    let longest = Refusal::ALL.iter().map(|refusal| refusal.code().len()).max().unwrap();
    assert!(28 + 16 + 16 + longest <= jpat_common::sealed::MIN_PAYLOAD, "every code fits the shortest knock");
}

#[test]
fn a_client_sends_nothing_that_a_server_would_refuse() {
    let bench = Bench::new();
    let good = token(None);
    let sealed = |token: &str, services: &[&str], server: &str, now: UnixTime| {
        let services: Vec<_> = services.iter().map(|name| (*name).to_owned()).collect();
        let request = Request { verb: Verb::Open, token, services: &services, address: None, proof: None };
        let target = Target { server: server.to_owned(), ..bench.target.clone() };
        seal(&request, &target, now).map(|(datagram, _)| datagram.len())
    };
    assert!(sealed(&good, &["b", "a"], ID, NOW).is_ok());
    let spare_bits = format!("{}B", &good[..good.len() - 1]);
    let [padded, foreign, short, long, empty] =
        [format!("{good}="), good.replace('.', "+."), "a.b".to_owned(), format!("{good}.a"), "..".to_owned()];
    for bad in ["", "a.b.c", &spare_bits, &padded, &foreign, &short, &long, &empty, &format!(" {good}")] {
        assert_eq!(sealed(bad, &[], ID, NOW), Err(SealError::BadToken), "{bad}");
    }
    for bad in [&["a", "a"][..], &[""], &["a b"], &[".a"], &["ä"], &["a"; 17]] {
        assert_eq!(sealed(&good, bad, ID, NOW), Err(SealError::BadServices), "{bad:?}");
    }
    for bad in ["", "a b", "ä", &"a".repeat(65)] {
        assert_eq!(sealed(&good, &[], bad, NOW), Err(SealError::BadServerId(bad.to_owned())));
    }
    assert_eq!(sealed(&good, &[], ID, UnixTime(0)), Err(SealError::BadTime));
    assert_eq!(sealed("YQ.YQ.", &[], "w", NOW), Err(SealError::TooShort));
    let zero = Target { public: [0; 32], ..bench.target.clone() };
    let request = Request { verb: Verb::Open, token: &good, services: &[], address: None, proof: None };
    assert_eq!(seal(&request, &zero, NOW).map(drop), Err(SealError::BadServerKey));

    // Every size up to the limit goes; none above it does.
    let mut longest = 0;
    for more in 200..300 {
        match sealed(&format!("{good}{}", "AAAA".repeat(more)), &[], ID, NOW) {
            Ok(length) => {
                assert!(length <= MAX_PAYLOAD && length.is_multiple_of(8));
                longest = longest.max(length);
            }
            Err(SealError::TooLong { length }) => assert!(length > MAX_PAYLOAD),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(longest, MAX_PAYLOAD);
}
