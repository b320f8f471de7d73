//! The firewall a second time: slow, plain, and written from the design. A frame is taken apart first; then the rules of
//! the data path are gone through in their order, and the first that has an answer decides.

pub(crate) mod dissect;
pub(crate) mod flows;
pub(crate) mod gate;
pub(crate) mod tables;

use std::net::IpAddr;

use jpat_common::reason::{DropReason, PassReason};

use dissect::{Carries, Frame, Inside, Packet, Start, Tcp, Udp, dissect};
use gate::Taken;
use tables::{FlowId, Tables, Transport, may_hold_grants};

/// Most bytes of a knock: what fits into the smallest IPv6 packet that every link carries (RFC 8200 §5).
const LONGEST_KNOCK: usize = 1280 - 40 - 8;

/// UDP ports whose datagrams hold packets: L2TP, GTP-U, ESP, VXLAN, VXLAN-GPE, GUE, Geneve, MPLS, and the VXLAN port that
/// Linux had first.
const UDP_TUNNELS: [u16; 9] = [1701, 2152, 4500, 4789, 4790, 6080, 6081, 6635, 8472];

/// What becomes of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Pass(PassReason),
    Drop(DropReason),
    Knock(Knock),
}

/// What the controller is told of a knock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Knock {
    pub(crate) source: (IpAddr, u16),
    pub(crate) destination: (IpAddr, u16),
    pub(crate) payload: Vec<u8>,
    pub(crate) taken: Taken,
}

/// What the rules say of a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ruling {
    /// The rule that decided.
    pub(crate) rule: &'static str,
    /// The service for which the packet counts, or 0.
    pub(crate) service: u32,
    /// What becomes of it under enforcement.
    pub(crate) fate: Fate,
}

/// What a rule answers: for which service, and what becomes of the packet.
type Answer = Option<(u32, Fate)>;

/// The order of the data path: parse, destination, knock port, always-allow, protected port, flow, grant.
type Rule = (&'static str, fn(&Case<'_>, &mut Tables) -> Answer);
const RULES: [Rule; 11] = [
    ("what is no packet", no_packet),
    ("a destination that is not judged", other_destination),
    ("what is wrong with the packet", malformed),
    ("the knock port", knock_port),
    ("always allowed", always_allowed),
    ("what has no ports", without_ports),
    ("tunnels in UDP", udp_tunnels),
    ("a port that no service lists", unprotected),
    ("a first fragment", first_fragment),
    ("lengths of the transport header", transport_lengths),
    ("flow and grant", flow_and_grant),
];

/// One frame at one time.
struct Case<'a> {
    frame: &'a Frame,
    now_ns: u64,
}

/// What becomes of `bytes` at `now_ns`, with the description that it is judged by. Flows, their counts and all that is
/// asked of knocks are changed as the program changes them.
pub(crate) fn judge(tables: &mut Tables, bytes: &[u8], start: Start, now_ns: u64) -> (Frame, Ruling) {
    let frame = dissect(bytes, start);
    let case = Case { frame: &frame, now_ns };
    let decided = RULES.iter().find_map(|(rule, apply)| apply(&case, tables).map(|answer| (*rule, answer)));
    // The last rule has an answer to everything that comes to it.
    let (mut rule, (service, mut fate)) = decided.unwrap_or(("none", (0, Fate::Drop(DropReason::NoGrant))));
    if matches!(fate, Fate::Pass(PassReason::OtherDestination | PassReason::AlwaysAllow))
        && let Some(by_itself) = passes_by_itself(&case, tables)
    {
        (rule, fate) = ("what passes wherever it comes from and goes to", by_itself);
    }
    (frame, Ruling { rule, service, fate })
}

/// What passes anyhow is counted as what it is, and not by its addresses, which need not be looked up for that.
fn passes_by_itself(case: &Case<'_>, tables: &mut Tables) -> Option<Fate> {
    case.inside()?;
    if case.udp().is_some_and(|(_, udp)| udp.to == tables.knock_port) {
        return None;
    }
    let (_, fate) = [without_ports, udp_tunnels, unprotected].iter().find_map(|rule| rule(case, tables))?;
    matches!(fate, Fate::Pass(_)).then_some(fate)
}

impl Case<'_> {
    fn packet(&self) -> Option<&Packet> {
        match &self.frame.carries {
            Carries::Packet(packet) => Some(packet),
            Carries::Cut
            | Carries::ThirdTag
            | Carries::Wrapper(_)
            | Carries::NotIp(_)
            | Carries::CutHeader
            | Carries::OtherVersion(_) => None,
        }
    }

    fn inside(&self) -> Option<(&Packet, &Inside)> {
        let packet = self.packet()?;
        Some((packet, packet.inside.as_ref().ok()?))
    }

    fn udp(&self) -> Option<(&Packet, &Udp)> {
        let (packet, inside) = self.inside()?;
        if let Inside::Udp(udp) = inside { Some((packet, udp)) } else { None }
    }

    fn tcp(&self) -> Option<(&Packet, &Tcp)> {
        let (packet, inside) = self.inside()?;
        if let Inside::Tcp(tcp) = inside { Some((packet, tcp)) } else { None }
    }

    /// Protocol and ports.
    fn ports(&self) -> Option<(Transport, u16, u16)> {
        let tcp = self.tcp().map(|(_, tcp)| (Transport::Tcp, tcp.from, tcp.to));
        tcp.or_else(|| self.udp().map(|(_, udp)| (Transport::Udp, udp.from, udp.to)))
    }

    /// The service that lists its port.
    fn service(&self, tables: &Tables) -> Option<u32> {
        let (transport, _, port) = self.ports()?;
        tables.ports.get(&(transport, port)).copied()
    }
}

