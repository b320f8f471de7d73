//! What the gate knows of flows: how many each grant's key has, and who must be asked before they go on.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use jpat_common::grant::{GrantKey, ServiceId};

use super::{
    Command, FlowsOf, Gate, GrantView,
    grants::LeaseId,
    lease::{Holder, Lease},
};
use crate::{
    audit::Event,
    clock::{BootTime, Now},
    verify::Opening,
};

/// What a revocation found.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Revoked {
    /// Live leases.
    pub leases: usize,
    /// Keys whose grant had ended before, and whose flows had not.
    pub outlived: usize,
}

impl Gate {
    /// Takes what the flow map was seen to hold by somebody who began at `began`: flows by the key of their grant.
    ///
    /// Flows of which no holder is known are ended: they were opened in the very moment of a revocation. So every flow
    /// that is not of this gate's own grants must be given to [`Self::adopt_flows`] first.
    pub fn handle_flows(&mut self, flows: BTreeMap<GrantKey, usize>, began: BootTime) {
        self.outlived.prune(|key| flows.contains_key(key), began);
        for key in flows.keys() {
            if !self.grants.is_held(*key) && !self.outlived.contains(key) {
                self.commands.push_back(Command::EndFlows(FlowsOf::Grant(*key)));
            }
        }
        self.flows = flows;
    }

    /// Takes over flows whose holder is not known: connections that stood when enforcement began, and what an earlier
    /// controller left, counted by the key of their grant. They are of the principal `adopted`. Returns them by key; those
    /// of no service are left out.
    pub fn adopt_flows(&mut self, flows: &BTreeMap<GrantKey, usize>, services: &[Opening], now: Now) -> Vec<GrantView> {
        let holder = Arc::new(Holder::Adopted);
        let lease = |key: &GrantKey| {
            let opening = services.iter().find(|opening| opening.service == key.service())?;
            let source = IpAddr::V6(Ipv6Addr::from(*key.source()));
            Some(Lease::new(&holder, opening, source, now.boot))
        };
        let leases: Vec<_> = flows.keys().filter_map(lease).collect();
        for (key, count) in flows {
            *self.flows.entry(*key).or_default() += count;
        }
        let views = leases.iter().map(|lease| lease.view(self.flows_of(lease.key), now)).collect();
        for lease in leases {
            self.outlived.add(lease, now.boot);
        }
        views
    }

    /// Grants that ended before their flows did, ordered by source and service: who held them, and until when.
    #[must_use]
    pub fn outlived(&self, now: Now) -> Vec<GrantView> {
        let has_flows = |lease: &&Lease| self.flows_of(lease.key) > 0 && !self.grants.is_held(lease.key);
        self.outlived.leases().filter(has_flows).map(|lease| lease.view(self.flows_of(lease.key), now)).collect()
    }

    /// Flows of a key, as last seen.
    pub(super) fn flows_of(&self, key: GrantKey) -> usize {
        self.flows.get(&key).copied().unwrap_or(0)
    }

    /// Takes leases away, and every flow of their keys with them. Returns how many leases.
    pub(super) fn cut(&mut self, leases: Vec<LeaseId>, event: impl Fn(&Lease) -> Event) -> usize {
        let removed = self.take(leases, event);
        let keys: BTreeSet<_> = removed.iter().map(|lease| lease.key).collect();
        for key in keys {
            self.outlived.remove(&key);
            self.commands.push_back(Command::EndFlows(FlowsOf::Grant(key)));
        }
        removed.len()
    }

    /// Ends the flows of keys whose grant has ended. Returns how many of these keys had any.
    pub(super) fn cut_outlived(&mut self, keys: Vec<GrantKey>, event: impl Fn(&Lease) -> Event) -> usize {
        let mut count = 0;
        for key in keys {
            let leases = self.outlived.remove(&key);
            if leases.is_empty() {
                continue;
            }
            self.commands.push_back(Command::EndFlows(FlowsOf::Grant(key)));
            if self.flows.remove(&key).is_some() {
                count += 1;
                leases.iter().for_each(|lease| self.audit(event(lease)));
            }
        }
        count
    }

    /// Ends every flow to these services.
    pub(super) fn cut_services(&mut self, services: &BTreeSet<ServiceId>, event: impl Fn(&Lease) -> Event) {
        let is_theirs = |key: &GrantKey| services.contains(&key.service());
        let keys: BTreeSet<_> = self.outlived.leases().map(|lease| lease.key).filter(is_theirs).collect();
        for key in keys {
            for lease in self.outlived.remove(&key) {
                if self.flows_of(key) > 0 {
                    self.audit(event(&lease));
                }
            }
        }
        self.flows.retain(|key, _| !is_theirs(key));
        self.commands.extend(services.iter().map(|service| Command::EndFlows(FlowsOf::Service(*service))));
    }
}
