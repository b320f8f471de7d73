//! Grants, and the flows that outlive them.

use std::net::IpAddr;

use jpat_common::reason::{DropReason, PassReason};

use super::{
    Fate,
    tables::{Flow, FlowId, Tables, Transport},
};

/// How long an unconfirmed flow lives.
const EMBRYONIC_NS: u64 = 10_000_000_000;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// What a segment or datagram does to flows.
#[derive(Clone, Copy)]
struct Signals {
    /// It can be on a flow that stands.
    may_be_on_one: bool,
    /// It confirms one.
    confirms: bool,
    /// It announces the end of one.
    closes: bool,
    /// It begins one.
    begins: bool,
    /// It shows that one stands which nobody has written down.
    belongs: bool,
}

impl Signals {
    fn of(flags: Option<u8>) -> Self {
        let Some(flags) = flags else {
            return Self { may_be_on_one: true, confirms: true, closes: false, begins: true, belongs: false };
        };
        let has = |flag| flags & flag != 0;
        Self {
            may_be_on_one: !has(SYN) && (has(ACK) || has(RST)),
            confirms: has(ACK),
            closes: has(FIN) || has(RST),
            // A listener takes no other SYN for the beginning of a connection.
            begins: has(SYN) && !has(ACK) && !has(RST) && !has(FIN),
            belongs: has(ACK) && !has(SYN) && !has(RST) && !has(FIN),
        }
    }
}

/// Judges a whole packet to a port of `service`; `flags` are a segment's, `None` means UDP.
pub(super) fn judge(tables: &mut Tables, service: u32, id: FlowId, flags: Option<u8>, now_ns: u64) -> Fate {
    let signals = Signals::of(flags);
    let mut ended = None;
    if signals.may_be_on_one {
        match standing(tables, service, id, now_ns) {
            Some(Ok(mut flow)) => {
                flow.seen_ns = now_ns;
                flow.is_established |= signals.confirms;
                flow.is_closing |= signals.closes;
                tables.flows.insert(id, flow);
                return Fate::Pass(PassReason::Flow);
            }
            Some(Err(reason)) => ended = Some(reason),
            None => {}
        }
    }
    if let Err(reason) = granted(tables, service, id.source.0, now_ns) {
        return Fate::Drop(ended.unwrap_or(reason));
    }
    if keeps(tables, service, id.transport) {
        if signals.begins && !matches!(standing(tables, service, id, now_ns), Some(Ok(_))) {
            if let Err(reason) = open(tables, service, id, false, now_ns) {
                return Fate::Drop(reason);
            }
        } else if signals.belongs {
            // No room, no flow: while the grant lives, the segment needs none.
            open(tables, service, id, true, now_ns).ok();
        }
    }
    Fate::Pass(PassReason::Grant)
}

/// The flow of `id`, if there is one that counts for `service`, or why it has ended.
fn standing(tables: &Tables, service: u32, id: FlowId, now_ns: u64) -> Option<Result<Flow, DropReason>> {
    let rule = tables.services.get(&service)?;
    let is_looked_up = match id.transport {
        Transport::Tcp => rule.has_tcp_flows,
        Transport::Udp => rule.keeps_udp,
    };
    let flow = tables.flows.get(&id)?;
    if !is_looked_up || flow.service != service || !(flow.is_adopted || keeps(tables, service, id.transport)) {
        return None;
    }
    let lasts = now_ns.saturating_sub(flow.opened_ns);
    let silent = now_ns.saturating_sub(flow.seen_ns);
    Some(if flow.generation != tables.generation {
        Err(DropReason::FlowRevoked)
    } else if lasts >= rule.max_ns {
        Err(DropReason::FlowMaxAge)
    } else if if flow.is_established { silent >= rule.idle_ns } else { lasts >= EMBRYONIC_NS } {
        Err(DropReason::FlowIdle)
    } else {
        Ok(*flow)
    })
}

fn keeps(tables: &Tables, service: u32, transport: Transport) -> bool {
    tables.services.get(&service).is_some_and(|rule| match transport {
        Transport::Tcp => rule.keeps_tcp,
        Transport::Udp => rule.keeps_udp,
    })
}

fn granted(tables: &Tables, service: u32, source: IpAddr, now_ns: u64) -> Result<(), DropReason> {
    let grant = tables.grants.get(&tables.grant_id(source, service)).ok_or(DropReason::NoGrant)?;
    if grant.generation != tables.generation {
        Err(DropReason::GrantRevoked)
    } else if grant.end_ns <= now_ns {
        Err(DropReason::GrantEnded)
    } else if grant.end_ns - now_ns > tables.max_ttl_ns {
        Err(DropReason::GrantTooLong)
    } else {
        Ok(())
    }
}

fn open(tables: &mut Tables, service: u32, id: FlowId, is_established: bool, now_ns: u64) -> Result<(), DropReason> {
    let grant = tables.grant_id(id.source.0, service);
    let opened = tables.opened.get(&grant).copied().unwrap_or(0);
    let closed = tables.closed.get(&grant).copied().unwrap_or(0);
    if opened.saturating_sub(closed) >= tables.flows_per_grant {
        return Err(DropReason::FlowsPerGrant);
    }
    if !tables.flows.contains_key(&id) && tables.flows.len() >= tables.flow_capacity {
        return Err(DropReason::FlowsFull);
    }
    let generation = tables.generation;
    let flow = Flow {
        opened_ns: now_ns,
        seen_ns: now_ns,
        service,
        generation,
        is_established,
        is_closing: false,
        is_adopted: false,
    };
    tables.flows.insert(id, flow);
    tables.opened.insert(grant, opened + 1);
    Ok(())
}
