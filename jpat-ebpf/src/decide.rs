//! The firewall's decision. By meaning the order is: parse, destination, knock port, always-allow, protected port,
//! flow, grant (the last two in `admit.rs`). What no table of addresses could turn into a refusal passes first, so that
//! traffic to unprotected ports costs one look-up.

use jpat_common::{
    addr::{self, Addr},
    flow::{FlowKey, FlowValue},
    grant::{GrantKey, GrantValue, ServiceId},
    knock::MAX_PAYLOAD,
    reason::{DropReason, PassReason},
    settings::{
        FLAG_ALWAYS_ALLOW, FLAG_ANY_DESTINATION, FLAG_DROP_TUNNELS, FLAG_PREFIX_DESTINATIONS, Protocol, ServiceRule,
        Settings, port_index,
    },
};

use crate::{
    admit::admit,
    parse::{Addresses, Carries, Packet},
    verdict::{Decision, Verdict},
};

/// UDP ports that carry other packets: L2TP, GTP-U, ESP, VXLAN, VXLAN-GPE, GUE, GENEVE, MPLS, and VXLAN as Linux
/// numbered it first.
const TUNNEL_PORTS: [u16; 9] = [1701, 2152, 4500, 4789, 4790, 6080, 6081, 6635, 8472];

/// What the decision looks up, and the flows that it keeps.
pub trait Tables {
    /// Where a flow lies that was found.
    type Place: Copy;

    /// The service that lists the port at this [`port_index`]; 0 for none.
    fn service(&self, port_index: u32) -> ServiceId;
    /// The rule at this [`service_index`](jpat_common::settings::service_index).
    fn rule(&self, service_index: u32) -> Option<&ServiceRule>;
    /// Whether packets to exactly this address are judged.
    fn is_host(&self, address: &Addr) -> bool;
    /// Whether packets to a prefix with this address are judged.
    fn is_in_destinations(&self, address: &Addr) -> bool;
    /// Whether this source is always allowed.
    fn is_always_allowed(&self, address: &Addr) -> bool;
    /// Whether there can be a grant under this key: `false` is certain. Asked only where the settings say that somebody
    /// keeps this table.
    fn may_have_grant(&self, _key: &GrantKey) -> bool {
        true
    }
    /// The grant under this key, live or not.
    fn grant(&self, key: &GrantKey) -> Option<GrantValue>;
    /// The flow under this key, live or not.
    fn flow(&self, key: &FlowKey) -> Option<(Self::Place, FlowValue)>;
    /// Stamps a flow with the time of a packet; perhaps it is established by it, or the client closes.
    fn touch_flow(&self, place: Self::Place, now_ns: u64, establishes: bool, closes: bool);
    /// Flows that a grant has; `None` where there is no room to count them.
    fn flows_of(&self, grant: &GrantKey) -> Option<u64>;
    /// Writes and counts a flow of a grant, if there is room. What is under the key is not live any more.
    fn open_flow(&self, key: &FlowKey, value: &FlowValue, grant: &GrantKey) -> bool;
    /// Nanoseconds of `CLOCK_BOOTTIME`, at most a timer tick behind; read only where a grant or a flow was found.
    fn now_ns(&self) -> u64;
}

/// Why a packet may have to be refused.
enum Concern {
    Malformed(DropReason),
    Knock,
    Service(ServiceId),
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
        Carries::Segment => {
            let segment = &packet.segment;
            let port = u16::from_be_bytes(segment.port);
            let is_udp = matches!(segment.protocol, Protocol::Udp);
            let service = tables.service(port_index(settings.slot, segment.protocol, port));
            if is_udp && segment.port == settings.knock_port {
                Concern::Knock
            } else if service != 0 {
                Concern::Service(service)
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
        Concern::Knock => Decision { service: 0, verdict: knock(packet) },
        Concern::Service(..) | Concern::Tunnel if is_always_allowed(&packet.addresses.source(), settings, tables) => {
            pass(PassReason::AlwaysAllow)
        }
        Concern::Tunnel => drop(DropReason::Tunnel),
        Concern::Service(service) => Decision { service, verdict: admit(packet, service, settings, tables) },
    }
}

#[inline(always)]
fn knock(packet: &Packet<'_>) -> Verdict {
    let datagram = &packet.segment;
    if datagram.is_first_fragment {
        return Verdict::Drop(DropReason::KnockFragmented);
    }
    if datagram.fault.is_some() {
        return Verdict::Drop(DropReason::KnockBadLength);
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
    if settings.flags & FLAG_ANY_DESTINATION != 0 {
        return true;
    }
    // Once for each family, whose tests become shorter so.
    match addresses {
        Addresses::Unknown => true,
        Addresses::Ipv4(_) => is_judged_address(&addresses.destination(), settings, tables),
        Addresses::Ipv6(_) => is_judged_address(&addresses.destination(), settings, tables),
    }
}

#[inline(always)]
fn is_judged_address(destination: &Addr, settings: &Settings, tables: &impl Tables) -> bool {
    tables.is_host(destination)
        || addr::is_group(destination)
        || addr::is_this_host(destination)
        || (settings.flags & FLAG_PREFIX_DESTINATIONS != 0 && tables.is_in_destinations(destination))
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
