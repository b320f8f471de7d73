//! What the rules are asked of: settings, services, grants and flows, in the terms of the configuration.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::gate::Gate;

/// A transport protocol that has ports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// An address prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Prefix {
    pub(crate) address: IpAddr,
    pub(crate) bits: u32,
}

impl Prefix {
    /// The prefix of `bits` that `address` is in.
    pub(crate) fn of(address: IpAddr, bits: u32) -> Self {
        let address = match address {
            IpAddr::V4(v4) => {
                let low = 32_u32.saturating_sub(bits);
                Ipv4Addr::from(u32::try_from(u64::from(u32::from(v4)) >> low << low).unwrap_or(0)).into()
            }
            IpAddr::V6(v6) => {
                let low = 128_u32.saturating_sub(bits);
                Ipv6Addr::from(u128::from(v6).checked_shr(low).unwrap_or(0).checked_shl(low).unwrap_or(0)).into()
            }
        };
        Self { address, bits }
    }

    /// Whether `address` is in it.
    pub(crate) fn holds(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && Self::of(address, self.bits) == *self
    }
}

/// A service of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Service {
    /// Width of the prefix that a grant covers, in IPv4 and in IPv6.
    pub(crate) width: [u32; 2],
    /// Whether TCP segments can be on flows: kept ones, or adopted ones.
    pub(crate) has_tcp_flows: bool,
    /// Whether TCP connections outlive their grant.
    pub(crate) keeps_tcp: bool,
    /// Whether UDP flows do, and exist at all.
    pub(crate) keeps_udp: bool,
    /// How long a flow may be silent.
    pub(crate) idle_ns: u64,
    /// How long a flow may last.
    pub(crate) max_ns: u64,
}

/// A source prefix and a service.
pub(crate) type GrantId = (Prefix, u32);

/// A grant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    pub(crate) end_ns: u64,
    pub(crate) generation: u32,
}

/// The 5-tuple of a flow, client to host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct FlowId {
    pub(crate) transport: Transport,
    pub(crate) source: (IpAddr, u16),
    pub(crate) destination: (IpAddr, u16),
}

/// A flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Flow {
    pub(crate) opened_ns: u64,
    pub(crate) seen_ns: u64,
    pub(crate) service: u32,
    pub(crate) generation: u32,
    pub(crate) is_established: bool,
    pub(crate) is_closing: bool,
    pub(crate) is_adopted: bool,
}

/// Everything that a verdict depends on beside the frame and the time.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    /// `mode = "audit"`.
    pub(crate) audits: bool,
    /// `tunnels = "drop"`.
    pub(crate) drops_tunnels: bool,
    /// Destinations that are judged besides groups and the host itself, or `None` for any.
    pub(crate) destinations: Option<Vec<Prefix>>,
    /// Sources that are always allowed.
    pub(crate) always_allow: Vec<Prefix>,
    /// The knock port.
    pub(crate) knock_port: u16,
    /// Which service lists a port.
    pub(crate) ports: BTreeMap<(Transport, u16), u32>,
    /// By number.
    pub(crate) services: BTreeMap<u32, Service>,
    /// Live generation.
    pub(crate) generation: u32,
    /// Longest time that a grant may still have.
    pub(crate) max_ttl_ns: u64,
    /// By source prefix and service.
    pub(crate) grants: BTreeMap<GrantId, Grant>,
    /// By 5-tuple.
    pub(crate) flows: BTreeMap<FlowId, Flow>,
    /// Most flows in all.
    pub(crate) flow_capacity: usize,
    /// Most flows under one grant.
    pub(crate) flows_per_grant: u64,
    /// How many flows were opened under a grant.
    pub(crate) opened: BTreeMap<GrantId, u64>,
    /// How many of those the controller has seen go.
    pub(crate) closed: BTreeMap<GrantId, u64>,
    /// What is asked of knocks.
    pub(crate) gate: Gate,
}

impl Tables {
    /// Whether packets to `address` are judged: the configured destinations, every group, and what means this host. An
    /// IPv4-mapped address is taken for that IPv4 address.
    pub(crate) fn judges(&self, address: IpAddr) -> bool {
        let Some(destinations) = &self.destinations else { return true };
        let address = address.to_canonical();
        is_group(address) || is_this_host(address) || destinations.iter().any(|prefix| prefix.holds(address))
    }

    /// The key of a grant of `service` for `source`.
    pub(crate) fn grant_id(&self, source: IpAddr, service: u32) -> GrantId {
        let width = self.services.get(&service).map_or([32, 128], |service| service.width);
        (Prefix::of(source, width[usize::from(source.is_ipv6())]), service)
    }
}

/// Whether `source` may ever hold a grant.
pub(crate) fn may_hold_grants(source: IpAddr) -> bool {
    let is_link_local = match source {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !is_link_local && !is_group(source) && !is_this_host(source)
}

fn is_group(address: IpAddr) -> bool {
    address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// RFC 6890 §2.2.2: 0.0.0.0/8 and 127.0.0.0/8, `::` and `::1`.
fn is_this_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified(),
    }
}
