//! A knock between its judgement and its effect: what is to be remembered of it goes to the store first.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use super::{
    Accepted, Answer, Command, Gate, Taken,
    admin::revoked,
    lease::{self, Holder, Lease},
    replay::{Attempt, Claimed, Kind, Permit},
};
use crate::{
    audit::{Event, Kind as EventKind, Revocation},
    clock::{BootTime, Now, UnixTime},
    knock::{
        Knock, Peer,
        reply::{Outcome as Told, Reply},
        sealed::{ReplyTicket, Verb},
    },
    refusal::Refusal,
    store::replay::{ClaimRecord, NonceUse, StoredLease, TokenRecord},
    token::{KeptToken, TokenId, VerifiedToken},
    verify::{Allowed, Denied, Judged, Outcome, Sealed, Who},
};

/// A knock that waits for the store.
#[derive(Debug)]
pub struct Claim {
    records: Vec<ClaimRecord>,
    source: IpAddr,
    received: BootTime,
    to: Option<(ReplyTicket, Peer)>,
    next: Next,
}

/// What happens once the store has it.
#[derive(Debug)]
enum Next {
    Deny(Denied),
    Grant {
        token: Arc<VerifiedToken>,
        leases: Vec<Lease>,
        claimed: Claimed,
        is_repeat: bool,
    },
    /// Nothing but an answer.
    Repeat(Arc<VerifiedToken>),
    Close {
        token: Arc<VerifiedToken>,
        wanted: Option<Vec<String>>,
    },
}

impl Claim {
    /// What is to be stored, all or nothing.
    #[must_use]
    pub fn records(&self) -> &[ClaimRecord] {
        &self.records
    }
}

impl Gate {
    /// The store has the records: the knock takes effect.
    pub fn claimed(&mut self, claim: Claim, now: Now) {
        self.settle(now);
        let Claim { source, received, to, next, .. } = claim;
        match next {
            Next::Deny(denied) => self.refuse_and_tell(source, denied, to, now),
            Next::Grant { token, leases, claimed, is_repeat } => {
                match self.put(&token, leases, received, is_repeat, now) {
                    Ok(leases) => {
                        self.replay.confirm(&claimed);
                        self.tell(to, &leases, is_repeat, now);
                    }
                    Err(refusal) => {
                        self.replay.undo(&claimed);
                        self.mark(claimed.id().clone(), claimed.place());
                        self.refuse_and_tell(source, denied(&token, refusal), to, now);
                    }
                }
            }
            Next::Repeat(token) => self.repeat(&token, source, received, to, now),
            Next::Close { token, wanted } => self.close(&token, wanted.as_deref(), source, received, to, now),
        }
    }

    /// The store did not take the records: the knock is refused. Its nonce stays used up.
    pub fn claim_failed(&mut self, claim: Claim, now: Now) {
        let Claim { source, to, next, .. } = claim;
        let token = match next {
            Next::Deny(denied) => {
                // Without a record of its nonce it could be answered again after a restart.
                return self.refuse_and_tell(source, denied, None, now);
            }
            Next::Grant { token, claimed, .. } => {
                self.replay.undo(&claimed);
                token
            }
            Next::Repeat(token) | Next::Close { token, .. } => token,
        };
        self.refuse_and_tell(source, denied(&token, Refusal::StoreFailed), to, now);
    }

    /// What a judgement leads to, when the store has what must be remembered of it.
    pub(super) fn follow(&mut self, knock: &Knock, judged: Judged, now: Now) {
        let Judged { outcome, sealed } = judged;
        let source = knock.source.to_canonical();
        let mut sealed = sealed.filter(|_| outcome.is_verified());
        let mut records = Vec::with_capacity(1 + usize::from(sealed.is_some()));
        if let Some(sealed) = &sealed {
            let is_skewed = matches!(&outcome, Outcome::Denied(denied) if denied.refusal == Refusal::ClockSkew);
            let used = NonceUse { nonce: sealed.nonce, time: sealed.time, group: knock.group };
            if let Err(refusal) = self.nonces.claim(used, is_skewed, now) {
                let denied = match outcome {
                    Outcome::Denied(denied) => Denied { refusal, rule: None, ..denied },
                    Outcome::Allowed(allowed) => denied(&allowed.token, refusal),
                };
                return self.refuse_and_tell(source, denied, None, now);
            }
            records.push(ClaimRecord::Nonce(used));
        }
        let ticket = sealed.as_mut().filter(|sealed| sealed.accepted).and_then(|sealed| sealed.ticket.take());
        let to = ticket.map(|ticket| (ticket, knock.peer));
        let next = match outcome {
            Outcome::Denied(denied) => Next::Deny(denied),
            Outcome::Allowed(allowed) => {
                let token = Arc::clone(&allowed.token);
                self.prepare(knock, allowed, sealed.as_deref(), &mut records, now)
                    .unwrap_or_else(|refusal| Next::Deny(denied(&token, refusal)))
            }
        };
        let claim = Claim { records, source, received: knock.received, to, next };
        if claim.records.is_empty() {
            self.claimed(claim, now);
        } else {
            self.commands.push_back(Command::Claim(Box::new(claim)));
        }
    }

