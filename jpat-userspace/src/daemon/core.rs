//! What changes the data path: the gate's decisions, executed.

use std::{collections::BTreeSet, time::Duration};

use jpat_common::{
    grant::GrantKey,
    reason::DropReason,
    settings::{FLAG_ANY_DESTINATION, MODE_AUDIT, Settings},
};

use super::{flows::Flows, replies::Replies};
use crate::{
    audit::AuditLog,
    clock::{self, BootTime},
    datapath::{DataPath, addresses, counters, error::DataPathError, filter::FilterRules},
    gate::{Accepted, Answer, Claim, Command, Gate},
    metrics::{Metrics, View},
    refusal::Refusal,
    snapshot::Snapshot,
    store::replay::{ReplayStore, ReplayStoreError},
};

/// How often a failure that stays is told of.
const TOLD: Duration = Duration::from_secs(10);

/// When a failure was told of last.
#[derive(Default)]
pub(super) struct Told(Option<BootTime>);

impl Told {
    fn tell(&mut self, now: BootTime, tell: impl FnOnce()) {
        if self.0.is_none_or(|told| told.after(TOLD) <= now) {
            self.0 = Some(now);
            tell();
        }
    }
}

/// Gate, data path and books.
pub(super) struct Core {
    pub(super) gate: Gate,
    pub(super) store: ReplayStore,
    /// Why the store takes nothing.
    pub(super) store_told: Told,
    /// Why hints are not written.
    pub(super) hints_told: Told,
    /// Where replies leave from; nowhere if there are none.
    pub(super) replies: Option<Replies>,
    pub(super) datapath: DataPath,
    /// What the filter goes by.
    pub(super) filter_rules: FilterRules,
    pub(super) audit: AuditLog,
    pub(super) metrics: Metrics,
    /// Entries of the grant map that may be in use.
    pub(super) usable: u32,
    /// Live generation.
    pub(super) generation: u32,
    pub(super) flows: Flows,
    /// Grants that the map did not let go.
    pub(super) undeleted: Vec<GrantKey>,
}

impl Core {
    /// Executes what the gate wants done. Flows are ended last, in one walk, when the grants that might open more are
    /// gone. Returns how many.
    pub(super) fn settle(&mut self) -> usize {
        let (mut ending, mut answers, mut opened) = (BTreeSet::new(), Vec::new(), Vec::new());
        let mut undeleted = std::mem::take(&mut self.undeleted);
        undeleted.retain(|key| self.datapath.tables_mut().delete_grant(key).is_err());
        while let Some(command) = self.gate.next_command() {
            match command {
                Command::Write { key, value, knock } => match self.datapath.tables_mut().write_grant(&key, &value) {
                    Ok(()) => {
                        undeleted.retain(|other| *other != key);
                        opened.extend(knock);
                    }
                    Err(error) => {
                        tracing::error!("writing a grant: {error:#}");
                        self.gate.write_failed(key, clock::now());
                    }
                },
                Command::Claim(claim) => self.claim(claim),
                Command::Note => self.note(),
                Command::Reply(answer) => answers.push(*answer),
                Command::Done(accepted) => opened.push(accepted),
                Command::Delete { key } => {
                    if let Err(error) = self.datapath.tables_mut().delete_grant(&key) {
                        tracing::error!("deleting a grant: {error:#}; it is tried again");
                        undeleted.push(key);
                    }
                }
                Command::EndFlows(which) => {
                    ending.insert(which);
                }
                Command::SetGeneration(generation) => {
                    self.generation = generation;
                    if let Err(error) = self.write_settings(|settings| settings.generation = generation) {
                        tracing::error!("raising the generation: {error:#}");
                        self.empty_maps();
                    }
                }
                Command::Refused(refusal) => self.metrics.refused(refusal),
                Command::Audit(event) => self.audit.add(&event),
            }
        }
        let now = clock::now().boot;
        let effective = self.datapath.tables_mut().write_hints(now);
        if let Err(error) = &effective {
            self.hints_told.tell(now, || tracing::error!("writing which sources can have a grant: {error:#}"));
        }
        if effective.is_err() && self.datapath.tables().has_hints() {
            answers.iter_mut().for_each(Answer::take_back);
            opened.iter().for_each(|_| self.metrics.refused(Refusal::WriteFailed));
            opened.clear();
        }
        for accepted in opened {
            self.taken(accepted, now);
        }
        // Whoever is answered finds what happened in the log.
        self.audit.flush();
        for answer in answers {
            self.answer(answer);
        }
        self.undeleted = undeleted;
        if ending.is_empty() { 0 } else { self.end_flows(&ending) }
    }

    /// Brings what knocks must be into force.
    pub(super) fn write_filter(&mut self, rules: FilterRules) -> anyhow::Result<()> {
        self.datapath.filter_mut().write(&rules)?;
        self.filter_rules = rules;
        Ok(())
    }

    /// Tells the store what no knock waits for. What it does not take is told again.
    fn note(&mut self) {
        let notes = self.gate.notes();
        if notes.is_empty() {
            return;
        }
        match self.store.append(&notes, clock::now()) {
            Ok(()) => self.gate.noted(),
            Err(error) => self.tell_of_store(&error),
        }
    }

