//! Flows in the data path: swept, counted, ended, adopted.

mod adoption;

use std::collections::{BTreeMap, BTreeSet};

use jpat_common::{
    flow::{FLAG_ADOPTED, FLAG_CLOSING, FlowKey, FlowValue},
    grant::{GrantKey, ServiceId},
    settings::ServiceRule,
};

use super::{
    core::Core,
    sweeper::{Fate, Judge, Rest, grant_key, is_looked_up},
};
use crate::{
    clock::{self, BootTime},
    datapath::{
        error::DataPathError,
        sock_diag::Sockets,
        tables::{Prepared, Rules},
    },
    gate::FlowsOf,
    verify::Opening,
};

/// What the controller knows of flows.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// Rules of each service, as they are in force.
    rules: BTreeMap<ServiceId, ServiceRule>,
    /// What the program was told of flows that are gone.
    closed: BTreeMap<GrantKey, u64>,
    /// Services that had adopted flows when somebody last looked.
    pub(super) adopted: BTreeSet<ServiceId>,
    /// When connections were adopted last.
    pub(super) adopted_at: Option<BootTime>,
    /// How many flows there were then.
    pub(super) count: usize,
    /// Something changed that nobody has seen yet.
    pub(super) is_stale: bool,
}

impl Core {
    /// These rules are in force from now on.
    pub(super) fn set_flow_rules(&mut self, rules: &Rules) {
        self.flows.rules = flow_rules(rules);
    }

    /// Removes the flows that are over, and tells the program and the gate how many each grant has.
    pub(super) fn sweep(
        &mut self,
        flows: &BTreeMap<FlowKey, FlowValue>,
        opened: &BTreeMap<GrantKey, u64>,
        sockets: Option<&Sockets>,
        began: BootTime,
    ) -> Result<Rest, DataPathError> {
        let (rules, generation) = (std::mem::take(&mut self.flows.rules), self.generation);
        let judge = Judge { rules: &rules, generation, sockets, now: clock::now().boot };
        let swept = self.sweep_by(&judge, flows, opened, began);
        self.flows.rules = rules;
        let rest = swept?;
        self.settle();
        Ok(rest)
    }

    fn sweep_by(
        &mut self,
        judge: &Judge<'_>,
        flows: &BTreeMap<FlowKey, FlowValue>,
        opened: &BTreeMap<GrantKey, u64>,
        began: BootTime,
    ) -> Result<Rest, DataPathError> {
        let (mut counts, mut adopted, mut rest) = (BTreeMap::new(), BTreeSet::new(), Rest::Quiet);
        for (key, flow) in flows {
            if self.sweep_one(judge, key, flow, &mut rest)?
                && let Some(grant) = judge.grant(key, flow)
            {
                *counts.entry(grant).or_default() += 1;
                if flow.flags & FLAG_ADOPTED != 0 {
                    adopted.insert(flow.service);
                }
            }
        }
        // What was adopted since the look began is not in it.
        if self.flows.adopted_at.is_none_or(|at| at < began) {
            self.flows.adopted = adopted;
        }
        self.flows.count = counts.values().sum();
        self.count(&counts, opened)?;
        self.gate.handle_flows(counts, began);
        Ok(rest)
    }

    /// Whether the flow goes on.
    fn sweep_one(
        &mut self,
        judge: &Judge<'_>,
        key: &FlowKey,
        flow: &FlowValue,
        rest: &mut Rest,
    ) -> Result<bool, DataPathError> {
        let seen = judge.fate(key, flow);
        if seen == Fate::Live {
            return Ok(true);
        }
        *rest = Rest::Busy;
        // What is there by now may be another flow.
        let Some(flow) = self.datapath.tables().flow(key)? else { return Ok(false) };
        match judge.fate(key, &flow) {
            Fate::Over => {
                self.datapath.tables_mut().remove_flow(key)?;
                return Ok(false);
            }
            Fate::NotClosing => {
                let flow = FlowValue { flags: flow.flags & !FLAG_CLOSING, ..flow };
                self.datapath.tables_mut().rewrite_flow(key, &flow)?;
            }
            Fate::Live | Fate::Closing => {}
        }
        Ok(true)
    }

