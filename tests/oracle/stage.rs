//! The host on which frames are judged: services of each kind, senders in every state, and flows in every state at
//! known source ports. Times lie seconds away from every limit, so that a run may take one.

mod cast;
mod planted;
mod keys;

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    dice::Dice,
    model::{
        dissect::Start,
        gate::Gate,
        tables::{Prefix, Service, Tables},
    },
};
use cast::{ADOPTING, CUT, KEPT, ODD_WIDTH, UDP_KEPT, WIDE};
pub(crate) use cast::{DESTINATIONS, FIRST_PORT, FLOW_STATES, FREE_PORT, KNOCK_PORT, PORTS, SENDERS, SERVICES};
pub(crate) use keys::{KEYS, WALL_OFFSET_NS};
use planted::planted;

/// One second in nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;
/// The machine must have run for so long that every flow can have its age.
pub(crate) const OLDEST_NS: u64 = 40 * SECOND;
/// Flows that find room beside the planted ones.
const ROOM: usize = 12;

/// The program that judges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Program {
    Ethernet,
    Frags,
    Ip,
}

impl Program {
    /// Where its frames begin.
    pub(crate) const fn start(self) -> Start {
        match self {
            Self::Ethernet | Self::Frags => Start::Ethernet,
            Self::Ip => Start::Ip,
        }
    }
}

/// One configuration and state, and the program that it is tried with.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) tables: Tables,
    /// Slot of the ports and services tables that is in force.
    pub(crate) slot: u32,
    pub(crate) program: Program,
    /// When it was drawn.
    pub(crate) begin_ns: u64,
}

/// Parses one of this file's addresses.
pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
}

/// Flows that the map must hold.
pub(crate) fn flow_capacity() -> usize {
    planted(0, 0).len() + ROOM
}

impl Stage {
    /// What is particular about it, for the report.
    pub(crate) fn traits(&self) -> [&'static str; 5] {
        let tables = &self.tables;
        let program = match self.program {
            Program::Ethernet => "program jpat",
            Program::Frags => "program jpat_frags",
            Program::Ip => "program jpat_l3",
        };
        let destinations = match &tables.destinations {
            None => "destinations: any",
            Some(some) if some.iter().any(|prefix| prefix.bits < 32) => "destinations: addresses and prefixes",
            Some(_) => "destinations: addresses",
        };
        let mode = if tables.audits { "mode: audit" } else { "mode: enforce" };
        let Gate { wall_offset_ns, .. } = tables.gate;
        let clock = if wall_offset_ns.is_some() { "wall clock: known" } else { "wall clock: not known" };
        let tunnels = if tables.drops_tunnels { "tunnels: drop" } else { "tunnels: pass" };
        [program, destinations, mode, tunnels, clock]
    }

    /// Draws one for `now_ns`; so many bare and sealed knocks fit into the empty rings.
    pub(crate) fn draw(dice: &mut Dice, now_ns: u64, has_frags: bool, ring_room: [usize; 2]) -> Self {
        let generation = dice.pick(&[7, 8, u32::MAX]);
        let program = match dice.below(20) {
            0..5 => Program::Ip,
            5..8 if has_frags => Program::Frags,
            _ => Program::Ethernet,
        };
        let mut tables = Tables {
            audits: dice.percent(20),
            drops_tunnels: dice.percent(35),
            destinations: destinations(dice),
            always_allow: Vec::new(),
            knock_port: KNOCK_PORT,
            ports: PORTS.map(|(transport, port, service)| ((transport, port), service)).into(),
            services: services(),
            generation,
            max_ttl_ns: 7_200 * SECOND,
            grants: BTreeMap::new(),
            flows: planted(now_ns, generation),
            flow_capacity: flow_capacity(),
            flows_per_grant: dice.pick(&[2, 1_000, 1_000]),
            opened: BTreeMap::new(),
            closed: BTreeMap::new(),
            gate: keys::gate(dice, now_ns, ring_room),
        };
        if dice.percent(80) {
            let prefix = |text, bits| Prefix::of(address(text), bits);
            tables.always_allow =
                vec![prefix("100.64.3.0", 24), prefix("100.64.4.1", 32), prefix("2001:db8:aaaa::", 47)];
        }
        tables.grant_all(now_ns);
        Self { tables, slot: u32::from(dice.percent(50)), program, begin_ns: now_ns }
    }
}

fn destinations(dice: &mut Dice) -> Option<Vec<Prefix>> {
    let hosts = ["192.0.2.1", "192.0.2.200", "192.0.2.255", "2001:db8::1", "2001:db8:0:7::200"].map(address);
    let others = (1..=40).map(|last| IpAddr::from([10, 77, 0, last]));
    let mut all: Vec<_> =
        hosts.into_iter().chain(others).map(|host| Prefix::of(host, if host.is_ipv4() { 32 } else { 128 })).collect();
    match dice.below(10) {
        0 => return None,
        1..5 => {}
        _ => all.extend([Prefix::of(address("198.51.100.0"), 25), Prefix::of(address("2001:db8:ff00::"), 40)]),
    }
    Some(all)
}

fn services() -> BTreeMap<u32, Service> {
    let kept = Service {
        width: [32, 64],
        has_tcp_flows: true,
        keeps_tcp: true,
        keeps_udp: true,
        idle_ns: 6 * SECOND,
        max_ns: 24 * SECOND,
    };
    let cut = Service { has_tcp_flows: false, keeps_tcp: false, keeps_udp: false, ..kept };
    [
        (KEPT, kept),
        (CUT, Service { width: [32, 128], ..cut }),
        (ADOPTING, Service { has_tcp_flows: true, ..cut }),
        (WIDE, Service { width: [24, 56], keeps_udp: false, ..kept }),
        (UDP_KEPT, Service { keeps_tcp: false, ..kept }),
        (ODD_WIDTH, Service { width: [17, 33], max_ns: 18 * SECOND, ..kept }),
    ]
    .into()
}
