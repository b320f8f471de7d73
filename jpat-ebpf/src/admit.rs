//! Whether a segment for a protected port goes on: by its flow, else by a grant, which may open a flow.

use jpat_common::{
    flow::{self, FlowKey, FlowValue, STATE_EMBRYONIC, STATE_ESTABLISHED},
    grant::{GrantKey, ServiceId},
    reason::{DropReason, PassReason},
    settings::{
        FLAG_GRANT_HINTS, Protocol, RULE_KEEP_TCP, RULE_KEEP_UDP, RULE_TCP_FLOWS, ServiceRule, Settings, service_index,
    },
};

use crate::{
    decide::Tables,
    parse::{Addresses, Packet, Segment},
    verdict::Verdict,
};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// What a service does with the segments of one protocol.
#[derive(Clone, Copy)]
struct Sessions {
    /// Looks them up among the flows.
    has_flows: bool,
    /// Makes them flows.
    keeps: bool,
}

/// Fragments and broken lengths are refused with a grant too: later fragments pass unseen, and can then only complete
/// datagrams for unprotected ports.
#[inline(always)]
pub(crate) fn admit(packet: &Packet<'_>, service: ServiceId, settings: &Settings, tables: &impl Tables) -> Verdict {
    let segment = &packet.segment;
    if segment.is_first_fragment {
        return Verdict::Drop(DropReason::FirstFragment);
    }
    if let Some(fault) = segment.fault {
        return Verdict::Drop(fault);
    }
    let Some(rule) = tables.rule(service_index(settings.slot, service)) else {
        return Verdict::Drop(DropReason::NoGrant);
    };
    let sessions = sessions(rule, segment.protocol);
    let mut flow_refusal = None;
    if sessions.has_flows && continues(segment) {
        let key = flow_key(packet);
        if let Some((place, flow)) = tables.flow(&key)
            && flow.service == service
            && (sessions.keeps || flow.flags & flow::FLAG_ADOPTED != 0)
        {
            let now_ns = tables.now_ns();
            flow_refusal = flow.refusal(now_ns, settings.generation, rule);
            if flow_refusal.is_none() {
                let establishes = flow.state != STATE_ESTABLISHED && establishes(segment);
                let closes = flow.flags & flow::FLAG_CLOSING == 0 && segment.flags & (FIN | RST) != 0;
                if flow.seen_ns != now_ns || establishes || closes {
                    tables.touch_flow(place, now_ns, establishes, closes);
                }
                return Verdict::Pass(PassReason::Flow);
            }
        }
    }
    let mask = match packet.addresses {
        Addresses::Ipv4(_) => &rule.mask_v4,
        Addresses::Ipv6(_) | Addresses::Unknown => &rule.mask_v6,
    };
    let key = GrantKey::new(&packet.addresses.source(), mask, service);
    if settings.flags & FLAG_GRANT_HINTS != 0 && !tables.may_have_grant(&key) {
        return Verdict::Drop(flow_refusal.unwrap_or(DropReason::NoGrant));
    }
    let Some(grant) = tables.grant(&key) else {
        return Verdict::Drop(flow_refusal.unwrap_or(DropReason::NoGrant));
    };
    let now_ns = tables.now_ns();
    if let Some(refusal) = grant.refusal(now_ns, settings.generation, settings.max_ttl_ns) {
        return Verdict::Drop(flow_refusal.unwrap_or(refusal));
    }
    if sessions.keeps
        && let Some(state) = opens(segment)
    {
        let flow = FlowValue::new(now_ns, service, settings.generation, state);
        let refusal = open(&flow_key(packet), &flow, &key, rule, settings, tables);
        // Where there is no room, a connection does not begin; one that is under way goes on under its grant.
        if let Some(refusal) = refusal
            && state == STATE_EMBRYONIC
        {
            return Verdict::Drop(refusal);
        }
    }
    Verdict::Pass(PassReason::Grant)
}

/// Opens a flow, unless a live one is there: a second SYN, which anybody can forge, leaves that as it is.
#[inline(always)]
fn open(
    key: &FlowKey,
    flow: &FlowValue,
    grant: &GrantKey,
    rule: &ServiceRule,
    settings: &Settings,
    tables: &impl Tables,
) -> Option<DropReason> {
    if let Some((_, old)) = tables.flow(key)
        && old.service == flow.service
        && old.refusal(flow.opened_ns, settings.generation, rule).is_none()
    {
        return None;
    }
    match tables.flows_of(grant) {
        None => Some(DropReason::FlowsFull),
        Some(flows) if flows >= u64::from(settings.flows_per_grant) => Some(DropReason::FlowsPerGrant),
        Some(_) if tables.open_flow(key, flow, grant) => None,
        Some(_) => Some(DropReason::FlowsFull),
    }
}

#[inline(always)]
const fn sessions(rule: &ServiceRule, protocol: Protocol) -> Sessions {
    match protocol {
        Protocol::Tcp => {
            Sessions { has_flows: rule.flags & RULE_TCP_FLOWS != 0, keeps: rule.flags & RULE_KEEP_TCP != 0 }
        }
        Protocol::Udp => {
            let keeps = rule.flags & RULE_KEEP_UDP != 0;
            Sessions { has_flows: keeps, keeps }
        }
    }
}

/// Whether a segment may belong to a connection that is under way. After its handshake every TCP segment but a reset
/// has ACK set (RFC 9293 §3.1), and none has SYN.
#[inline(always)]
const fn continues(segment: &Segment) -> bool {
    match segment.protocol {
        Protocol::Tcp => segment.flags & SYN == 0 && segment.flags & (ACK | RST) != 0,
        Protocol::Udp => true,
    }
}

/// Whether a segment is the client's word that the host's answer reached it.
#[inline(always)]
const fn establishes(segment: &Segment) -> bool {
    match segment.protocol {
        Protocol::Tcp => segment.flags & ACK != 0,
        Protocol::Udp => true,
    }
}

/// The state of the flow that a segment opens under a grant: a bare SYN or a datagram begins one; an ACK is of a
/// connection that is older than the flow table knows.
#[inline(always)]
const fn opens(segment: &Segment) -> Option<u32> {
    match segment.protocol {
        Protocol::Tcp => match segment.flags & (SYN | ACK | RST | FIN) {
            SYN => Some(STATE_EMBRYONIC),
            ACK => Some(STATE_ESTABLISHED),
            _ => None,
        },
        Protocol::Udp => Some(STATE_EMBRYONIC),
    }
}

#[inline(always)]
fn flow_key(packet: &Packet<'_>) -> FlowKey {
    let Segment { protocol, source_port, port, .. } = packet.segment;
    let protocol = match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    };
    FlowKey::new(packet.addresses.source(), source_port, packet.addresses.destination(), port, protocol)
}
