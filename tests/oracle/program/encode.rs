//! The model's terms as they stand in the maps.

use std::net::IpAddr;

use jpat_common::{
    addr::{self, Addr, V4_MAPPED_BITS},
    flow::{FLAG_ADOPTED, FLAG_CLOSING, FlowKey, FlowValue, STATE_EMBRYONIC, STATE_ESTABLISHED},
    grant::GrantKey,
    sealed::{Budget, KnockKey},
    settings::{
        FLAG_ALWAYS_ALLOW, FLAG_ANY_DESTINATION, FLAG_DROP_TUNNELS, FLAG_GRANT_HINTS, FLAG_PREFIX_DESTINATIONS,
        MODE_AUDIT, MODE_ENFORCE, Protocol, RULE_KEEP_TCP, RULE_KEEP_UDP, RULE_TCP_FLOWS, ServiceRule, Settings,
    },
};

use crate::oracle::{
    model::{
        gate::{self, TagKey},
        tables::{Flow, FlowId, GrantId, Prefix, Service, Transport},
    },
    stage::Stage,
};

/// The settings of a stage.
pub(super) fn settings(stage: &Stage) -> Settings {
    let tables = &stage.tables;
    let is_wide = tables.destinations.iter().flatten().any(|prefix| key_bits(prefix) < 128);
    let flags = [
        (tables.destinations.is_none(), FLAG_ANY_DESTINATION),
        (!tables.always_allow.is_empty(), FLAG_ALWAYS_ALLOW),
        (tables.drops_tunnels, FLAG_DROP_TUNNELS),
        (is_wide, FLAG_PREFIX_DESTINATIONS),
        (true, FLAG_GRANT_HINTS),
    ];
    Settings {
        max_ttl_ns: tables.max_ttl_ns,
        mode: if tables.audits { MODE_AUDIT } else { MODE_ENFORCE },
        slot: stage.slot,
        generation: tables.generation,
        flags: flags.iter().filter(|(is_set, _)| *is_set).fold(0, |all, (_, flag)| all | flag),
        knock_port: tables.knock_port.to_be_bytes(),
        reserved: [0; 2],
        flows_per_grant: u32::try_from(tables.flows_per_grant).unwrap_or(u32::MAX),
    }
}

/// A service.
pub(super) fn rule(service: &Service) -> ServiceRule {
    let mask = |bits: u32| addr::mask(u8::try_from(bits).unwrap_or(128));
    let flags = [
        (service.has_tcp_flows, RULE_TCP_FLOWS),
        (service.keeps_tcp, RULE_KEEP_TCP),
        (service.keeps_udp, RULE_KEEP_UDP),
    ];
    ServiceRule {
        mask_v4: mask(service.width[0] + V4_MAPPED_BITS),
        mask_v6: mask(service.width[1]),
        flags: flags.iter().filter(|(is_set, _)| *is_set).fold(0, |all, (_, flag)| all | flag),
        reserved: 0,
        flow_idle_ns: service.idle_ns,
        flow_max_ns: service.max_ns,
    }
}

/// A protocol.
pub(super) const fn protocol(transport: Transport) -> Protocol {
    match transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
    }
}

/// The 16 bytes of an address.
pub(crate) fn mapped(address: IpAddr) -> Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Length of a prefix over 16 bytes.
pub(super) fn key_bits(prefix: &Prefix) -> u32 {
    prefix.bits + if prefix.address.is_ipv4() { V4_MAPPED_BITS } else { 0 }
}

/// The key of a grant in the maps.
pub(crate) fn grant_key((prefix, service): &GrantId) -> GrantKey {
    GrantKey::new(&mapped(prefix.address), &addr::mask(128), *service)
}

/// The key of a flow in the map.
pub(crate) fn flow_key(id: &FlowId) -> FlowKey {
    let protocol = match id.transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    };
    let ((source, from), (destination, to)) = (id.source, id.destination);
    FlowKey::new(mapped(source), from.to_be_bytes(), mapped(destination), to.to_be_bytes(), protocol)
}

/// A flow in the map.
pub(crate) fn flow_value(flow: &Flow) -> FlowValue {
    let state = if flow.is_established { STATE_ESTABLISHED } else { STATE_EMBRYONIC };
    let flags = [(flow.is_closing, FLAG_CLOSING), (flow.is_adopted, FLAG_ADOPTED)];
    FlowValue {
        seen_ns: flow.seen_ns,
        flags: flags.iter().filter(|(is_set, _)| *is_set).fold(0, |all, (_, flag)| all | flag),
        ..FlowValue::new(flow.opened_ns, flow.service, flow.generation, state)
    }
}

/// A knock key in the map.
pub(super) fn key(key: &TagKey) -> KnockKey {
    let number = u128::from_le_bytes(key.secret);
    KnockKey { k0: number as u64, k1: (number >> 64) as u64, group: key.group, reserved: 0 }
}

/// A budget in the map.
pub(super) const fn budget(budget: &gate::Budget) -> Budget {
    let gate::Budget { cost_ns, most_ns, taken_ns, at_ns } = *budget;
    Budget { interval_ns: cost_ns, burst_ns: most_ns, next_ns: at_ns.saturating_add(taken_ns) }
}
