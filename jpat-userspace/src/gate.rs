//! The sans-IO core: datagrams and outcomes in, commands out. It owns replay state, leases and quotas; it never
//! blocks, reads no clock and touches no file.
//!
//! A knock opens all or nothing: either every service that its token may open gets its lease, or it is refused and
//! neither map nor replay memory has changed. Commands are to be executed in their order, because deletions make the
//! room that later writes need.

mod admin;
mod admission;
mod claim;
mod clock_offset;
mod command;
mod grants;
mod holders;
mod keys;
mod flows;
mod lease;
mod nonces;
mod outlived;
mod replay;
mod sampler;
mod since;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

pub use claim::Claim;
pub use command::{Accepted, Answer, Command, FlowsOf, Settings, Taken};
pub use flows::Revoked;
use jpat_common::grant::GrantKey;
pub use lease::{GrantView, Selector};

use self::{
    admission::{Admission, TurnedAway},
    grants::{Change, Grants, LeaseId},
    lease::Lease,
    nonces::Nonces,
    outlived::Outlived,
    replay::Replay,
    sampler::Sampler,
    since::Since,
};
use crate::{
    audit::{Event, Kind, Revocation},
    clock::{BootTime, Now},
    config::Limits,
    knock::Received,
    refusal::{Refusal, Stage},
    store::replay::{ClaimRecord, Recovered, TokenPlace, TokenRecord},
    token::TokenId,
    verify::{Denied, Job, Judged, Who},
};

/// Tokens that the store hears of with one write.
const NOTES: usize = 1_024;

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
    nonces: Nonces,
    replay: Replay,
    /// Tokens with leases of an earlier controller, until [`Self::adopt`] finds their grants in the map.
    stored: Vec<TokenRecord>,
    grants: Grants,
    outlived: Outlived,
    /// How many flows each key has, as last seen.
    flows: BTreeMap<GrantKey, usize>,
    tick: Option<BootTime>,
    /// When leases were last held against the clocks.
    settled: Now,
    /// Tokens of which the store knows something else, and where it keeps that.
    unnoted: BTreeMap<Arc<TokenId>, BTreeSet<TokenPlace>>,
    /// [`Command::Note`] is among the commands.
    is_note_due: bool,
    commands: VecDeque<Command>,
}

impl Gate {
    /// A gate without leases, that remembers what was recovered.
    #[must_use]
    pub fn new(settings: Settings, recovered: Recovered, now: Now) -> Self {
        let Settings { limits, usable, max_ttl, generation, snapshot_generation, once_leeway } = settings;
        let Recovered { floor, origin, is_first, forgotten_knock, forgotten_token, .. } = recovered;
        let Recovered { nonces, mut tokens, .. } = recovered;
        let since = Since::new(floor, origin);
        let lost = (!is_first && origin != BootTime(0)).then_some(floor);
        // What nothing binds any more was used by a token whose leases are over.
        let is_bound =
            |token: &mut TokenRecord| token.until_exp || token.leases.iter().any(|lease| lease.end > now.boot);
        let mut unnoted: BTreeMap<Arc<TokenId>, BTreeSet<TokenPlace>> = BTreeMap::new();
        for over in tokens.extract_if(.., |token| !is_bound(token)) {
            unnoted.entry(over.id).or_default().insert(over.place);
        }
        // Two rows of one token become one.
        let mut places: BTreeMap<&Arc<TokenId>, usize> = BTreeMap::new();
        for token in &tokens {
            *places.entry(&token.id).or_default() += 1;
        }
        for token in tokens.iter().filter(|token| places.get(&token.id).is_some_and(|count| *count > 1)) {
            unnoted.entry(token.id.clone()).or_default().insert(token.place);
        }
        // Numbers of an earlier run that are not known are smaller.
        let next_number = tokens.iter().map(|token| token.place.number + 1).max().unwrap_or_default().max(now.unix.0);
        Self {
            limits,
            usable: usable as usize,
            max_ttl,
            snapshot_generation,
            admission: Admission::new(&limits, now.boot),
            sampler: Sampler::new(),
            nonces: Nonces::new(limits.knocks_per_second, since, is_first, forgotten_knock, nonces),
            replay: Replay::new(limits.replay_entries, since.with_leeway(once_leeway), lost, forgotten_token, &tokens)
                .numbered_from(next_number),
            stored: tokens.into_iter().filter(|token| !token.leases.is_empty()).collect(),
            grants: Grants::new(generation),
            outlived: Outlived::new(limits.flows as usize),
            flows: BTreeMap::new(),
            tick: None,
            settled: now,
            unnoted,
            is_note_due: false,
            commands: VecDeque::new(),
        }
    }

    /// Takes a datagram. It waits in one of `limits.queue` places until [`Self::next_job`] hands it out.
    pub fn admit(&mut self, datagram: Received, now: Now) {
        if let Err(TurnedAway { source, refusal }) = self.admission.admit(datagram, now.boot) {
            let event = Event { source: Some(source), ..Event::new(Kind::Denied, now.unix) };
            self.refuse(refusal, None, event, now);
        }
    }

    /// The next job for a worker, while workers have room. It comes back through [`Self::conclude`] or
    /// [`Self::abandon`]; until then it takes up that room.
    #[must_use = "a job that is not verified takes up a worker's room for ever"]
    pub fn next_job(&mut self) -> Option<Job> {
        self.admission.next_job()
    }

    /// How many jobs were handed out and have not come back.
    #[must_use]
    pub fn at_work(&self) -> usize {
        self.admission.at_work()
    }

