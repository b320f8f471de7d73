//! The firewall's decision. By meaning the order is: parse, destination, knock port, always-allow, protected port,
//! grant. What no table of addresses could turn into a refusal passes first, so that traffic to unprotected ports
//! costs one look-up.

use jpat_common::{
    addr::{self, Addr},
    grant::{GrantKey, GrantValue, ServiceId},
    knock::MAX_PAYLOAD,
    reason::{DropReason, PassReason},
    settings::{
        FLAG_ALWAYS_ALLOW, FLAG_ANY_DESTINATION, FLAG_DROP_TUNNELS, Protocol, ServiceRule, Settings, port_index,
        service_index,
    },
};

use crate::{
    parse::{Addresses, Carries, Packet, Segment},
    verdict::{Decision, Verdict},
};

/// UDP ports that carry other packets: L2TP, GTP-U, ESP, VXLAN, VXLAN-GPE, GUE, GENEVE, MPLS, and VXLAN as Linux
/// numbered it first.
const TUNNEL_PORTS: [u16; 9] = [1701, 2152, 4500, 4789, 4790, 6080, 6081, 6635, 8472];

/// What the decision looks up.
pub trait Tables {
    /// The service that lists the port at this [`port_index`]; 0 for none.
    fn service(&self, port_index: u32) -> ServiceId;
    /// The rule at this [`service_index`].
    fn rule(&self, service_index: u32) -> Option<&ServiceRule>;
    /// Whether packets to this address are judged.
    fn is_destination(&self, address: &Addr) -> bool;
    /// Whether this source is always allowed.
    fn is_always_allowed(&self, address: &Addr) -> bool;
    /// The grant under this key, live or not.
    fn grant(&self, key: &GrantKey) -> Option<GrantValue>;
    /// Nanoseconds of `CLOCK_BOOTTIME`; read only where a grant was found.
    fn now_ns(&self) -> u64;
}

/// Why a packet may have to be refused.
enum Concern {
    Malformed(DropReason),
    Knock(Segment),
    Service(Segment, ServiceId),
    Tunnel,
}

/// Decides on one frame.
#[inline(always)]
pub fn decide(packet: &Packet<'_>, settings: &Settings, tables: &impl Tables) -> Decision {
    let drops_tunnels = settings.flags & FLAG_DROP_TUNNELS != 0;
    let concern = match packet.carries {
        Carries::NotIp => return pass(PassReason::NotIp),
        Carries::Icmp => return pass(PassReason::Icmp),
        Carries::Other => return pass(PassReason::OtherProtocol),
        Carries::LaterFragment => return pass(PassReason::LaterFragment),
        Carries::Tunnel if !drops_tunnels => return pass(PassReason::Tunnel),
        Carries::Tunnel => Concern::Tunnel,
        Carries::Malformed(reason) => Concern::Malformed(reason),
        Carries::Segment(segment) => {
            let port = u16::from_be_bytes(segment.port);
            let is_udp = matches!(segment.protocol, Protocol::Udp);
            let service = tables.service(port_index(settings.slot, segment.protocol, port));
            if is_udp && segment.port == settings.knock_port {
                Concern::Knock(segment)
            } else if service != 0 {
                Concern::Service(segment, service)
            } else if is_udp && drops_tunnels && TUNNEL_PORTS.contains(&port) {
                Concern::Tunnel
            } else {
                return pass(PassReason::UnprotectedPort);
            }
        }
    };
    if !is_judged(&packet.addresses, settings, tables) {
        return pass(PassReason::OtherDestination);
    }
    match concern {
        Concern::Malformed(reason) => drop(reason),
        Concern::Knock(datagram) => Decision { service: 0, verdict: knock(packet, datagram) },
        Concern::Service(..) | Concern::Tunnel if is_always_allowed(&packet.addresses.source(), settings, tables) => {
            pass(PassReason::AlwaysAllow)
        }
        Concern::Tunnel => drop(DropReason::Tunnel),
        Concern::Service(segment, service) => {
            Decision { service, verdict: admit(packet, segment, service, settings, tables) }
        }
    }
}

/// Fragments and broken lengths are refused with a grant too: later fragments pass unseen, and can then only complete
/// datagrams for unprotected ports.
#[inline(always)]
fn admit(
    packet: &Packet<'_>,
    segment: Segment,
    service: ServiceId,
    settings: &Settings,
    tables: &impl Tables,
) -> Verdict {
    if segment.is_first_fragment {
        return Verdict::Drop(DropReason::FirstFragment);
    }
    if let Some(fault) = segment.fault {
        return Verdict::Drop(fault);
    }
    let Some(rule) = tables.rule(service_index(settings.slot, service)) else {
        return Verdict::Drop(DropReason::NoGrant);
    };
    let mask = match packet.addresses {
        Addresses::Ipv4(_) => &rule.mask_v4,
        Addresses::Ipv6(_) | Addresses::Unknown => &rule.mask_v6,
    };
    let Some(grant) = tables.grant(&GrantKey::new(&packet.addresses.source(), mask, service)) else {
        return Verdict::Drop(DropReason::NoGrant);
    };
    match grant.refusal(tables.now_ns(), settings.generation, settings.max_ttl_ns) {
        None => Verdict::Pass(PassReason::Grant),
        Some(reason) => Verdict::Drop(reason),
    }
}

#[inline(always)]
fn knock(packet: &Packet<'_>, datagram: Segment) -> Verdict {
    if datagram.is_first_fragment {
        return Verdict::Drop(DropReason::FirstFragment);
    }
    if let Some(fault) = datagram.fault {
        return Verdict::Drop(fault);
    }
    match packet.payload.left() {
        0 => Verdict::Drop(DropReason::KnockEmpty),
        1..=MAX_PAYLOAD if addr::may_hold_grants(&packet.addresses.source()) => Verdict::Knock,
        1..=MAX_PAYLOAD => Verdict::Drop(DropReason::KnockBadSource),
        _ => Verdict::Drop(DropReason::KnockTooLong),
    }
}

/// An unreadable destination may be the host's. Groups, and the addresses that mean the host itself, reach it whatever
/// its addresses are.
#[inline(always)]
fn is_judged(addresses: &Addresses<'_>, settings: &Settings, tables: &impl Tables) -> bool {
    if matches!(addresses, Addresses::Unknown) || settings.flags & FLAG_ANY_DESTINATION != 0 {
        return true;
    }
    let destination = addresses.destination();
    addr::is_group(&destination) || addr::is_this_host(&destination) || tables.is_destination(&destination)
}

#[inline(always)]
fn is_always_allowed(source: &Addr, settings: &Settings, tables: &impl Tables) -> bool {
    settings.flags & FLAG_ALWAYS_ALLOW != 0 && tables.is_always_allowed(source)
}

#[inline(always)]
const fn pass(reason: PassReason) -> Decision {
    Decision { service: 0, verdict: Verdict::Pass(reason) }
}

#[inline(always)]
const fn drop(reason: DropReason) -> Decision {
    Decision { service: 0, verdict: Verdict::Drop(reason) }
}
