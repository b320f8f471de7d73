//! Time is simulated, and the grant map is what the commands make of it.

mod admin;
mod ends;
mod flows;
mod histories;
mod model;
mod replay;
mod restart;
mod room;
mod sealed;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use jpat_common::grant::{GrantKey, GrantValue};
use serde_json::json;

use super::*;
use crate::{
    clock::UnixTime,
    config::{PrefixWidths, ReplayMode},
    knock::{
        Form, reply,
        sealed::{self as codec, ReplyTicket, Verb},
    },
    store::replay::{ClaimRecord, NONCE_RETENTION},
    token::VerifiedToken,
    verify::{self, Allowed, Opening, Outcome, Sealed},
};

const SECOND: u64 = 1_000_000_000;
/// Wall-clock seconds at the start.
const START: u64 = 1_800_000_000;
const LIMITS: Limits = Limits {
    grants: 1_000,
    flows: 1_000,
    flows_per_grant: 100,
    sources_per_principal: 3,
    workers: 1,
    queue: 4,
    bare_per_second: 1_000_000,
    knocks_per_second: 1000,
    replay_entries: 5,
};
const MAX_TTL: Duration = Duration::from_secs(3_600);
const SNAPSHOT: u64 = 1;
const WEB: u32 = 1;
const SSH: u32 = 2;

/// A gate, its clock and the map that its commands drive.
struct Host {
    gate: Gate,
    settings: Settings,
    disk: Disk,
    now: Now,
    usable: usize,
    generation: u32,
    map: BTreeMap<GrantKey, GrantValue>,
    /// Flows in the data path.
    flows: BTreeMap<GrantKey, usize>,
    accepted: Vec<Accepted>,
    replies: Vec<reply::Outcome>,
    refused: Vec<Refusal>,
    /// What the map does not take.
    full_map: Option<GrantKey>,
    /// Seconds that the store takes for a knock.
    slow_disk: u64,
    events: Vec<Event>,
}

impl Host {
    fn new() -> Self {
        Self::with(LIMITS, 100)
    }

    fn with(limits: Limits, usable: u32) -> Self {
        let now = Now { boot: BootTime(50 * SECOND), unix: UnixTime::from_secs(START) };
        let settings = Settings {
            limits,
            usable,
            max_ttl: MAX_TTL,
            generation: 7,
            snapshot_generation: SNAPSHOT,
            once_leeway: Duration::ZERO,
        };
        Self {
            gate: Gate::new(settings.clone(), Recovered::first(now), now),
            settings,
            disk: Disk { is_full: false, has_failed: false, known: Recovered::first(now) },
            now,
            usable: usable as usize,
            generation: 7,
            map: BTreeMap::new(),
            flows: BTreeMap::new(),
            accepted: Vec::new(),
            replies: Vec::new(),
            refused: Vec::new(),
            full_map: None,
            slow_disk: 0,
            events: Vec::new(),
        }
    }

    /// Lets time pass on both clocks.
    fn sleep(&mut self, secs: u64) {
        self.now.boot.0 += secs * SECOND;
        self.now.unix.0 += secs * SECOND;
    }

    /// Sets the wall clock.
    fn step(&mut self, secs: i64) {
        self.now.unix.0 = self.now.unix.0.strict_add_signed(secs * SECOND.cast_signed());
    }

    fn tick(&mut self) {
        self.gate.handle_timeout(self.now);
        self.run();
    }

    /// Sends a knock whose token opens `openings`.
    fn knock(&mut self, token: &Arc<VerifiedToken>, mode: ReplayMode, source: &str, openings: &[Opening]) {
        let job = self.admit(source).unwrap();
        let outcome = allowed(token, mode, openings);
        assert_eq!(self.gate.conclude(job, SNAPSHOT, outcome, self.now).map(|job| job.id), None);
        self.run();
    }

    /// Knocks under `bind-source` and tells what became of it.
    fn bound(&mut self, token: &Arc<VerifiedToken>, source: &str, openings: &[Opening]) -> Result<(), Refusal> {
        self.outcome(token, ReplayMode::BindSource, source, openings)
    }

    fn once(&mut self, token: &Arc<VerifiedToken>, source: &str) -> Result<(), Refusal> {
        self.outcome(token, ReplayMode::Once, source, &[web(30)])
    }

    fn outcome(
        &mut self,
        token: &Arc<VerifiedToken>,
        mode: ReplayMode,
        source: &str,
        openings: &[Opening],
    ) -> Result<(), Refusal> {
        let before = (self.refused.len(), self.accepted.len());
        self.knock(token, mode, source, openings);
        match (&self.refused[before.0..], &self.accepted[before.1..]) {
            ([], [_]) => Ok(()),
            ([refusal], []) => Err(*refusal),
            other => panic!("one knock, one result: {other:?}"),
        }
    }

    fn admit(&mut self, source: &str) -> Option<Job> {
        let datagram = datagram(source, b"a.b.c", self.now);
        self.gate.admit(datagram, self.now);
        self.run();
        self.gate.next_job()
    }

