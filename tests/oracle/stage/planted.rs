//! What stands in the tables before the first packet: flows and grants in every state.

use std::collections::BTreeMap;

use super::{
    SECOND, address,
    cast::{CUT, DESTINATIONS, FIRST_PORT, FLOW_STATES, KEPT, ORDINARY, PORTS, SENDERS, SERVICES, Standing},
};
use crate::oracle::model::tables::{Flow, FlowId, Grant, Tables};

/// A flow in each state, for each ordinary sender and each port that is listed.
pub(super) fn planted(now_ns: u64, generation: u32) -> BTreeMap<FlowId, Flow> {
    let mut flows = BTreeMap::new();
    for (v4, v6, _) in &SENDERS[..ORDINARY] {
        for (source, destination) in [(v4, DESTINATIONS[0].0), (v6, DESTINATIONS[0].1)] {
            for (transport, port, service) in PORTS {
                for state in 1..FLOW_STATES {
                    let id = FlowId {
                        transport,
                        source: (address(source), FIRST_PORT + state),
                        destination: (address(destination), port),
                    };
                    flows.insert(id, in_state(state, service, generation, now_ns));
                }
            }
        }
    }
    flows
}

fn in_state(state: u16, service: u32, generation: u32, now_ns: u64) -> Flow {
    let ago = |seconds: u64| now_ns.saturating_sub(seconds * SECOND);
    let live = Flow {
        opened_ns: ago(11),
        seen_ns: ago(2),
        service,
        generation,
        is_established: true,
        is_closing: false,
        is_adopted: false,
    };
    match state {
        1 => live,
        2 => Flow { opened_ns: ago(4), seen_ns: ago(4), is_established: false, ..live },
        // Seen just now, but never confirmed.
        3 => Flow { opened_ns: ago(14), is_established: false, ..live },
        4 => Flow { seen_ns: ago(10), ..live },
        5 => Flow { opened_ns: ago(29), ..live },
        6 => Flow { generation: generation.wrapping_sub(1), ..live },
        7 => Flow { service: if service == KEPT { CUT } else { KEPT }, ..live },
        8 => Flow { is_adopted: true, ..live },
        9 => Flow { is_adopted: true, seen_ns: ago(10), ..live },
        10 => Flow { is_closing: true, ..live },
        11 => Flow { opened_ns: ago(35), seen_ns: ago(30), generation: generation.wrapping_add(1), ..live },
        12 => Flow { opened_ns: ago(35), seen_ns: ago(30), ..live },
        _ => Flow { is_adopted: true, service: service ^ 1, generation: generation.wrapping_sub(1), ..live },
    }
}

impl Tables {
    /// Gives every sender its grants.
    pub(super) fn grant_all(&mut self, now_ns: u64) {
        let generation = self.generation;
        for (v4, v6, standing) in SENDERS {
            for service in SERVICES {
                let (end_ns, generation) = match standing {
                    Standing::None => continue,
                    Standing::OtherService if service != CUT => continue,
                    Standing::Live | Standing::OtherService | Standing::Full => (now_ns + 3_600 * SECOND, generation),
                    Standing::LiveAndEnding => (now_ns + 5 * SECOND, generation),
                    Standing::Ended => (now_ns.saturating_sub((1 + u64::from(service) % 3) * SECOND), generation),
                    Standing::Revoked => (now_ns + 3_600 * SECOND, generation.wrapping_sub(1)),
                    Standing::TooLong if service == CUT => (u64::MAX, generation),
                    Standing::TooLong => (now_ns + self.max_ttl_ns + 5 * SECOND, generation),
                };
                for source in [address(v4), address(v6)] {
                    let id = self.grant_id(source, service);
                    // A wider prefix keeps the grant of the first who has one.
                    self.grants.entry(id).or_insert(Grant { end_ns, generation });
                    if standing == Standing::Full {
                        self.opened.insert(id, self.flows_per_grant + 3);
                        self.closed.insert(id, u64::from(service) % 4);
                    }
                }
            }
        }
    }
}
