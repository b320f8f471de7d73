//! `[[service]]` and `[[deny]]`.

use std::time::Duration;

use jpat_common::grant::MAX_SERVICES;

use super::{Resolver, all};
use crate::config::{
    DenyRule, MAX_TTL, PortRange, PrefixWidths, Protocol, Service, Sessions, keys::closest, raw, value,
};

/// Ports that a service has, and where it says so.
struct Taken {
    range: PortRange,
    key: String,
    owner: String,
}

/// Lives above this are said, not refused.
const LONG_TTL: Duration = Duration::from_secs(3600);

/// Longest `flow_idle`.
const MAX_FLOW_IDLE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Longest `flow_max`.
const MAX_FLOW: Duration = Duration::from_secs(30 * 24 * 3600);

impl Resolver {
    /// `issuers` are the names to choose from.
    pub(super) fn services(
        &mut self,
        raw: Vec<raw::Service>,
        issuers: &[String],
        knock_port: Option<u16>,
    ) -> Option<Vec<Service>> {
        self.not_empty("service", &raw, "a [[service]]: without one there is nothing to protect");
        if raw.len() >= MAX_SERVICES as usize {
            self.error("service", format!("{} services", raw.len()), format!("at most {}", MAX_SERVICES - 1));
        }
        let (mut names, mut taken) = (Vec::new(), Vec::new());
        let mut services = Vec::new();
        for (at, service) in raw.into_iter().enumerate() {
            let parent = format!("service[{at}]");
            let name = self.name(&parent, service.name.clone(), &mut names);
            let ports = self.ports(&parent, name.as_deref(), &service.ports, knock_port, &mut taken);
            services.push(self.service(&parent, service, name, ports, issuers));
        }
        all(services)
    }

    fn service(
        &mut self,
        parent: &str,
        raw: raw::Service,
        name: Option<String>,
        ports: Option<Vec<PortRange>>,
        issuers: &[String],
    ) -> Option<Service> {
        let key = |name: &str| format!("{parent}.{name}");
        let sessions = self.sessions(parent, &raw);
        let chosen = self.chosen(&key("issuers"), raw.issuers, issuers);
        let allow = self.required(&key("allow"), raw.allow, "allow = '…', a CEL expression over `claims`");
        let allow = self.expression(&key("allow"), allow);
        let ttl = self.required(&key("ttl"), raw.ttl, "ttl = \"30s\"");
        let ttl = ttl.and_then(|ttl| self.duration(&key("ttl"), &ttl, Duration::from_secs(1)..=MAX_TTL));
        if ttl.is_some_and(|ttl| ttl > LONG_TTL) {
            let message = "open for more than an hour to everyone behind the knocking address";
            self.warn(&key("ttl"), message, "knock again instead: a knock renews");
        }
        let prefix = self.prefix_widths(&key("prefix"), &raw.prefix);
        Some(Service {
            name: name?,
            issuers: chosen?,
            ports: ports?,
            allow: allow?,
            ttl: ttl?,
            prefix: prefix?,
            sessions: sessions?,
        })
    }

    fn sessions(&mut self, parent: &str, raw: &raw::Service) -> Option<Sessions> {
        let key = |name: &str| format!("{parent}.{name}");
        let written = raw.sessions.as_deref();
        let keeps = written.map(|word| self.word(&key("sessions"), word, &[("keep", true), ("cut", false)]));
        let idle = self.duration(&key("flow_idle"), &raw.flow_idle, Duration::from_secs(1)..=MAX_FLOW_IDLE);
        let max = self.duration(&key("flow_max"), &raw.flow_max, Duration::from_secs(1)..=MAX_FLOW);
        let (keeps_tcp, keeps_udp) = match keeps {
            None => (true, false),
            Some(keeps) => (keeps?, keeps?),
        };
        Some(Sessions { keeps_tcp, keeps_udp, flow_idle: idle?, flow_max: max? })
    }

