//! What the cryptography of a knock costs, and what the policy does, when nothing else is done.

use std::{collections::BTreeMap, hint::black_box, net::IpAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    rand,
};
use hpke::{
    Deserializable as _, HpkeError, Kem, OpModeR, aead::ChaCha20Poly1305, kdf::HkdfSha256, kem::X25519HkdfSha256,
    setup_receiver,
};
use jpat_userspace::{
    clock::{self, Now},
    config::Config,
    daemon::load,
    knock::{Body, Form as Packed, Knock, Peer, header, proof::Proof, sealed},
    refusal::Refusal,
    snapshot::Snapshot,
    token::{VerifiedToken, keys::KeySet},
    verify::{self, NoRecord, Outcome},
};
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;

use crate::{
    controller::{Controller, Form},
    wire::{CLIENT, HOST},
};

/// Distinct knocks.
const KNOCKS: u32 = 400;
const ROUNDS: usize = 5;
const REPLY_KEY: &[u8] = b"jpat/1 reply key";

/// Processor time of one knock's part, median of the rounds.
pub(super) struct Alone {
    /// HPKE with the export of the reply's key, the token's signature, the proof, the seal of the reply.
    pub(super) cryptography: Duration,
    pub(super) policy: Duration,
    /// All that a worker does: both, and reading what is in the knock.
    pub(super) worker: Duration,
}

type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

/// A knock, and what is in it.
struct Sample {
    knock: Knock,
    token: String,
    proof: Option<(Proof, Value)>,
    verified: Arc<VerifiedToken>,
}

impl Alone {
    /// On knocks that the controller would grant.
    pub(super) fn measure(controller: &Controller<'_>) -> Result<Self> {
        let snapshot = snapshot(&load::read(&controller.config())?.config)?;
        let (source, now) = (IpAddr::V4(CLIENT), clock::now());
        let samples = (0..KNOCKS)
            .map(|number| sample(controller, &snapshot, controller.knock(&format!("alone-{number}"))?, now))
            .collect::<Result<Vec<_>>>()?;
        let issuer = snapshot.config.issuers.first().context("no issuer")?;
        let keys = snapshot.keys.usable(issuer, now.unix).context("no keys")?;
        let server = controller.knocker.server();
        let secret = server.keys.first().context("no server key")?.secret();
        let secret = PrivateKey::from_bytes(&*secret)?;
        let info = [b"jpat/1 knock\0".as_slice(), server.id.as_bytes()].concat();
        let packed = if controller.form == Form::Bare { Packed::Bare } else { Packed::Sealed };
        let cryptography = median(&samples, |sample| {
            if let Body::Sealed(datagram) = &sample.knock.body {
                let (_, key) = black_box(decrypt(datagram, &secret, &info)?);
                black_box(seal_reply(&key)?);
            }
            verify_signature(keys, &sample.token)?;
            match &sample.proof {
                None => Ok(()),
                Some((proof, cnf)) => proof.verify(cnf).map_err(refused),
            }
        })?;
        let policy = median(&samples, |sample| {
            let openings = snapshot.policy.evaluate(&sample.verified, source, packed, now);
            ensure!(black_box(openings).is_ok(), "the policy refuses");
            Ok(())
        })?;
        let worker = median(&samples, |sample| {
            black_box(verify::judge(&sample.knock, &snapshot, now, &mut NoRecord));
            Ok(())
        })?;
        Ok(Self { cryptography, policy, worker })
    }
}

fn snapshot(config: &Arc<Config>) -> Result<Snapshot> {
    let ids: BTreeMap<_, _> = config.services.iter().zip(1..).map(|(service, id)| (service.name.clone(), id)).collect();
    Ok(load::snapshot(Arc::clone(config), ids, 1, None)?.0)
}

fn sample(controller: &Controller<'_>, snapshot: &Snapshot, datagram: Vec<u8>, now: Now) -> Result<Sample> {
    let peer = Peer { source: (CLIENT, 1).into(), destination: (HOST, 1).into() };
    let knock = |form, body| Knock { form, body, group: 1, source: CLIENT.into(), peer, received: now.boot };
    let (knock, token, proof) = if controller.form == Form::Bare {
        let token = String::from_utf8(datagram)?;
        (knock(Packed::Bare, Body::Bare(token.clone())), token, None)
    } else {
        let inner = sealed::open(&datagram, CLIENT.into(), &controller.knocker.server()).map_err(refused)?.inner;
        let cnf = controller.claims("")["cnf"].clone();
        (knock(Packed::Sealed, Body::Sealed(datagram.into())), inner.token, inner.proof.map(|proof| (proof, cnf)))
    };
    let Outcome::Allowed(allowed) = verify::verify(&knock, snapshot, now, &mut NoRecord) else {
        bail!("a knock that opens nothing");
    };
    Ok(Sample { knock, token, proof, verified: allowed.token })
}

fn decrypt(datagram: &[u8], secret: &PrivateKey, info: &[u8]) -> Result<(Vec<u8>, [u8; 32])> {
    let header = header::parse(datagram).map_err(refused)?;
    let open = || {
        let enc = EncappedKey::from_bytes(header.enc)?;
        let mut context =
            setup_receiver::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(&OpModeR::Base, secret, &enc, info)?;
        let message = context.open(header.ciphertext, header.fixed)?;
        let mut key = [0; 32];
        context.export(REPLY_KEY, &mut key)?;
        Ok::<_, HpkeError>((message, key))
    };
    open().map_err(|error| anyhow::anyhow!("HPKE: {error}"))
}

/// A reply to one service and its end.
fn seal_reply(key: &[u8]) -> Result<Vec<u8>> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key)?);
    let (mut nonce, mut reply) = ([0; 12], vec![0; 40]);
    rand::fill(&mut nonce)?;
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from([0; 16]), &mut reply)?;
    Ok(reply)
}

fn verify_signature(keys: &KeySet, token: &str) -> Result<()> {
    let (input, signature) = token.rsplit_once('.').context("no token")?;
    let key = keys.keys().first().context("no key")?;
    let algorithm = *key.algorithms().first().context("no algorithm")?;
    key.verify(algorithm, input.as_bytes(), signature).map_err(refused)
}

fn refused(refusal: Refusal) -> anyhow::Error {
    anyhow::anyhow!("a good knock is refused: {}", refusal.code())
}

fn median(samples: &[Sample], mut step: impl FnMut(&Sample) -> Result<()>) -> Result<Duration> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let begin = processor_time()?;
        samples.iter().try_for_each(&mut step)?;
        rounds.push((processor_time()? - begin) / KNOCKS);
    }
    rounds.sort_unstable();
    Ok(rounds[ROUNDS / 2])
}

fn processor_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
