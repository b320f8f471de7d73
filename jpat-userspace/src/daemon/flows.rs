//! Flows in the data path: swept, counted, ended, adopted.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use jpat_common::{
    addr::{self, Addr},
    flow::{FLAG_ADOPTED, FLAG_CLOSING, FlowKey, FlowValue, STATE_EMBRYONIC, STATE_ESTABLISHED},
    grant::{GrantKey, ServiceId},
    settings::ServiceRule,
};

use super::{
    core::Core,
    sweeper::{Fate, Judge, Rest, grant_key, is_looked_up},
};
use crate::{
    audit::{Event, Kind},
    clock::{self, BootTime},
    config::Protocol,
    datapath::{
        error::DataPathError,
        sock_diag::{self, Sockets},
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
    /// How many flows there were then.
    pub(super) count: usize,
    /// Something changed that nobody has seen yet.
    pub(super) is_stale: bool,
}

/// What an adoption found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Adopted {
    /// Connections that are flows now.
    pub(super) count: usize,
    /// Connections for which there was no room.
    pub(super) refused: usize,
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
        self.flows.adopted = adopted;
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

    /// Takes over what an earlier controller left: flows of `services` go on, as far as `rules` let them; others are
    /// removed.
    pub(super) fn reconcile_flows(&mut self, rules: &Rules, services: &[Opening]) -> Result<usize, DataPathError> {
        self.set_flow_rules(rules);
        let known: BTreeSet<_> = services.iter().map(|opening| opening.service).collect();
        self.datapath.tables_mut().end_flows(|_, flow| !known.contains(&flow.service))?;
        self.flows.closed = self.datapath.tables().flows_closed()?;
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

    /// As [`Self::adopt_standing`]. What would be cut all the same is refused, or only told where that is asked for.
    ///
    /// # Errors
    /// How many connections would be cut, or why that is not known.
    pub(super) fn adopt_or_refuse(
        &mut self,
        rules: &Rules,
        services: &[Opening],
        prepared: Option<&Prepared>,
        force: bool,
    ) -> anyhow::Result<()> {
        let trouble = match self.adopt_standing(rules, services, prepared) {
            Ok(Adopted { refused: 0, .. }) => return Ok(()),
            Ok(Adopted { count, refused }) => anyhow::anyhow!(
                "{refused} of {} connections that stand would be cut: the flow map is full\n  remedy: raise `limits.flows`, after `jpatd detach`, or insist with --force",
                count + refused
            ),
            Err(error) => anyhow::Error::from(error).context(
                "connections that stand would be cut (--force insists on that), because they cannot be adopted",
            ),
        };
        if force {
            tracing::warn!("{trouble:#}");
            return Ok(());
        }
        Err(trouble)
    }

    /// Makes flows of the TCP connections that stand on protected ports of judged destinations: enforcement is about to
    /// begin, or began just now. Sources that are always allowed need none.
    pub(super) fn adopt_standing(
        &mut self,
        rules: &Rules,
        services: &[Opening],
        prepared: Option<&Prepared>,
    ) -> Result<Adopted, DataPathError> {
        let sockets = sock_diag::tcp().map_err(DataPathError::Sockets)?;
        let now = clock::now();
        let by_service = flow_rules(rules);
        let (mut adopted, mut counts) = (Adopted::default(), BTreeMap::new());
        // Half-open ones too: what their clients take for a connection must not be dead.
        let standing = sockets.established.iter().map(|key| (key, STATE_ESTABLISHED));
        let standing = standing.chain(sockets.opening.iter().map(|key| (key, STATE_EMBRYONIC)));
        for (key, state) in standing {
            let Some(service) = service_of(key, rules) else { continue };
            let Some(rule) = by_service.get(&service) else { continue };
            let is_there = self.datapath.tables().flow(key)?.is_some_and(|flow| {
                flow.service == service
                    && is_looked_up(key, &flow, rule)
                    && flow.refusal(now.boot.0, self.generation, rule).is_none()
            });
            if is_there {
                continue;
            }
            let flow = FlowValue { state, ..FlowValue::adopted(now.boot.0, service, self.generation) };
            if self.datapath.tables_mut().write_flow(key, &flow)? {
                adopted.count += 1;
                *counts.entry(grant_key(key, service, rule)).or_default() += 1;
                self.flows.adopted.insert(service);
            } else {
                adopted.refused += 1;
            }
        }
        self.flows.count += adopted.count;
        self.flows.is_stale |= adopted.count > 0;
        self.datapath.tables_mut().look_up_flows(&self.flows.adopted, prepared)?;
        for view in self.gate.adopt_flows(&counts, services, now) {
            self.audit.write(&Event {
                principal: Some(view.principal),
                source: Some(view.source.addr()),
                service: Some(view.service.as_str().into()),
                ..Event::new(Kind::Adopted, now.unix)
            });
        }
        if adopted.count > 0 {
            tracing::info!(
                "adopted connections that stood when enforcement began, and go on without a grant: {}",
                adopted.count
            );
        }
        Ok(adopted)
    }
}

fn flow_rules(rules: &Rules) -> BTreeMap<ServiceId, ServiceRule> {
    rules.services.iter().map(|service| (service.id, service.rule())).collect()
}

/// The service that a connection of this host belongs to, if its segments would be judged.
fn service_of(key: &FlowKey, rules: &Rules) -> Option<ServiceId> {
    if addr::is_this_host(key.source()) {
        return None;
    }
    let (source, destination) = (address(key.source()), address(key.destination()));
    let is_judged = rules.destinations.as_ref().is_none_or(|nets| nets.iter().any(|net| net.contains(&destination)));
    let is_allowed = rules.always_allow.iter().any(|net| net.contains(&source));
    let port = key.destination_port();
    let has_port = |range: &crate::config::PortRange| {
        range.protocol == Protocol::Tcp && (range.first..=range.last).contains(&port)
    };
    let service = rules.services.iter().find(|service| service.ports.iter().any(has_port))?;
    (is_judged && !is_allowed).then_some(service.id)
}

fn address(bytes: &Addr) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(*bytes)).to_canonical()
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use super::*;
    use crate::{
        config::{PortRange, PrefixWidths, Sessions},
        datapath::tables::Service,
    };

    fn rules() -> Rules {
        let service = Service {
            id: 5,
            ports: vec![PortRange { protocol: Protocol::Tcp, first: 20, last: 22 }],
            prefix: PrefixWidths { v4: 32, v6: 64 },
            sessions: Sessions {
                keeps_tcp: false,
                keeps_udp: false,
                flow_idle: Duration::from_secs(600),
                flow_max: Duration::from_secs(3600),
            },
        };
        Rules {
            services: vec![service],
            always_allow: ["203.0.113.0/28".parse().unwrap()].into(),
            destinations: Some(["192.0.2.1/32", "2001:db8::1/128"].map(|net| net.parse().unwrap()).into()),
            drop_tunnels: false,
            knock_port: 1337,
            max_ttl: Duration::from_secs(60),
            flows_per_grant: 4,
        }
    }

    #[test]
    fn p8_connections_are_adopted_where_their_segments_would_be_judged_and_refused() {
        let bytes = |address: IpAddr| match address {
            IpAddr::V4(v4) => addr::from_v4(v4.octets()),
            IpAddr::V6(v6) => v6.octets(),
        };
        for (peer, local, expected) in [
            ("198.51.100.7:50000", "192.0.2.1:22", Some(5)),
            ("[2001:db8::7]:50000", "[2001:db8::1]:20", Some(5)),
            ("[::ffff:198.51.100.7]:50000", "[::ffff:192.0.2.1]:22", Some(5)),
            ("198.51.100.7:50000", "192.0.2.1:23", None),
            ("198.51.100.7:50000", "192.0.2.2:22", None),
            ("203.0.113.7:50000", "192.0.2.1:22", None),
            ("127.0.0.1:50000", "192.0.2.1:22", None),
        ] {
            let [from, to]: [SocketAddr; 2] = [peer, local].map(|end| end.parse().unwrap());
            let ports = [from, to].map(|end| end.port().to_be_bytes());
            let key = FlowKey::new(bytes(from.ip()), ports[0], bytes(to.ip()), ports[1], 6);
            assert_eq!(service_of(&key, &rules()), expected, "{peer} to {local}");
            let any = Rules { destinations: None, ..rules() };
            assert_eq!(service_of(&key, &any).is_some(), expected.is_some() || local == "192.0.2.2:22", "{peer}");
        }
    }
}
