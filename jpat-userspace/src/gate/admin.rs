//! What is done to grants from this host: by admins, a reload, or a start over a map that has entries.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use jpat_common::{
    addr,
    grant::{GrantKey, GrantValue, ServiceId},
};

use super::{
    Command, Gate, GrantView, Revoked, Selector,
    grants::LeaseId,
    lease::{self, Holder, Lease},
};
use crate::{
    audit::{Event, Kind, Revocation},
    clock::{BootTime, Now},
    config::Limits,
    knock::{self, Form},
    refusal::Refusal,
    store::replay::TokenRecord,
    token::{KeptToken, VerifiedToken},
    verify::Opening,
};

impl Gate {
    /// Every live lease, ordered by source and service.
    #[must_use]
    pub fn grants(&self, now: Now) -> Vec<GrantView> {
        let mut live: Vec<_> =
            self.grants.leases().map(|(_, lease)| lease).filter(|lease| lease.end > now.boot).collect();
        live.sort_by(|a, b| (a.key, &a.holder).cmp(&(b.key, &b.holder)));
        live.into_iter().map(|lease| lease.view(self.flows_of(lease.key), now)).collect()
    }

    /// Grants without a token, on the word of `by`. What `by` added before is lengthened.
    ///
    /// # Errors
    /// [`Refusal::BadSource`], [`Refusal::GrantsFull`].
    pub fn add(&mut self, source: IpAddr, opening: &Opening, by: &str, now: Now) -> Result<GrantView, Refusal> {
        if !knock::may_be_granted(source) {
            return Err(Refusal::BadSource);
        }
        self.settle(now);
        let holder = Arc::new(Holder::Admin(by.to_owned()));
        let end = now.boot.after(opening.ttl.min(self.max_ttl));
        let lease = Lease::new(&holder, opening, source, end);
        let key = lease.key;
        self.grants.check_room(&holder, std::iter::once(key), usize::MAX, self.usable)?;
        let (lease, renewed) = self.grants.put(lease, now);
        let change = self.grants.write_back(key);
        self.push_change(change, None);
        let kind = if renewed { Kind::Renewed } else { Kind::Granted };
        self.audit(Event { by: Some(by.to_owned()), ..lease.event(kind, now) });
        self.schedule(now);
        Ok(lease.view(self.flows_of(key), now))
    }

    /// Takes away the leases that match, and ends the flows of their keys, also of those that ended before. Where others
    /// hold the same grant, it stays open for them: what they send under it makes their connections flows again.
    pub fn revoke(&mut self, selector: &Selector, by: &str, now: Now) -> Revoked {
        self.settle(now);
        let event = |lease: &Lease| Event { by: Some(by.to_owned()), ..revoked(lease, Revocation::Admin, now) };
        let outlived = self.outlived.select(selector);
        let leases = self.select(|lease| selector.matches(lease));
        let leases = self.cut(leases, event);
        Revoked { leases, outlived: self.cut_outlived(outlived, event) }
    }

    /// Ends what is of unknown holders, or of unknown tokens: nothing says that no rule of a changed deny list matches them.
    pub fn revoke_unknown(&mut self, by: &str, now: Now) {
        let adopted = Selector { principal: Some(Holder::Adopted.name()), ..Selector::default() };
        self.revoke(&adopted, by, now);
        let event = |lease: &Lease| Event { by: Some(by.to_owned()), ..revoked(lease, Revocation::DenyRule, now) };
        let keys = self.outlived.with_unknown_tokens();
        self.cut_outlived(keys, event);
    }

    /// Revokes everything at once by raising the generation, which this returns. The program holds every grant and flow
    /// against it, so that nothing need be gone through before all of them have ended.
    pub fn flush(&mut self, by: &str, now: Now) -> u32 {
        self.settle(now);
        let generation = self.grants.raise_generation();
        self.commands.push_back(Command::SetGeneration(generation));
        let event = |lease: &Lease| Event { by: Some(by.to_owned()), ..revoked(lease, Revocation::Flush, now) };
        let leases = self.select(|_| true);
        self.take(leases, event);
        for lease in self.outlived.clear() {
            if self.flows_of(lease.key) > 0 {
                self.audit(event(&lease));
            }
        }
        self.flows.clear();
        generation
    }

