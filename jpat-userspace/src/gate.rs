//! The sans-IO core: datagrams and outcomes in, commands out. It owns replay state, leases and quotas; it never
//! blocks, reads no clock and touches no file.
//!
//! A knock opens all or nothing: either every service that its token may open gets its lease, or it is refused and
//! neither map nor replay memory has changed. Commands are to be executed in their order, because deletions make the
//! room that later writes need.

mod admin;
mod admission;
mod clock_offset;
mod command;
mod grants;
mod flows;
mod lease;
mod outlived;
mod replay;
mod sampler;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

pub use command::{Accepted, Command, FlowsOf, Settings};
pub use flows::Revoked;
use jpat_common::grant::GrantKey;
pub use lease::{GrantView, Selector};

use self::{
    admission::Admission,
    grants::{Change, Grants, LeaseId},
    lease::{Holder, Lease},
    outlived::Outlived,
    replay::Replay,
    sampler::Sampler,
};
use crate::{
    audit::{Event, Kind, Revocation},
    clock::{BootTime, Now},
    config::Limits,
    knock::{Knock, Received},
    refusal::{Refusal, Stage},
    verify::{Allowed, Denied, Job, Outcome, Who},
};

/// How often ended leases are swept and ends are held against the wall clock.
const TICK: Duration = Duration::from_secs(1);

/// Owner of all state between a datagram and the grant map.
#[derive(Debug)]
pub struct Gate {
    limits: Limits,
    usable: usize,
    max_ttl: Duration,
    snapshot_generation: u64,
    admission: Admission,
    sampler: Sampler,
    replay: Replay,
    grants: Grants,
    outlived: Outlived,
    /// How many flows each key has, as last seen.
    flows: BTreeMap<GrantKey, usize>,
    tick: Option<BootTime>,
    commands: VecDeque<Command>,
}

impl Gate {
    /// A gate without leases.
    #[must_use]
    pub const fn new(settings: Settings, now: Now) -> Self {
        let Settings { limits, usable, max_ttl, generation, snapshot_generation, once_since } = settings;
        Self {
            limits,
            usable: usable as usize,
            max_ttl,
            snapshot_generation,
            admission: Admission::new(&limits, now.boot),
            sampler: Sampler::new(),
            replay: Replay::new(limits.replay_entries, once_since),
            grants: Grants::new(generation),
            outlived: Outlived::new(limits.flows as usize),
            flows: BTreeMap::new(),
            tick: None,
            commands: VecDeque::new(),
        }
    }

    /// Takes a datagram. The job goes to a worker, and comes back through [`Self::conclude`] or [`Self::abandon`];
    /// until then it holds one of `limits.queue` places.
    #[must_use = "a job that is not verified holds its place for ever"]
    pub fn admit(&mut self, datagram: &Received, now: Now) -> Option<Job> {
        match self.admission.admit(datagram, now.boot) {
            Ok(job) => Some(job),
            Err(refusal) => {
                let event = Event { source: Some(datagram.source.ip()), ..Event::new(Kind::Denied, now.unix) };
                self.refuse(refusal, None, event, now);
                None
            }
        }
    }

    /// Takes the outcome of a job, found under the snapshot of `snapshot_generation`. If the configuration changed
    /// in between, the job comes back, to be verified under the new one.
    #[must_use = "the job that comes back must be verified again"]
    pub fn conclude(&mut self, job: Job, snapshot_generation: u64, outcome: Outcome, now: Now) -> Option<Job> {
        if !self.admission.is_waiting(job.id) {
            return None;
        }
        if snapshot_generation != self.snapshot_generation {
            return Some(job);
        }
        self.admission.release(job.id);
        match outcome {
            Outcome::Denied(denied) => self.deny(&job.knock, denied, now),
            Outcome::Allowed(allowed) => {
                if let Err(refusal) = self.grant(&job.knock, &allowed, now) {
                    let (principal, token) = (allowed.token.principal().clone(), allowed.token.id().clone());
                    let issuer = Some(principal.issuer.clone());
                    let who = Some(Who { principal, token });
                    self.deny(&job.knock, Denied { refusal, issuer, who, rule: None }, now);
                }
            }
        }
        None
    }

    /// Gives a job up whose worker died without an outcome.
    pub fn abandon(&mut self, job: u64) {
        self.admission.release(job);
    }

    /// The map did not take a write: every lease of the key ends, and what the map may still hold is deleted. A token
    /// stays used up, because it was seen on the wire.
    pub fn write_failed(&mut self, key: GrantKey, now: Now) {
        let leases = self.grants.leases_of(key);
        self.end(leases, |lease| admin::revoked(lease, Revocation::WriteFailed, now), now);
        self.commands.push_back(Command::Refused(Refusal::WriteFailed));
    }