    /// Writes how many of the flows that were opened under each key are gone. A key without flows is forgotten once
    /// nobody holds it, so that the program cannot be counting under it; and before that where room gets short.
    fn count(
        &mut self,
        counts: &BTreeMap<GrantKey, usize>,
        opened: &BTreeMap<GrantKey, u64>,
    ) -> Result<(), DataPathError> {
        let is_crowded = opened.len() > self.datapath.flow_capacity() as usize / 2;
        let keys: BTreeSet<_> = opened.keys().chain(self.flows.closed.keys()).copied().collect();
        for key in keys {
            let live = counts.get(&key).copied().unwrap_or(0);
            if live == 0 && (is_crowded || !self.gate.is_held(key)) {
                self.datapath.tables_mut().forget_flow_counts(&key)?;
                self.flows.closed.remove(&key);
                continue;
            }
            let closed = opened.get(&key).copied().unwrap_or(0).saturating_sub(live as u64);
            let told = self.flows.closed.get(&key).copied();
            if told != Some(closed) && (closed > 0 || told.is_some()) {
                self.datapath.tables_mut().write_flows_closed(&key, closed)?;
                self.flows.closed.insert(key, closed);
            }
        }
        Ok(())
    }

    /// Ends flows at once, and returns how many.
    pub(super) fn end_flows(&mut self, which: &BTreeSet<FlowsOf>) -> usize {
        let rules = &self.flows.rules;
        let is_meant = |key: &FlowKey, flow: &FlowValue| {
            which.contains(&FlowsOf::Service(flow.service))
                || rules
                    .get(&flow.service)
                    .is_some_and(|rule| which.contains(&FlowsOf::Grant(grant_key(key, flow.service, rule))))
        };
        let ended = self.datapath.tables_mut().end_flows(is_meant).unwrap_or_else(|error| {
            // The next sweep finds flows that nobody holds.
            tracing::error!("ending flows: {:#}", anyhow::Error::from(error));
            0
        });
        if ended > 0 {
            tracing::info!("flows ended: {ended}");
            self.flows.is_stale = true;
        }
        ended
    }

    /// Ends the flows of services that kept sessions and do not under the rules in force now.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn end_cut_flows(&mut self) -> Result<(), DataPathError> {
        let rules = &self.flows.rules;
        let is_cut = |key: &FlowKey, flow: &FlowValue| {
            rules.get(&flow.service).is_none_or(|rule| !is_looked_up(key, flow, rule))
        };
        let ended = self.datapath.tables_mut().end_flows(is_cut)?;
        self.flows.is_stale |= ended > 0;
        Ok(())
    }

    /// Has the program look for the adopted flows that an earlier controller left, also where `prepared` cuts sessions.
    /// Ends none.
    pub(super) fn look_up_left(&mut self, prepared: &Prepared) -> Result<(), DataPathError> {
        self.flows.closed = self.datapath.tables().flows_closed()?;
        let flows = self.datapath.flow_reader()?.read(None)?.flows.unwrap_or_default();
        let adopted = flows.values().filter(|flow| flow.flags & FLAG_ADOPTED != 0).map(|flow| flow.service);
        self.flows.adopted.extend(adopted);
        self.datapath.tables_mut().look_up_flows(&self.flows.adopted, Some(prepared))
    }

    /// Takes over what an earlier controller left: flows of `services` go on, as far as `rules` let them; others are
    /// removed, but for those that were adopted at `since` or later.
    pub(super) fn reconcile_flows(
        &mut self,
        rules: &Rules,
        services: &[Opening],
        since: BootTime,
    ) -> Result<usize, DataPathError> {
        self.set_flow_rules(rules);
        let known: BTreeSet<_> = services.iter().map(|opening| opening.service).collect();
        let is_mine = |flow: &FlowValue| flow.flags & FLAG_ADOPTED != 0 && flow.opened_ns >= since.0;
        self.datapath.tables_mut().end_flows(|_, flow| !known.contains(&flow.service) && !is_mine(flow))?;
        let began = clock::now();
        let found = self.datapath.flow_reader()?.read(None)?;
        let flows = found.flows.unwrap_or_default();
        let key = |(key, flow): (&FlowKey, &FlowValue)| {
            Some(grant_key(key, flow.service, self.flows.rules.get(&flow.service)?))
        };
        let mut counts = BTreeMap::new();
        for grant in flows.iter().filter_map(key) {
            *counts.entry(grant).or_default() += 1;
        }
        self.gate.adopt_flows(&counts, services, began);
        self.sweep(&flows, &found.opened, None, began.boot)?;
        Ok(self.flows.count)
    }
}

fn flow_rules(rules: &Rules) -> BTreeMap<ServiceId, ServiceRule> {
    rules.services.iter().map(|service| (service.id, service.rule())).collect()
}