    fn chosen(&mut self, key: &str, raw: Option<Vec<String>>, issuers: &[String]) -> Option<Vec<String>> {
        let Some(chosen) = raw else {
            return match issuers {
                [only] => Some(vec![only.clone()]),
                [] => None,
                [..] => self.required(key, None, &format!("issuers = [{}], or those that count", quoted(issuers))),
            };
        };
        self.not_empty(key, &chosen, "the names of the issuers whose tokens count");
        for (at, name) in chosen.iter().enumerate() {
            if !issuers.contains(name) {
                let remedy = match closest(name, issuers.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("use {}", quoted(issuers)),
                };
                self.error(&format!("{key}[{at}]"), format!("there is no issuer `{name}`"), remedy);
            }
        }
        Some(chosen)
    }

    fn ports(
        &mut self,
        parent: &str,
        name: Option<&str>,
        raw: &[String],
        knock_port: Option<u16>,
        taken: &mut Vec<Taken>,
    ) -> Option<Vec<PortRange>> {
        let key = format!("{parent}.ports");
        let owner = name.map_or_else(|| "a service without a name".to_owned(), |name| format!("`{name}`"));
        self.not_empty(&key, raw, "ports = [\"tcp/8443\"]");
        let mut ports = Vec::new();
        for (at, text) in raw.iter().enumerate() {
            let key = format!("{key}[{at}]");
            let Some(range) = self.good(&key, value::ports(text)) else {
                ports.push(None);
                continue;
            };
            if let Some(other) = taken.iter().find(|other| overlap(other.range, range)) {
                let (line, column) = self.source.place(&other.key);
                let message = format!(
                    "`{range}` of {owner} is taken by `{}` of {} in line {line}, column {column}",
                    other.range, other.owner
                );
                self.error(&key, message, "a port belongs to one service: remove it from one of the two places");
            }
            let knock = knock_port.map(|port| PortRange { protocol: Protocol::Udp, first: port, last: port });
            if knock.is_some_and(|knock| overlap(knock, range)) {
                let remedy = "move listen.port, or take the port out of the service";
                self.error(&key, format!("`{range}` holds the knock port, where nothing else is let through"), remedy);
            }
            taken.push(Taken { range, key, owner: owner.clone() });
            ports.push(Some(range));
        }
        all(ports)
    }

    fn prefix_widths(&mut self, key: &str, raw: &raw::Prefix) -> Option<PrefixWidths> {
        let v4: Option<u8> = self.number(&format!("{key}.v4"), raw.v4, 1..=32);
        let v6: Option<u8> = self.number(&format!("{key}.v6"), raw.v6, 1..=128);
        let (v4, v6) = (v4?, v6?);
        for (name, width, narrow) in [("v4", v4, 32), ("v6", v6, 64)] {
            if width < narrow {
                let message = format!("a grant opens for the whole /{width} around the one who knocked");
                self.warn(&format!("{key}.{name}"), message, format!("use {narrow}, unless senders move within it"));
            }
        }
        Some(PrefixWidths { v4, v6 })
    }

    pub(super) fn deny(&mut self, raw: Vec<raw::Deny>) -> Option<Vec<DenyRule>> {
        let mut names = Vec::new();
        let mut rules = Vec::new();
        for (at, rule) in raw.into_iter().enumerate() {
            let parent = format!("deny[{at}]");
            let name = self.name(&parent, rule.name, &mut names);
            let key = format!("{parent}.when");
            let when = self.required(&key, rule.when, "when = '…', a CEL expression over `claims`");
            let when = self.expression(&key, when);
            rules.push(name.zip(when).map(|(name, when)| DenyRule { name, when }));
        }
        all(rules)
    }

    fn expression(&mut self, key: &str, text: Option<String>) -> Option<String> {
        let text = text?;
        if text.trim().is_empty() {
            self.error(key, "an empty expression", "write CEL over `claims`; for every good token, `true`");
            return None;
        }
        Some(text)
    }
}

fn overlap(a: PortRange, b: PortRange) -> bool {
    a.protocol == b.protocol && a.first <= b.last && b.first <= a.last
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}