    /// Sends a sealed knock that a worker found good, and tells what became of it.
    fn sealed(&mut self, knock: &SealedKnock, source: &str) -> Result<Taken, Refusal> {
        let before = (self.refused.len(), self.accepted.len());
        self.send(knock, source);
        match (&self.refused[before.0..], &self.accepted[before.1..]) {
            ([], [accepted]) => Ok(accepted.result),
            ([refusal], []) => Err(*refusal),
            other => panic!("one knock, one result: {other:?}"),
        }
    }

    /// What a worker and the gate do with a sealed knock.
    fn send(&mut self, knock: &SealedKnock, source: &str) {
        let datagram = Received { form: Form::Sealed, group: knock.group, ..datagram(source, &HEADER, self.now) };
        self.gate.admit(datagram, self.now);
        let job = self.gate.next_job().unwrap();
        let judged = knock.judged(self.now);
        assert_eq!(self.gate.conclude(job, SNAPSHOT, judged, self.now).map(|job| job.id), None);
        self.run();
    }

    /// The controller is killed, and another takes over what is in the map.
    fn restart(&mut self, recovered: Recovered) {
        self.gate = Gate::new(self.settings.clone(), recovered, self.now);
        let entries = self.map.iter().map(|(key, value)| (*key, *value)).collect();
        self.gate.adopt(entries, &[web(30), ssh(30)], self.now);
        self.run();
    }

    /// As [`Self::restart`], over the same store.
    fn restart_with_store(&mut self) {
        if std::mem::take(&mut self.disk.has_failed) {
            let known = &mut self.disk.known;
            (known.floor, known.origin, known.is_first) = (known.floor.max(self.now.unix), self.now.boot, false);
            self.disk.clear_leases();
        }
        self.restart(self.disk.known.clone());
    }

    /// Executes every command, as the shell does.
    fn run(&mut self) {
        while let Some(command) = self.gate.next_command() {
            match command {
                Command::Write { key, .. } if self.full_map == Some(key) => self.gate.write_failed(key, self.now),
                Command::Write { key, value, knock } => {
                    assert_eq!(value.generation(), self.generation);
                    self.map.insert(key, value);
                    self.accepted.extend(knock);
                }
                Command::Delete { key } => {
                    self.map.remove(&key);
                }
                Command::EndFlows(FlowsOf::Grant(key)) => drop(self.flows.remove(&key)),
                Command::EndFlows(FlowsOf::Service(service)) => self.flows.retain(|key, _| key.service() != service),
                Command::SetGeneration(generation) => {
                    self.generation = generation;
                    self.flows.clear();
                }
                Command::Claim(claim) => {
                    if self.disk.append(claim.records()) {
                        self.sleep(self.slow_disk);
                        self.gate.claimed(*claim, self.now);
                    } else {
                        self.gate.claim_failed(*claim, self.now);
                    }
                }
                Command::Note => {
                    let notes = self.gate.notes();
                    if !notes.is_empty() && self.disk.append(&notes) {
                        self.gate.noted();
                    }
                }
                Command::Reply(answer) => self.replies.push(answer.reply.outcome),
                Command::Done(accepted) => self.accepted.push(accepted),
                Command::Refused(refusal) => self.refused.push(refusal),
                Command::Audit(event) => self.events.push(*event),
            }
            assert!(self.map.len() <= self.usable, "{} entries", self.map.len());
        }
        assert_eq!(self.map.len(), self.gate.entries());
    }

    /// Seconds that `source` may still reach `service`, by the rules of the data path.
    fn open(&self, source: &str, service: &Opening) -> u64 {
        let max_ttl = u64::try_from(MAX_TTL.as_nanos()).unwrap();
        self.map
            .get(&lease::key(service, ip(source)))
            .filter(|value| value.is_live(self.now.boot.0, self.generation, max_ttl))
            .map_or(0, |value| (value.end_ns() - self.now.boot.0) / SECOND)
    }

    /// `event` and `reason` of the audit lines since the last call.
    fn story(&mut self) -> Vec<String> {
        let events = std::mem::take(&mut self.events);
        events.iter().map(|event| format!("{:?} {}", event.event, event.reason.unwrap_or("-"))).collect()
    }
}

/// A sealed knock, captured and as good as sent again.
#[derive(Clone, Debug)]
struct SealedKnock {
    token: Arc<VerifiedToken>,
    mode: ReplayMode,
    nonce: u64,
    time: UnixTime,
    group: u32,
    verb: Verb,
    wanted: Option<Vec<String>>,
    openings: Vec<Opening>,
}

impl SealedKnock {
    /// A knock that opens `web` under `bind-source`.
    fn new(nonce: u64, token: &Arc<VerifiedToken>, now: Now) -> Self {
        let (token, mode) = (Arc::clone(token), ReplayMode::BindSource);
        let openings = vec![web(30)];
        Self { token, mode, nonce, time: now.unix, group: 1, verb: Verb::Open, wanted: None, openings }
    }