    /// Takes over what the grant map holds at the start. What is not live, or fits no service of `services` and no free
    /// place, is deleted. The rest becomes the leases that the store knew of; what no such lease explains, leases of
    /// `adopted`: who holds them is not known, so that neither `[[deny]]` rules nor a principal's name find them, and
    /// they end when they end.
    pub fn adopt(&mut self, entries: Vec<(GrantKey, GrantValue)>, services: &[Opening], now: Now) {
        let services: BTreeMap<ServiceId, &Opening> =
            services.iter().map(|opening| (opening.service, opening)).collect();
        let max_ttl = u64::try_from(self.max_ttl.as_nanos()).unwrap_or(u64::MAX);
        let holder = Arc::new(Holder::Adopted);
        let tokens = std::mem::take(&mut self.stored);
        // What comes now was never held against the clocks.
        self.settled = Now::default();
        let mut stored: BTreeMap<GrantKey, Vec<_>> = BTreeMap::new();
        for record in &tokens {
            // Its own `exp` bounds a lease, whatever that of another token with the same id.
            let Some(token) = record.token.as_ref().and_then(|token| token.restore()) else { continue };
            let (holder, kept) = (Arc::new(Holder::of(&token)), Arc::new(KeptToken::of(&token)));
            for lease in &record.leases {
                let key = GrantKey::new(&lease.prefix, &addr::mask(128), lease.service);
                stored.entry(key).or_default().push((lease, Arc::clone(&kept), Arc::clone(&holder)));
            }
        }
        for (key, value) in entries {
            let source = IpAddr::V6(Ipv6Addr::from(*key.source())).to_canonical();
            let is_live = value.is_live(now.boot.0, self.grants.generation(), max_ttl);
            let service = services.get(&key.service()).filter(|service| lease::key(service, source) == key);
            match service {
                Some(opening) if is_live && self.grants.entries() < self.usable => {
                    let end = BootTime(value.end_ns());
                    let mut is_explained = false;
                    for (known, token, holder) in stored.remove(&key).unwrap_or_default() {
                        if known.end <= now.boot || lease::key(opening, known.source) != key {
                            continue;
                        }
                        is_explained |= known.end >= end;
                        let form = if known.sealed { Form::Sealed } else { Form::Bare };
                        let lease = Lease::new(&holder, opening, known.source, known.end.min(end));
                        self.grants.adopt(lease.with_token(&token, form), end);
                    }
                    if !is_explained {
                        self.grants.adopt(Lease::new(&holder, opening, source, end), end);
                    }
                }
                Some(_) | None => {
                    self.commands.push_back(Command::Delete { key });
                    if is_live {
                        self.audit(Event {
                            principal: Some("adopted".to_owned()),
                            source: Some(source),
                            service: service.map(|opening| Arc::clone(&opening.name)),
                            reason: Some(Revocation::NotAdopted.code()),
                            ..Event::new(Kind::Revoked, now.unix)
                        });
                    }
                }
            }
        }
        self.note_adopted(&tokens);
        self.ask_to_note();
        self.schedule(now);
    }

    /// Tells the store which leases of those that it knew go on, and until when.
    fn note_adopted(&mut self, tokens: &[TokenRecord]) {
        for known in tokens {
            if self.grants.of_token(&known.id).next().is_none() {
                self.replay.release(&known.id);
            }
            if self.token_record(&known.id).as_ref() != Some(known) {
                self.mark(known.id.clone(), known.place);
            }
        }
    }

    /// Goes over to a new configuration: outcomes of older snapshots are verified again; leases of `revoke_services`
    /// (changed or removed) and those whose token `denied` names a rule for are revoked, with their flows, also where the
    /// lease has ended. `limits.grants` stays as it was.
    pub fn reload(
        &mut self,
        snapshot_generation: u64,
        limits: Limits,
        revoke_services: &BTreeSet<ServiceId>,
        denied: &dyn Fn(&VerifiedToken, IpAddr, Form) -> Option<String>,
        now: Now,
    ) {
        self.settle(now);
        self.snapshot_generation = snapshot_generation;
        self.limits = limits;
        self.admission.set_limits(&limits);
        self.nonces.set_rate(limits.knocks_per_second);
        self.replay.set_capacity(limits.replay_entries);

        let changed = self.select(|lease| revoke_services.contains(&lease.key.service()));
        self.take(changed, |lease| revoked(lease, Revocation::ServiceChanged, now));
        self.cut_services(revoke_services, |lease| revoked(lease, Revocation::ServiceChanged, now));
        let rule_of = |lease: &Lease| match lease.token.as_ref()?.restore() {
            Some(token) => denied(&token, lease.source, lease.form),
            None => Some(String::new()),
        };
        let by_rule = |lease: &Lease, rule: &str| Event {
            rule: Some(rule.to_owned()),
            ..revoked(lease, Revocation::DenyRule, now)
        };
        let outlived: Vec<_> = self.outlived.leases().filter_map(|lease| Some((lease.key, rule_of(lease)?))).collect();
        let rules: BTreeMap<LeaseId, String> =
            self.grants.leases().filter_map(|(id, lease)| Some((id, rule_of(lease)?))).collect();
        for (id, rule) in rules {
            self.cut(vec![id], |lease| by_rule(lease, &rule));
        }
        for (key, rule) in outlived {
            self.cut_outlived(vec![key], |lease| by_rule(lease, &rule));
        }
    }

    fn select(&self, matches: impl Fn(&Lease) -> bool) -> Vec<LeaseId> {
        self.grants.leases().filter(|(_, lease)| matches(lease)).map(|(id, _)| id).collect()
    }
}

pub(super) fn revoked(lease: &Lease, why: Revocation, now: Now) -> Event {
    Event { reason: Some(why.code()), ..lease.event(Kind::Revoked, now) }
}
