//! Time is simulated, and the grant map is what the commands make of it.

mod admin;
mod ends;
mod flows;
mod model;
mod replay;
mod room;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use jpat_common::grant::{GrantKey, GrantValue};
use serde_json::json;

use super::*;
use crate::{
    clock::UnixTime,
    config::{PrefixWidths, ReplayMode},
    token::VerifiedToken,
    verify::{Allowed, Opening},
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
    now: Now,
    usable: usize,
    generation: u32,
    map: BTreeMap<GrantKey, GrantValue>,
    /// Flows in the data path.
    flows: BTreeMap<GrantKey, usize>,
    accepted: Vec<Accepted>,
    refused: Vec<Refusal>,
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
            once_since: now.unix,
        };
        Self {
            gate: Gate::new(settings, now),
            now,
            usable: usable as usize,
            generation: 7,
            map: BTreeMap::new(),
            flows: BTreeMap::new(),
            accepted: Vec::new(),
            refused: Vec::new(),
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
        let job = self.gate.admit(&datagram, self.now);
        self.run();
        job
    }

    /// Executes every command, as the shell does.
    fn run(&mut self) {
        while let Some(command) = self.gate.next_command() {
            match command {
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

fn ip(source: &str) -> IpAddr {
    source.parse().unwrap()
}

fn datagram(source: &str, bytes: &[u8], now: Now) -> Received {
    Received {
        form: crate::knock::Form::Bare,
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