    /// Decides on a good token; only the replay memory changes, and only if this succeeds.
    fn prepare(
        &mut self,
        knock: &Knock,
        allowed: Allowed,
        sealed: Option<&Sealed>,
        records: &mut Vec<ClaimRecord>,
        now: Now,
    ) -> Result<Next, Refusal> {
        self.settle(now);
        let Allowed { token, replay: mode, mut openings } = allowed;
        let source = knock.source.to_canonical();
        match sealed.map_or(Verb::Open, |sealed| sealed.verb) {
            Verb::Close => return Ok(Next::Close { token, wanted: sealed.and_then(|sealed| sealed.wanted.clone()) }),
            Verb::Renew => {
                let open: BTreeSet<_> =
                    self.grants.of_principal(token.principal(), source).map(|(_, lease)| lease.key).collect();
                let has_wanted = sealed.is_some_and(|sealed| sealed.wanted.is_some());
                let asked = openings.len();
                openings.retain(|opening| open.contains(&lease::key(opening, source)));
                if openings.is_empty() || (has_wanted && openings.len() < asked) {
                    return Err(Refusal::NotOpen);
                }
            }
            Verb::Open => {}
        }
        let has_lease = self.grants.of_token(token.id()).next().is_some();
        let attempt = Attempt { token: &token, mode, form: knock.form, source, has_lease };
        let Permit { end: token_end, kind } = self.replay.check(attempt, now)?;
        let is_repeat = match kind {
            Kind::Fresh => false,
            Kind::Repeat { is_same_source: true } => return Ok(Next::Repeat(token)),
            Kind::Repeat { is_same_source: false } => true,
        };
        let (holder, kept) = (Arc::new(Holder::of(&token)), Arc::new(KeptToken::of(&token)));
        let latest = |service| {
            let ends = self.grants.of_token(token.id()).filter(|(_, lease)| lease.key.service() == service);
            ends.map(|(_, lease)| lease.end).max()
        };
        let leases: Vec<_> = openings
            .iter()
            .filter_map(|opening| {
                let end = now.boot.after(opening.ttl.min(self.max_ttl)).min(token_end);
                let end = if is_repeat { end.min(latest(opening.service)?) } else { end };
                Some(Lease::new(&holder, opening, source, end).with_token(&kept, knock.form))
            })
            .collect();
        if leases.is_empty() {
            return Err(Refusal::Replayed);
        }
        if leases.iter().any(|lease| lease.end <= now.boot) {
            return Err(Refusal::Expired);
        }
        self.check_room(&holder, &leases)?;

        let claimed = self.replay.claim(attempt, now);
        records
            .push(ClaimRecord::Token(claimed.record(&kept, self.stored_with(&holder, token.id(), has_lease, &leases))));
        Ok(Next::Grant { token, leases, claimed, is_repeat })
    }

    /// What leases of `holder` the store is to know of a token that gets `new` ones.
    fn stored_with(&self, holder: &Holder, token: &TokenId, has_lease: bool, new: &[Lease]) -> Vec<StoredLease> {
        let mut stored: Vec<_> = new.iter().map(Lease::stored).collect();
        if !has_lease {
            return stored;
        }
        for (_, old) in self.grants.of_token(token).filter(|(_, old)| *old.holder == *holder) {
            match new.iter().position(|lease| lease.key == old.key) {
                Some(at) => stored[at].end = stored[at].end.max(old.end),
                None => stored.push(old.stored()),
            }
        }
        stored
    }

    /// What the store has to know of a token as it stands, if anything binds it.
    pub(super) fn token_record(&self, id: &Arc<TokenId>) -> Option<TokenRecord> {
        let mut leases = self.grants.of_token(id).map(|(_, lease)| lease);
        match leases.next() {
            Some(first) => {
                let stored = std::iter::once(first).chain(leases.filter(|lease| lease.holder == first.holder));
                self.replay.record(id, first.token.clone(), stored.map(Lease::stored).collect())
            }
            None => self.replay.record(id, None, Vec::new()),
        }
    }