    /// Each knock that is refused for it is counted; the reason is told now and then.
    fn tell_of_store(&mut self, error: &ReplayStoreError) {
        self.store_told.tell(clock::now().boot, || tracing::error!("{error}"));
    }

    /// Stores a knock, and those that stand behind it, with one write: all of them, or none.
    fn claim(&mut self, claim: Box<Claim>) {
        let mut claims = vec![claim];
        claims.extend(std::iter::from_fn(|| self.gate.next_claim()));
        let stored = self.store.append(claims.iter().flat_map(|claim| claim.records()), clock::now());
        if let Err(error) = &stored {
            self.tell_of_store(error);
        }
        let now = clock::now();
        for claim in claims {
            match stored {
                Ok(()) => self.gate.claimed(*claim, now),
                Err(_) => self.gate.claim_failed(*claim, now),
            }
        }
    }

    fn taken(&mut self, accepted: Accepted, now: BootTime) {
        self.metrics.taken(accepted.result, accepted.received.until(now));
    }

    /// A reply that cannot be sent is as good as lost on the way: its knock can be repeated.
    fn answer(&mut self, answer: Answer) {
        let Some(replies) = &self.replies else { return };
        let Answer { ticket, peer, reply, .. } = answer;
        let sent = match ticket.seal(&reply) {
            Ok(datagram) => replies.send(peer.destination, peer.source, &datagram).map_err(anyhow::Error::from),
            Err(error) => Err(error.into()),
        };
        self.metrics.replied(sent.is_ok());
        if let Err(error) = sent {
            tracing::debug!("a reply to {}: {error:#}", peer.source);
        }
    }

    /// What a flush means where one number cannot say it.
    fn empty_maps(&mut self) {
        let tables = self.datapath.tables_mut();
        let keys: Vec<_> = tables.grants().unwrap_or_default().into_iter().map(|(key, _)| key).collect();
        for key in keys {
            if tables.delete_grant(&key).is_err() {
                self.undeleted.push(key);
            }
        }
        if let Err(error) = self.datapath.tables_mut().end_flows(|_, _| true) {
            tracing::error!("ending flows: {:#}", anyhow::Error::from(error));
        }
    }

    /// Changes the live settings.
    pub(super) fn write_settings(&mut self, change: impl FnOnce(&mut Settings)) -> Result<(), DataPathError> {
        let tables = self.datapath.tables_mut();
        let mut settings = tables.settings()?;
        change(&mut settings);
        tables.write_settings(&settings)
    }

    /// Whether nothing is dropped. When that cannot be read, it is not said.
    pub(super) fn is_auditing(&self) -> bool {
        self.datapath.tables().settings().is_ok_and(|settings| settings.mode == MODE_AUDIT)
    }

    /// Judges packets to exactly this host's addresses; to any destination while those cannot be had.
    pub(super) fn judge_local(&mut self) -> Result<(), DataPathError> {
        let written = addresses::local().and_then(|local| self.datapath.tables_mut().write_destinations(&local));
        let flags = self.datapath.tables().settings()?.flags;
        let wanted = match &written {
            Ok(()) => flags & !FLAG_ANY_DESTINATION,
            Err(_) => flags | FLAG_ANY_DESTINATION,
        };
        if wanted != flags {
            self.write_settings(|settings| settings.flags = wanted)?;
        }
        written
    }

    /// What a scrape reads.
    pub(super) fn view(&self, snapshot: &Snapshot) -> View {
        let now = clock::now();
        let names: Vec<_> = snapshot.service_ids.iter().map(|(name, id)| (*id, name.as_str())).collect();
        let counts = counters::read(self.datapath.tables(), names.iter().map(|(id, _)| *id));
        let counts = counts.unwrap_or_else(|error| {
            tracing::error!("reading counters: {error:#}");
            Vec::new()
        });
        let name = |id| names.iter().find(|(known, _)| *known == id).map_or("", |(_, name)| *name).to_owned();
        let lost = |reason: DropReason| {
            counts.iter().filter(|count| count.reason == reason.as_str()).map(|count| count.packets).sum()
        };
        View {
            ring_lost: vec![("sealed", lost(DropReason::KnockRingFull)), ("bare", lost(DropReason::KnockBareRingFull))],
            packets: counts.into_iter().map(|count| (name(count.service), count)).collect(),
            grants: self.gate.entries(),
            capacity: self.usable,
            flows: self.flows.count,
            flows_capacity: self.datapath.flow_capacity(),
            key_ages: snapshot
                .config
                .issuers
                .iter()
                .filter_map(|issuer| Some((issuer.name.clone(), snapshot.keys.held(&issuer.name)?)))
                .map(|(name, held)| (name.to_string(), held.fetched.until(now.unix).as_secs_f64()))
                .collect(),
            audit_lost: self.audit.dropped(),
            config_generation: snapshot.generation,
            reload_ok: true,
            enforcing: !self.is_auditing(),
            ..View::default()
        }
    }
}