fn dropped(reason: DropReason) -> Answer {
    Some((0, Fate::Drop(reason)))
}

fn passed(reason: PassReason) -> Answer {
    Some((0, Fate::Pass(reason)))
}

fn no_packet(case: &Case<'_>, _: &mut Tables) -> Answer {
    match &case.frame.carries {
        Carries::Cut => dropped(DropReason::TruncatedL2),
        Carries::ThirdTag => dropped(DropReason::TooManyTags),
        Carries::Wrapper(_) => dropped(DropReason::L2Encapsulation),
        Carries::CutHeader => dropped(DropReason::TruncatedL3),
        Carries::OtherVersion(_) => dropped(DropReason::BadIpHeader),
        Carries::NotIp(_) => passed(PassReason::NotIp),
        Carries::Packet(_) => None,
    }
}

fn other_destination(case: &Case<'_>, tables: &mut Tables) -> Answer {
    let packet = case.packet()?;
    if tables.judges(packet.destination) { None } else { passed(PassReason::OtherDestination) }
}

fn malformed(case: &Case<'_>, _: &mut Tables) -> Answer {
    dropped(*case.packet()?.inside.as_ref().err()?)
}

fn knock_port(case: &Case<'_>, tables: &mut Tables) -> Answer {
    let (packet, udp) = case.udp()?;
    if udp.to != tables.knock_port {
        return None;
    }
    if packet.is_first_fragment() {
        return dropped(DropReason::KnockFragmented);
    }
    let Some(payload) = udp.payload() else { return dropped(DropReason::KnockBadLength) };
    match payload.len() {
        0 => return dropped(DropReason::KnockEmpty),
        1..=LONGEST_KNOCK => {}
        _ => return dropped(DropReason::KnockTooLong),
    }
    if !may_hold_grants(packet.source) {
        return dropped(DropReason::KnockBadSource);
    }
    let taken = match tables.gate.judge(payload, case.now_ns) {
        Ok(taken) => taken,
        Err(reason) => return dropped(reason),
    };
    let knock = Knock {
        source: (packet.source, udp.from),
        destination: (packet.destination, udp.to),
        payload: payload.to_vec(),
        taken,
    };
    Some((0, Fate::Knock(knock)))
}

fn always_allowed(case: &Case<'_>, tables: &mut Tables) -> Answer {
    let source = case.packet()?.source;
    let is_allowed = tables.always_allow.iter().any(|prefix| prefix.holds(source));
    if is_allowed { passed(PassReason::AlwaysAllow) } else { None }
}

fn without_ports(case: &Case<'_>, tables: &mut Tables) -> Answer {
    match case.inside()?.1 {
        Inside::Icmp => passed(PassReason::Icmp),
        Inside::LaterFragment => passed(PassReason::LaterFragment),
        Inside::Tunnel(_) if tables.drops_tunnels => dropped(DropReason::Tunnel),
        Inside::Tunnel(_) => passed(PassReason::Tunnel),
        Inside::Other(_) => passed(PassReason::OtherProtocol),
        Inside::Tcp(_) | Inside::Udp(_) => None,
    }
}

fn udp_tunnels(case: &Case<'_>, tables: &mut Tables) -> Answer {
    let (_, udp) = case.udp()?;
    let is_refused = tables.drops_tunnels && case.service(tables).is_none() && UDP_TUNNELS.contains(&udp.to);
    if is_refused { dropped(DropReason::Tunnel) } else { None }
}

fn unprotected(case: &Case<'_>, tables: &mut Tables) -> Answer {
    if case.service(tables).is_some() { None } else { passed(PassReason::UnprotectedPort) }
}

fn first_fragment(case: &Case<'_>, tables: &mut Tables) -> Answer {
    if !case.packet()?.is_first_fragment() {
        return None;
    }
    Some((case.service(tables)?, Fate::Drop(DropReason::FirstFragment)))
}

fn transport_lengths(case: &Case<'_>, tables: &mut Tables) -> Answer {
    let service = case.service(tables)?;
    if case.tcp().is_some_and(|(_, tcp)| tcp.header < 20 || tcp.header > tcp.length) {
        return Some((service, Fate::Drop(DropReason::BadTcpHeader)));
    }
    if case.udp().is_some_and(|(_, udp)| udp.payload().is_none()) {
        return Some((service, Fate::Drop(DropReason::BadUdpLength)));
    }
    None
}

fn flow_and_grant(case: &Case<'_>, tables: &mut Tables) -> Answer {
    let (packet, service) = (case.packet()?, case.service(tables)?);
    let (transport, from, to) = case.ports()?;
    let id = FlowId { transport, source: (packet.source, from), destination: (packet.destination, to) };
    let flags = case.tcp().map(|(_, tcp)| tcp.flags);
    Some((service, flows::judge(tables, service, id, flags, case.now_ns)))
}

impl Udp {
    /// What it carries, by its own length, or `None` if that is below its header's or beyond the packet's.
    fn payload(&self) -> Option<&[u8]> {
        self.behind.get(..self.stated.checked_sub(8)?)
    }
}
