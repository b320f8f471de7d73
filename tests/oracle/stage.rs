//! The host on which frames are judged: services of each kind, senders in every state, and flows in every state at
//! known source ports. Times lie seconds away from every limit, so that a run may take one.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    dice::Dice,
    model::{
        dissect::Start,
        tables::{Flow, FlowId, Grant, Prefix, Service, Tables, Transport},
    },
};

/// One second in nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;
/// The machine must have run for so long that every flow can have its age.
pub(crate) const OLDEST_NS: u64 = 40 * SECOND;
/// Flows that find room beside the planted ones.
const ROOM: usize = 64;

/// The knock port.
pub(crate) const KNOCK_PORT: u16 = 1337;
/// A port that nobody lists.
pub(crate) const FREE_PORT: u16 = 80;
/// Ports that services list.
pub(crate) const PORTS: [(Transport, u16, u32); 11] = [
    (Transport::Tcp, 8443, KEPT),
    (Transport::Udp, 8443, KEPT),
    (Transport::Tcp, 22, CUT),
    (Transport::Udp, 4789, CUT),
    (Transport::Tcp, 2323, ADOPTING),
    (Transport::Tcp, 5432, WIDE),
    (Transport::Udp, 5432, WIDE),
    (Transport::Udp, 5353, UDP_KEPT),
    (Transport::Tcp, 5353, UDP_KEPT),
    (Transport::Tcp, 9000, ODD_WIDTH),
    (Transport::Tcp, KNOCK_PORT, CUT),
];

const KEPT: u32 = 1;
const CUT: u32 = 2;
const ADOPTING: u32 = 3;
const WIDE: u32 = 4;
const UDP_KEPT: u32 = 5;
const ODD_WIDTH: u32 = 200;
/// Every service.
pub(crate) const SERVICES: [u32; 6] = [KEPT, CUT, ADOPTING, WIDE, UDP_KEPT, ODD_WIDTH];

/// First source port of the planted flows; one port for each state.
pub(crate) const FIRST_PORT: u16 = 40_000;
/// How many states there are, with "none" as the first.
pub(crate) const FLOW_STATES: u16 = 14;

/// The host's addresses: judged one by one, by a prefix, as groups, as the host itself, and others.
pub(crate) const DESTINATIONS: [(&str, &str); 16] = [
    ("192.0.2.1", "2001:db8::1"),
    ("192.0.2.1", "2001:db8::1"),
    ("192.0.2.1", "2001:db8::1"),
    ("192.0.2.1", "2001:db8::1"),
    ("192.0.2.200", "2001:db8:0:7::200"),
    ("192.0.2.255", "ff02::1"),
    ("198.51.100.5", "2001:db8:ff00:1::5"),
    ("198.51.100.127", "2001:db8:ffff:ffff::1"),
    ("198.51.100.128", "2001:db9::1"),
    ("255.255.255.255", "ff0e::fb"),
    ("224.0.0.251", "::"),
    ("127.0.0.1", "::1"),
    ("0.0.0.0", "::2"),
    ("203.0.113.200", "2001:db8::2"),
    ("223.255.255.255", "fe80::1"),
    ("192.0.2.1", "::ffff:192.0.2.1"),
];

/// Who sends, and the state of their grants.
pub(crate) const SENDERS: [(&str, &str, Standing); 18] = [
    ("203.0.113.5", "2001:db8:c005::5", Standing::Live),
    ("203.0.113.6", "2001:db8:c006::6", Standing::None),
    ("203.0.113.7", "2001:db8:c007::7", Standing::Ended),
    ("203.0.113.8", "2001:db8:c008::8", Standing::Revoked),
    ("203.0.113.9", "2001:db8:c009::9", Standing::TooLong),
    ("198.18.0.10", "2001:db8:c00a::a", Standing::OtherService),
    ("198.18.1.11", "2001:db8:c00b::b", Standing::Full),
    ("198.18.2.12", "2001:db8:c00c::c", Standing::LiveAndEnding),
    // Neighbours of the first by each width.
    ("203.0.113.4", "2001:db8:c005::4", Standing::None),
    ("203.0.112.5", "2001:db8:c005:0:1::5", Standing::None),
    ("203.1.113.5", "2001:db8:c005:ff::5", Standing::None),
    // Always allowed.
    ("100.64.3.1", "2001:db8:aaaa::1", Standing::None),
    ("100.64.4.1", "2001:db8:aaab::1", Standing::Live),
    // Sources that never get a grant, and one that looks like another's.
    ("192.0.2.1", "2001:db8::1", Standing::None),
    ("127.0.0.1", "::1", Standing::None),
    ("224.0.0.1", "ff02::1", Standing::None),
    ("169.254.9.9", "fe80::9", Standing::None),
    ("0.0.0.0", "::ffff:203.0.113.5", Standing::None),
];
/// The first so many of [`SENDERS`] are ordinary, and have flows.
pub(crate) const ORDINARY: usize = 8;

/// What grants a sender has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    None,
    Live,
    LiveAndEnding,
    Ended,
    Revoked,
    TooLong,
    /// Live for [`CUT`] alone.
    OtherService,
    /// Live, with as many flows as a grant may have.
    Full,
}

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
    /// Draws one for `now_ns`; `ring_room` knocks fit into the empty ring.
    pub(crate) fn draw(dice: &mut Dice, now_ns: u64, has_frags: bool, ring_room: usize) -> Self {
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
            flows_per_grant: dice.pick(&[2, 12, 1_000]),
            opened: BTreeMap::new(),
            closed: BTreeMap::new(),
            ring_room,
        };
        if dice.percent(80) {
            let prefix = |text, bits| Prefix::of(address(text), bits);
            tables.always_allow =
                vec![prefix("100.64.3.0", 24), prefix("100.64.4.1", 32), prefix("2001:db8:aaaa::", 47)];
        }
        tables.grant_all(now_ns);
        Self { tables, slot: u32::from(dice.percent(50)), program }
    }
}

fn destinations(dice: &mut Dice) -> Option<Vec<Prefix>> {
    let hosts = ["192.0.2.1", "192.0.2.200", "192.0.2.255", "2001:db8::1", "2001:db8:0:7::200"].map(address);
    let mut all: Vec<_> = hosts.iter().map(|host| Prefix::of(*host, if host.is_ipv4() { 32 } else { 128 })).collect();
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

/// A flow in each state, for each ordinary sender and each port that is listed.
fn planted(now_ns: u64, generation: u32) -> BTreeMap<FlowId, Flow> {
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
    fn grant_all(&mut self, now_ns: u64) {
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
