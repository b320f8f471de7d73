//! What is inside a sealed knock, once it has been opened; and the message of a reply.

mod model;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::LazyLock,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable,
    aead::ChaCha20Poly1305,
    kdf::HkdfSha256,
    kem::X25519HkdfSha256,
    rand_core::{TryCryptoRng, TryRng},
    setup_receiver, setup_sender_with_rng,
};
use jpat_userspace::{
    clock::UnixTime,
    knock::{
        MAX_PAYLOAD, header,
        inner::{Inner, Verb},
        reply::{Outcome, Reply, ReplyTicket},
        sealed::{self, Fresh, KnockKey, Opened, Request, Server, ServerKey, Target},
    },
    refusal::Refusal,
};

/// Id of the server that messages are for.
pub const SERVER: &str = "web-1.example";
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 5));
const FRESH: Fresh = Fresh { nonce: [7; 16], ikm: [9; 32] };
const MIN_PLAINTEXT: usize = 128 - 56 - 16;
const MAX_PLAINTEXT: usize = MAX_PAYLOAD - 56 - 16;

static HOST: LazyLock<Server> = LazyLock::new(|| {
    let key = ServerKey::from_bytes(&[5; 32]).expect("32 bytes are a key");
    Server { id: SERVER.to_owned(), keys: vec![key] }
});

/// Of a knock of the most bytes.
static TICKET: LazyLock<ReplyTicket> = LazyLock::new(|| {
    let plaintext = [1, MAX_PLAINTEXT - 200].map(|length| URL_SAFE_NO_PAD.encode(vec![b'x'; length]));
    let token = format!("{}.", plaintext.join("."));
    let request = Request { verb: Verb::Open, token: &token, services: &[], address: None, proof: None };
    let (_, ticket) = sealed::seal_with(&request, &target(SERVER), UnixTime(1_000_000), &FRESH).expect("it fits");
    ticket
});

/// The plaintext is what was found.
pub fn fuzz(data: &[u8]) {
    reply(data);
    let (read, expected) = (Inner::decode(data), model::read(data));
    match (&read, &expected) {
        (Ok(inner), Some(message)) => {
            is_same(inner, message);
            if (MIN_PLAINTEXT..=MAX_PLAINTEXT).contains(&data.len()) {
                travels(data, inner);
            }
        }
        (Err(refusal), None) => assert_eq!(*refusal, Refusal::BadInner),
        (Ok(_), None) | (Err(_), Some(_)) => panic!("{read:?}, but {expected:?}"),
    }
}

fn is_same(inner: &Inner, message: &model::Message) {
    assert_eq!((inner.time_ms, inner.nonce.as_slice()), (message.time_ms, message.nonce.as_slice()));
    assert_eq!((&inner.server, &inner.services), (&message.server, &message.services));
    assert_eq!((inner.address, inner.proof.is_some()), (message.address, message.proof.is_some()));
    assert_eq!(inner.verb, [Verb::Open, Verb::Renew, Verb::Close][message.verb as usize - 1]);
    let token = message.token.each_ref().map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    assert_eq!(inner.token, token);
}

/// The message as somebody sends it: opened where header, server and source agree with it, and nowhere else. What a client of
/// ours writes for the same wishes is the same, byte for byte.
fn travels(plaintext: &[u8], inner: &Inner) {
    let datagram = seal(plaintext, inner.time_ms);
    let expected = if inner.server != SERVER {
        Err(Refusal::WrongServer)
    } else if inner.time_ms > header::MAX_TIME_MS {
        Err(Refusal::TimeMismatch)
    } else if inner.address.is_some_and(|address| address != SOURCE) {
        Err(Refusal::WrongAddress)
    } else {
        Ok(())
    };
    let opened = sealed::open(&datagram, SOURCE, &HOST);
    assert_eq!(opened.as_ref().map(|_| ()).map_err(|refusal| *refusal), expected);

    let mut altered = datagram.clone();
    let at = plaintext.iter().fold(0, |at, byte| (at * 31 + usize::from(*byte)) % datagram.len());
    altered[at] ^= 1 << (plaintext.len() / 8 % 8);
    let is_tag = (16..24).contains(&at);
    assert!(is_tag || sealed::open(&altered, SOURCE, &HOST).is_err(), "byte {at} counts for nothing");

    let Ok(Opened { inner: sent, .. }) = opened else { return };
    if sent.proof.is_none() {
        assert_eq!(sent, *inner);
        let services = inner.services.as_deref().unwrap_or_default();
        let Inner { verb, token, address, .. } = inner;
        let request = Request { verb: *verb, token, services, address: *address, proof: None };
        let fresh = Fresh { nonce: inner.nonce, ikm: FRESH.ikm };
        let now = UnixTime(inner.time_ms.saturating_mul(1_000_000));
        // The client's clock ends in 2554 and does not stand at zero, the wire's ends later.
        if inner.time_ms > 0 && now.0 < u64::MAX {
            let (ours, _) =
                sealed::seal_with(&request, &target(SERVER), now, &fresh).expect("what opens can be sealed");
            assert_eq!(unseal(&ours), plaintext);
        }
    }
}

/// A reply is what its message says, and travels.
fn reply(data: &[u8]) {
    let Ok(reply) = Reply::decode(data) else { return };
    if let Outcome::Done { services, .. } = &reply.outcome {
        assert!(services.is_sorted_by(|one, next| one.0 < next.0), "{services:?}");
    }
    if let Ok(datagram) = TICKET.clone().seal_with_nonce(&reply, [3; 12]) {
        assert!(datagram.len() <= MAX_PAYLOAD, "longer than a knock");
        let whole = datagram.len() == 16 + 12 + data.len() + 16;
        let opened = TICKET.open(&datagram);
        assert!(opened.is_ok() && (!whole || opened == Ok(reply)), "{opened:?}");
    }
}

fn target(server: &str) -> Target {
    Target { server: server.to_owned(), public: HOST.keys[0].public(), knock_key: KnockKey::new(1, [1; 32]) }
}

fn info() -> Vec<u8> {
    [b"jpat/1 knock\0".as_slice(), SERVER.as_bytes()].concat()
}

fn seal(plaintext: &[u8], time_ms: u64) -> Vec<u8> {
    let fixed = header::fixed(1, HOST.keys[0].hint(), time_ms);
    let public = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&HOST.keys[0].public()).expect("a public key");
    let (enc, mut context) = setup_sender_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &public,
        &info(),
        &mut Constant,
    )
    .expect("a key of full order");
    let ciphertext = context.seal(plaintext, &fixed).expect("one message");
    [fixed.as_slice(), &[0; 8], &enc.to_bytes(), &ciphertext].concat()
}

fn unseal(datagram: &[u8]) -> Vec<u8> {
    let header = header::parse(datagram).expect("a knock");
    let private = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(HOST.keys[0].secret().as_slice()).expect("a key");
    let enc = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(header.enc).expect("a key");
    let mut context =
        setup_receiver::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(&OpModeR::Base, &private, &enc, &info())
            .expect("a key of full order");
    context.open(header.ciphertext, header.fixed).expect("what was sealed opens")
}

/// Every input must behave the same each time it is tried.
struct Constant;

impl TryRng for Constant {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(0x0909_0909)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(0x0909_0909_0909_0909)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        out.fill(9);
        Ok(())
    }
}

impl TryCryptoRng for Constant {}