    /// Takes the outcome of a job, found under the snapshot of `snapshot_generation`. If the configuration changed
    /// in between, the job comes back, to be verified under the new one.
    #[must_use = "the job that comes back must be verified again"]
    pub fn conclude(&mut self, job: Job, snapshot_generation: u64, judged: impl Into<Judged>, now: Now) -> Option<Job> {
        if !self.admission.is_at_work(job.id) {
            return None;
        }
        if snapshot_generation != self.snapshot_generation {
            return Some(job);
        }
        self.admission.release(job.id);
        self.follow(&job.knock, judged.into(), now);
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
        for command in &mut self.commands {
            if let Command::Reply(answer) = command
                && answer.keys.contains(&key)
            {
                answer.take_back();
            }
        }
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
            self.ask_to_note();
        }
        self.schedule(now);
    }

    /// The next thing to do, if any.
    pub fn next_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The next thing to do, if that is [`Command::Claim`]: claims in a row can be stored with one write.
    pub fn next_claim(&mut self) -> Option<Box<Claim>> {
        match self.commands.pop_front_if(|command| matches!(command, Command::Claim(_))) {
            Some(Command::Claim(claim)) => Some(claim),
            Some(_) | None => None,
        }
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

    fn deny(&mut self, source: IpAddr, denied: Denied, now: Now) {
        let Denied { refusal, issuer, who, rule } = denied;
        let event = Event {
            principal: who.as_ref().map(|who| who.principal.to_string()),
            token_id: who.as_ref().map(|who| who.token.shown()),
            issuer,
            source: Some(source),
            rule,
            ..Event::new(Kind::Denied, now.unix)
        };
        self.refuse(refusal, who, event, now);
    }

    fn refuse(&mut self, refusal: Refusal, who: Option<Who>, event: Event, now: Now) {
        self.commands.push_back(Command::Refused(refusal));
        let line = match (refusal.stage(), who) {
            (Stage::Stranger, _) => self.sampler.stranger(now.boot),
            (Stage::Authenticated, Some(who)) => self.sampler.verified(who, refusal.code(), now.boot),
            (Stage::Authenticated, None) => Some(self.sampler.tell()),
        };
        if let Some(suppressed) = line {
            self.audit(Event { reason: Some(refusal.code()), suppressed, ..event });
        }
    }

    /// Brings leases and map to what they should be at `now`.
    fn settle(&mut self, now: Now) {
        if std::mem::replace(&mut self.settled, now) == now {
            return;
        }
        let shortened = self.grants.shorten(now);
        let cut: Vec<_> = shortened.iter().flat_map(|key| self.grants.leases_of(*key)).collect();
        let cut: Vec<_> = cut.into_iter().filter_map(|lease| self.known(lease)).collect();
        let ended = self.grants.ended(now.boot);
        self.end(ended, |lease| lease.event(Kind::Expired, now), now);
        for key in shortened {
            let change = self.grants.write_back(key);
            self.push_change(change, None);
        }
        for (token, place) in cut {
            self.mark(token, place);
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
        self.note(&removed);
        if self.grants.is_empty() && self.unnoted.is_empty() {
            self.tick = None;
        }
        removed
    }

    /// Tells the store whose leases were taken away, unless it can tell from their ends.
    fn note(&mut self, removed: &[Lease]) {
        let mut tokens: BTreeMap<&Arc<TokenId>, bool> = BTreeMap::new();
        for lease in removed {
            if let Some(token) = lease.token_id() {
                *tokens.entry(token).or_default() |= lease.end > self.settled.boot;
            }
        }
        let tokens: Vec<_> = tokens.into_iter().map(|(id, is_early)| (id.clone(), is_early)).collect();
        for (id, is_early) in tokens {
            let Some(place) = self.replay.place(&id) else { continue };
            if self.grants.of_token(&id).next().is_none() {
                self.replay.release(&id);
            }
            if is_early || self.replay.place(&id).is_none() {
                self.mark(id, place);
            }
        }
    }

    /// The token of a lease, and where the store keeps it.
    fn known(&self, lease: LeaseId) -> Option<(Arc<TokenId>, TokenPlace)> {
        let token = self.grants.get(lease)?.token_id()?;
        Some((token.clone(), self.replay.place(token)?))
    }

    /// The store is to learn how a token stands that it keeps at `place`.
    fn mark(&mut self, id: Arc<TokenId>, place: TokenPlace) {
        self.unnoted.entry(id).or_default().insert(place);
        self.ask_to_note();
    }

    fn ask_to_note(&mut self) {
        if !self.unnoted.is_empty() && !std::mem::replace(&mut self.is_note_due, true) {
            self.commands.push_back(Command::Note);
        }
    }

    /// What the store has to know of tokens as they stand now, some of it at a time.
    #[must_use]
    pub fn notes(&mut self) -> Vec<ClaimRecord> {
        self.is_note_due = false;
        let mut notes = Vec::new();
        for (id, places) in self.unnoted.iter().take(NOTES) {
            let record = self.token_record(id);
            let kept = record.as_ref().map(|record| record.place);
            notes.extend(places.iter().filter(|place| Some(**place) != kept).map(|place| {
                match kept.is_none() && self.replay.is_forgotten(place.expires) {
                    true => ClaimRecord::TokenForgotten(*place),
                    false => ClaimRecord::TokenOver(*place),
                }
            }));
            notes.extend(record.map(ClaimRecord::Token));
        }
        notes
    }

    /// The store has the last [`Self::notes`].
    pub fn noted(&mut self) {
        for _ in 0..NOTES {
            self.unnoted.pop_first();
        }
        self.ask_to_note();
        if self.grants.is_empty() && self.unnoted.is_empty() {
            self.tick = None;
        }
    }

    fn schedule(&mut self, now: Now) {
        if (!self.grants.is_empty() || !self.unnoted.is_empty()) && self.tick.is_none() {
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