    /// Opens what was decided on, all of it or nothing. Returns the leases as they stand.
    fn put(
        &mut self,
        token: &VerifiedToken,
        leases: Vec<Lease>,
        received: BootTime,
        is_repeat: bool,
        now: Now,
    ) -> Result<Vec<Lease>, Refusal> {
        if leases.iter().any(|lease| lease.end <= now.boot) {
            return Err(Refusal::Expired);
        }
        if let Some(first) = leases.first() {
            self.check_room(&first.holder, &leases)?;
        }
        let put: Vec<_> = leases.into_iter().map(|lease| self.grants.put(lease, now)).collect();
        let result = match put.iter().all(|(_, renewed)| *renewed) {
            _ if is_repeat => Taken::Repeated,
            true => Taken::Renewed,
            false => Taken::Granted,
        };
        let accepted = Accepted { received, result };
        // Each is of another service, so that there is one key for each.
        for (at, (lease, _)) in put.iter().enumerate() {
            let change = self.grants.rewrite(lease.key);
            self.push_change(change, (at + 1 == put.len()).then_some(accepted));
        }
        // What only goes on is told now and then.
        let told = match result {
            Taken::Renewed => self.sampler.verified(Who::of(token), result.as_str(), now.boot),
            Taken::Granted | Taken::Repeated | Taken::Closed => Some(0),
        };
        if let Some(suppressed) = told {
            for (at, (lease, renewed)) in put.iter().enumerate() {
                let event = lease.event(if *renewed { EventKind::Renewed } else { EventKind::Granted }, now);
                self.audit(Event { suppressed: if at == 0 { suppressed } else { 0 }, ..event });
            }
        }
        self.schedule(now);
        Ok(put.into_iter().map(|(lease, _)| lease).collect())
    }

    fn repeat(
        &mut self,
        token: &VerifiedToken,
        source: IpAddr,
        received: BootTime,
        to: Option<(ReplyTicket, Peer)>,
        now: Now,
    ) {
        let leases = self.grants.of_token(token.id()).map(|(_, lease)| lease);
        let leases: Vec<_> = leases.filter(|lease| lease.source == source).cloned().collect();
        if leases.is_empty() {
            return self.refuse_and_tell(source, denied(token, Refusal::Replayed), to, now);
        }
        self.commands.push_back(Command::Done(Accepted { received, result: Taken::Repeated }));
        let who = Who::of(token);
        if let Some(suppressed) = self.sampler.verified(who, Taken::Repeated.as_str(), now.boot) {
            let events: Vec<_> = leases.iter().map(|lease| lease.event(EventKind::Repeated, now)).collect();
            for (at, event) in events.into_iter().enumerate() {
                self.audit(Event { suppressed: if at == 0 { suppressed } else { 0 }, ..event });
            }
        }
        self.tell(to, &leases, true, now);
    }

    fn close(
        &mut self,
        token: &VerifiedToken,
        wanted: Option<&[String]>,
        source: IpAddr,
        received: BootTime,
        to: Option<(ReplyTicket, Peer)>,
        now: Now,
    ) {
        let is_wanted = |lease: &Lease| wanted.is_none_or(|names| names.iter().any(|name| **name == **lease.service()));
        let found = self.grants.of_principal(token.principal(), source);
        let found = found.filter(|(_, lease)| is_wanted(lease));
        let (ids, mut leases): (Vec<_>, Vec<_>) = found.map(|(id, lease)| (id, lease.clone())).unzip();
        self.end(ids, |lease| revoked(lease, Revocation::Closed, now), now);
        for lease in &mut leases {
            lease.end = BootTime(0);
        }
        self.commands.push_back(Command::Done(Accepted { received, result: Taken::Closed }));
        self.tell(to, &leases, leases.is_empty(), now);
    }

    fn check_room(&self, holder: &Holder, leases: &[Lease]) -> Result<(), Refusal> {
        let keys = leases.iter().map(|lease| lease.key);
        self.grants.check_room(holder, keys, self.limits.sources_per_principal as usize, self.usable)
    }

    fn refuse_and_tell(&mut self, source: IpAddr, denied: Denied, to: Option<(ReplyTicket, Peer)>, now: Now) {
        let outcome = Told::Refused(denied.refusal.code().to_owned());
        self.deny(source, denied, now);
        self.answer(to, outcome, &[], now);
    }

    fn tell(&mut self, to: Option<(ReplyTicket, Peer)>, leases: &[Lease], repeated: bool, now: Now) {
        if to.is_none() {
            return;
        }
        let end = |lease: &Lease| if lease.end == BootTime(0) { UnixTime(0) } else { now.unix_at(lease.end) };
        let mut services: Vec<_> = leases.iter().map(|lease| (lease.service().to_string(), end(lease))).collect();
        services.sort();
        services.dedup_by(|later, earlier| later.0 == earlier.0);
        self.answer(to, Told::Done { services, repeated }, leases, now);
    }

    fn answer(&mut self, to: Option<(ReplyTicket, Peer)>, outcome: Told, leases: &[Lease], now: Now) {
        if let Some((ticket, peer)) = to {
            let keys = leases.iter().map(|lease| lease.key).collect();
            let reply = Reply { outcome, server_time: now.unix };
            self.commands.push_back(Command::Reply(Box::new(Answer { ticket, peer, reply, keys })));
        }
    }
}

fn denied(token: &VerifiedToken, refusal: Refusal) -> Denied {
    let issuer = Some(token.principal().issuer.clone());
    Denied { refusal, issuer, who: Some(Who::of(token)), rule: None }
}