    /// When [`Self::handle_timeout`] is due, if ever.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<BootTime> {
        self.tick
    }

    /// Sweeps leases that have ended, and shortens those that outlive their `exp` because the wall clock went forward.
    pub fn handle_timeout(&mut self, now: Now) {
        self.settle(now);
        if self.tick.is_some_and(|tick| tick <= now.boot) {
            self.tick = None;
        }
        self.schedule(now);
    }

    /// The next thing to do, if any.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Whether somebody holds the grant of this key.
    #[must_use]
    pub fn is_held(&self, key: GrantKey) -> bool {
        self.grants.is_held(key)
    }

    /// Entries in the grant map.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.grants.entries()
    }

    fn grant(&mut self, knock: &Knock, allowed: &Allowed, now: Now) -> Result<(), Refusal> {
        self.settle(now);
        let token = &allowed.token;
        let token_end = self.replay.check(token, allowed.replay, knock.source, now)?;
        let holder = Arc::new(Holder::of(token));
        let leases: Vec<_> = allowed
            .openings
            .iter()
            .map(|opening| {
                let end = now.boot.after(opening.ttl.min(self.max_ttl)).min(token_end);
                Lease::new(&holder, opening, knock.source, end).with_token(token)
            })
            .collect();
        if leases.iter().any(|lease| lease.end <= now.boot) {
            return Err(Refusal::Expired);
        }
        let keys: BTreeSet<_> = leases.iter().map(|lease| lease.key).collect();
        self.grants.check_room(&holder, &keys, self.limits.sources_per_principal as usize, self.usable)?;

        self.replay.claim(token, knock.source, now);
        let put: Vec<_> = leases.into_iter().map(|lease| self.grants.put(lease, now)).collect();
        let accepted = Accepted { received: knock.received, renewed: put.iter().all(|(_, renewed)| *renewed) };
        let last = keys.last().copied();
        for key in keys {
            let change = self.grants.rewrite(key);
            self.push_change(change, (Some(key) == last).then_some(accepted));
        }
        for (lease, renewed) in put {
            self.audit(lease.event(if renewed { Kind::Renewed } else { Kind::Granted }, now));
        }
        self.schedule(now);
        Ok(())
    }

    fn deny(&mut self, knock: &Knock, denied: Denied, now: Now) {
        let Denied { refusal, issuer, who, rule } = denied;
        let event = Event {
            principal: who.as_ref().map(|who| who.principal.to_string()),
            token_id: who.as_ref().map(|who| who.token.to_string()),
            issuer,
            source: Some(knock.source),
            rule,
            ..Event::new(Kind::Denied, now.unix)
        };
        self.refuse(refusal, who, event, now);
    }

    fn refuse(&mut self, refusal: Refusal, who: Option<Who>, event: Event, now: Now) {
        self.commands.push_back(Command::Refused(refusal));
        let line = match (refusal.stage(), who) {
            (Stage::Stranger, _) => self.sampler.stranger(now.boot),
            (Stage::Authenticated, Some(who)) => self.sampler.verified(who, refusal, now.boot),
            (Stage::Authenticated, None) => Some(self.sampler.tell()),
        };
        if let Some(suppressed) = line {
            self.audit(Event { reason: Some(refusal.code()), suppressed, ..event });
        }
    }

    /// Brings leases and map to what they should be at `now`.
    fn settle(&mut self, now: Now) {
        let shortened = self.grants.shorten(now);
        let ended = self.grants.ended(now.boot);
        self.end(ended, |lease| lease.event(Kind::Expired, now), now);
        for key in shortened {
            let change = self.grants.write_back(key);
            self.push_change(change, None);
        }
    }

    /// Ends leases whose flows go on.
    fn end(&mut self, leases: Vec<LeaseId>, event: impl Fn(&Lease) -> Event, now: Now) {
        for lease in self.take(leases, event) {
            self.outlived.add(lease, now.boot);
        }
    }

    /// Takes leases away, tells the map, then the log.
    fn take(&mut self, leases: Vec<LeaseId>, event: impl Fn(&Lease) -> Event) -> Vec<Lease> {
        let removed: Vec<_> = leases.into_iter().filter_map(|id| self.grants.remove(id)).collect();
        let keys: BTreeSet<_> = removed.iter().map(|lease| lease.key).collect();
        for key in keys {
            let change = self.grants.write_back(key);
            self.push_change(change, None);
        }
        for lease in &removed {
            self.audit(event(lease));
        }
        if self.grants.is_empty() {
            self.tick = None;
        }
        removed
    }

    fn schedule(&mut self, now: Now) {
        if !self.grants.is_empty() && self.tick.is_none() {
            self.tick = Some(now.boot.after(TICK));
        }
    }

    fn push_change(&mut self, change: Option<Change>, knock: Option<Accepted>) {
        self.commands.extend(change.map(|change| match change {
            Change::Write(key, value) => Command::Write { key, value, knock },
            Change::Delete(key) => Command::Delete { key },
        }));
    }

    fn audit(&mut self, event: Event) {
        self.commands.push_back(Command::Audit(Box::new(event)));
    }
}