    /// What a worker says.
    fn judged(&self, now: Now) -> Judged {
        let who = Who { principal: self.token.principal().clone(), token: self.token.id().clone() };
        let denied = |refusal| {
            Outcome::Denied(Denied { refusal, issuer: Some("corp".into()), who: Some(who.clone()), rule: None })
        };
        let skew = Duration::from_nanos(self.time.0.abs_diff(now.unix.0));
        let (outcome, accepted) = match self.verb {
            _ if self.token.expires() <= now.unix => (denied(Refusal::Expired), false),
            _ if self.token.issued_at() > Some(now.unix) => (denied(Refusal::IssuedInFuture), false),
            _ if skew > verify::CLOCK_WINDOW => (denied(Refusal::ClockSkew), true),
            Verb::Close => (allowed(&self.token, self.mode, &[]), true),
            Verb::Open | Verb::Renew => (allowed(&self.token, self.mode, &self.openings), true),
        };
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.nonce.to_be_bytes());
        let (verb, wanted, time) = (self.verb, self.wanted.clone(), self.time);
        let sealed = Sealed { ticket: Some(TICKET.clone()), nonce, time, verb, wanted, accepted };
        Judged { outcome, sealed: Some(Box::new(sealed)) }
    }
}

/// The header of a sealed knock, and no more than its length.
const HEADER: [u8; 128] = {
    let mut bytes = [0; 128];
    (bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]) = (b'J', b'P', b'A', b'T', 1, 1);
    bytes
};

/// Any ticket: the gate never looks into one.
static TICKET: LazyLock<ReplyTicket> = LazyLock::new(|| {
    let key = codec::ServerKey::generate().unwrap();
    let knock_key = codec::KnockKey::new(1, [7; 32]);
    let target = codec::Target { server: "web-1".to_owned(), public: key.public(), knock_key };
    let token = format!("{0}.{0}.{0}", "e30A".repeat(20));
    let request = codec::Request { verb: Verb::Open, token: &token, services: &[], address: None, proof: None };
    codec::seal(&request, &target, UnixTime::from_secs(START)).unwrap().1
});

/// What the store keeps, and what it recovers.
#[derive(Clone)]
struct Disk {
    is_full: bool,
    has_failed: bool,
    known: Recovered,
}

impl Disk {
    fn append(&mut self, records: &[ClaimRecord]) -> bool {
        if self.is_full {
            self.has_failed = true;
            return false;
        }
        let Recovered { nonces, tokens, forgotten_token, .. } = &mut self.known;
        for record in records {
            match record {
                ClaimRecord::Nonce(used) => nonces.push(*used),
                ClaimRecord::Token(token) => {
                    tokens.retain(|old| old.place != token.place && Some(old.place) != token.left);
                    tokens.push(TokenRecord { left: None, ..token.clone() });
                }
                ClaimRecord::TokenOver(place) => tokens.retain(|old| old.place != *place),
                ClaimRecord::TokenForgotten(place) => {
                    tokens.retain(|old| old.place != *place);
                    *forgotten_token = place.expires.max(*forgotten_token);
                }
            }
        }
        true
    }
}

impl Disk {
    fn clear_leases(&mut self) {
        self.known.tokens.retain(|token| token.until_exp);
        for token in &mut self.known.tokens {
            token.leases.clear();
            token.token = None;
        }
    }

    /// As the store does it.
    fn compact(&mut self, now: Now) {
        let known = &mut self.known;
        for used in known.nonces.extract_if(.., |used| used.time.after(NONCE_RETENTION) <= now.unix) {
            known.forgotten_knock = known.forgotten_knock.max(used.time);
        }
        for token in known.tokens.extract_if(.., |token| token.place.expires <= now.unix) {
            known.forgotten_token = known.forgotten_token.max(token.place.expires);
        }
    }
}

fn ip(source: &str) -> IpAddr {
    source.parse().unwrap()
}

fn datagram(source: &str, bytes: &[u8], now: Now) -> Received {
    Received {
        form: Form::Bare,
        group: 0,
        bytes: bytes.to_vec(),
        source: (ip(source), 4_000).into(),
        destination: (ip("198.51.100.1"), 1_337).into(),
        received: now.boot,
        ifindex: 2,
    }
}

fn allowed(token: &Arc<VerifiedToken>, replay: ReplayMode, openings: &[Opening]) -> Outcome {
    Outcome::Allowed(Allowed { token: Arc::clone(token), replay, openings: openings.to_vec() })
}

/// A token of `corp` issued at the start, with `exp` in seconds after it.
fn token(sub: &str, jti: &str, exp: u64) -> Arc<VerifiedToken> {
    let claims = json!({ "sub": sub, "jti": jti, "iat": START, "exp": START + exp });
    Arc::new(VerifiedToken::for_tests("corp", claims))
}

fn web(ttl: u64) -> Opening {
    opening(WEB, "web", ttl)
}

fn ssh(ttl: u64) -> Opening {
    opening(SSH, "ssh", ttl)
}

fn opening(service: u32, name: &str, ttl: u64) -> Opening {
    Opening { service, name: name.into(), ttl: Duration::from_secs(ttl), prefix: PrefixWidths { v4: 32, v6: 128 } }
}
