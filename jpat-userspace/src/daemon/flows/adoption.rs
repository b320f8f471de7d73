//! The connections that stand when enforcement begins.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use jpat_common::{
    addr::{self, Addr},
    flow::{FlowKey, FlowValue, STATE_EMBRYONIC, STATE_ESTABLISHED},
    grant::ServiceId,
};

use super::{
    super::{
        core::Core,
        sweeper::{grant_key, is_looked_up},
    },
    flow_rules,
};
use crate::{
    audit::{Event, Kind},
    clock,
    config::{PortRange, Protocol},
    datapath::{
        error::DataPathError,
        sock_diag,
        tables::{Prepared, Rules},
    },
    verify::Opening,
};

/// What an adoption found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Adopted {
    /// Connections that are flows now.
    count: usize,
    /// Connections for which there was no room.
    refused: usize,
}

impl Core {
    /// As [`Self::adopt_standing`]. What would be cut all the same is refused, or only told where that is asked for.
    ///
    /// # Errors
    /// How many connections would be cut, or why that is not known.
    pub(in super::super) fn adopt_or_refuse(
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
    fn adopt_standing(
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

/// The service that a connection of this host belongs to, if its segments would be judged.
fn service_of(key: &FlowKey, rules: &Rules) -> Option<ServiceId> {
    if addr::is_this_host(key.source()) {
        return None;
    }
    let (source, destination) = (address(key.source()), address(key.destination()));
    let is_judged = rules.destinations.as_ref().is_none_or(|nets| nets.iter().any(|net| net.contains(&destination)));
    let is_allowed = rules.always_allow.iter().any(|net| net.contains(&source));
    let port = key.destination_port();
    let has_port = |range: &PortRange| range.protocol == Protocol::Tcp && (range.first..=range.last).contains(&port);
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
