//! The rows: which program runs over which frame.

use anyhow::Result;
use jpat_common::{
    addr,
    flow::{FlowKey, FlowValue, STATE_ESTABLISHED},
};
use jpat_ebpf::verdict::{XDP_DROP, XDP_PASS};
use jpat_tests::{
    knocks::{FOREIGN, STAFF, Sealed, TagKey, WINDOW_MS},
    netns::NetNs,
    packet::{ACK, CLIENT_PORT, ETHER_IPV4, ETHER_IPV6, SYN, TCP, UDP, ethernet, ipv4, ipv6, tcp, udp},
    world::{FREE_PORT, GENERATION, GRANTED, HOST4, HOST6, KNOCK_PORT, OTHER4, STRANGER, WEB, WEB_PORT, World},
};

use super::{
    rivals::Rivals,
    subject::{MISLED, Program, SPENT, Subject},
};

/// How the kernel runs it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Mode {
    /// The program alone.
    Plain,
    /// With what a driver and the stack do.
    Live,
}

impl Mode {
    pub(crate) const ALL: [Self; 2] = [Self::Plain, Self::Live];
}

/// One line of the table.
pub(crate) struct Row<'a> {
    pub(crate) name: String,
    pub(crate) host: &'a NetNs,
    pub(crate) subject: &'a Subject,
    pub(crate) program: Program,
    pub(crate) frame: Vec<u8>,
    /// Where no frame can be run twice: these, once each, in plain runs.
    pub(crate) each: Vec<Vec<u8>>,
    /// What the program returns for it.
    pub(crate) action: u32,
    pub(crate) modes: &'static [Mode],
    /// Packets after which the ring is emptied; 0 for never.
    pub(crate) ring: u32,
}

/// All rows, in the order in which they are measured and shown.
pub(crate) struct Plan<'a> {
    pub(crate) rows: Vec<Row<'a>>,
}

pub(crate) const DROP_FLOOR: &str = "bare XDP_DROP";
pub(crate) const PASS_FLOOR: &str = "bare XDP_PASS";
/// What every other row is compared with.
pub(crate) const FLOORS: [&str; 2] = [DROP_FLOOR, PASS_FLOOR];
pub(crate) const DROP: &str = "jpat: drop, no grant";
pub(crate) const FLOW: &str = "jpat: flow";
pub(crate) const BAD_TAG: &str = "knock, bad tag, 800 B";

/// Frames of a row that runs each of them once.
const ONCE: u64 = 400;

/// Names of the rows behind the program that makes sources.
pub(crate) fn varied(program: Program, grants: u32) -> String {
    let what = match program {
        Program::Jpat => "jpat: grant",
        Program::BareLookup => "bare look-up",
        Program::BarePass | Program::BareDrop | Program::Vary | Program::Transmit => "bare XDP_PASS",
    };
    format!("1 of {grants} sources, {what}")
}

/// Puts the flows there that the rows are about.
pub(crate) fn flows(world: &World) {
    let value = FlowValue::new(world.now_ns, WEB, GENERATION, STATE_ESTABLISHED);
    let ports = (CLIENT_PORT.to_be_bytes(), WEB_PORT.to_be_bytes());
    for (source, destination) in [(addr::from_v4(GRANTED.v4), addr::from_v4(HOST4)), (GRANTED.v6, HOST6)] {
        world.put_flow(FlowKey::new(source, ports.0, destination, ports.1, TCP), value);
    }
}

impl<'a> Plan<'a> {
    pub(crate) fn new(
        host: &'a NetNs,
        subject: &'a Subject,
        keeping: &'a Subject,
        crowded: &'a [Subject],
        rivals: &'a Rivals,
    ) -> Result<Self> {
        let row = |name: &str, program, frame, action| Row {
            name: name.to_owned(),
            host,
            subject,
            program,
            frame,
            each: Vec::new(),
            action,
            modes: &Mode::ALL,
            ring: 0,
        };
        let ours = |name, frame, action| row(name, Program::Jpat, frame, action);
        let syn4 = v4(STRANGER.v4, HOST4, TCP, 0, &tcp(WEB_PORT, SYN, &[]));
        let knock = v4(STRANGER.v4, HOST4, UDP, 0, &udp(KNOCK_PORT, &[b'e'; 400]));
        let mut rows = vec![
            row(DROP_FLOOR, Program::BareDrop, syn4.clone(), XDP_DROP),
            row(PASS_FLOOR, Program::BarePass, syn4.clone(), XDP_PASS),
            ours(DROP, syn4.clone(), XDP_DROP),
            ours("jpat: drop, misled by a hint", v4(MISLED, HOST4, TCP, 0, &tcp(WEB_PORT, SYN, &[])), XDP_DROP),
            ours("jpat: drop, no grant, IPv6", v6(STRANGER.v6, TCP, &tcp(WEB_PORT, SYN, &[])), XDP_DROP),
            ours("jpat: drop, first fragment", v4(STRANGER.v4, HOST4, TCP, 0x2000, &tcp(WEB_PORT, SYN, &[])), XDP_DROP),
            ours("jpat: grant", v4(GRANTED.v4, HOST4, TCP, 0, &tcp(WEB_PORT, SYN, &[])), XDP_PASS),
            ours("jpat: grant, IPv6", v6(GRANTED.v6, TCP, &tcp(WEB_PORT, SYN, &[])), XDP_PASS),
            Row { subject: keeping, ..ours(FLOW, v4(GRANTED.v4, HOST4, TCP, 0, &tcp(WEB_PORT, ACK, &[])), XDP_PASS) },
            Row {
                subject: keeping,
                ..ours("jpat: flow, IPv6", v6(GRANTED.v6, TCP, &tcp(WEB_PORT, ACK, &[])), XDP_PASS)
            },
            Row {
                subject: keeping,
                ..ours("jpat: grant, SYN on a flow", v4(GRANTED.v4, HOST4, TCP, 0, &tcp(WEB_PORT, SYN, &[])), XDP_PASS)
            },
            Row {
                subject: keeping,
                ..ours(
                    "jpat: drop, ACK without a flow",
                    v4(STRANGER.v4, HOST4, TCP, 0, &tcp(WEB_PORT, ACK, &[])),
                    XDP_DROP,
                )
            },
            ours("jpat: unprotected port", v4(STRANGER.v4, HOST4, TCP, 0, &tcp(FREE_PORT, SYN, &[])), XDP_PASS),
            ours("jpat: unprotected port, IPv6", v6(STRANGER.v6, TCP, &tcp(FREE_PORT, SYN, &[])), XDP_PASS),
            ours("jpat: another destination", v4(STRANGER.v4, OTHER4, TCP, 0, &tcp(WEB_PORT, SYN, &[])), XDP_PASS),
            ours("jpat: later fragment", v4(STRANGER.v4, HOST4, TCP, 100, &[0; 20]), XDP_PASS),
            ours("jpat: not IP", frame(0x0806, &[0; 46]), XDP_PASS),
            Row { ring: 128, ..ours("jpat: bare knock of 400 bytes, queued", knock.clone(), XDP_DROP) },
            ours("jpat: bare knock of 400 bytes, ring full", knock, XDP_DROP),
        ];
        rows.extend(knocks(subject).map(|(name, frame)| ours(name, frame, XDP_DROP)));
        let once = |name, each| Row { each, modes: &[Mode::Plain], ..ours(name, syn4.clone(), XDP_DROP) };
        rows.push(once("jpat: drop, no grant, run once", vec![syn4.clone(); ONCE as usize]));
        let good = (0..ONCE).map(|number| knock_of(&Sealed::new(STAFF, subject.begin_ns, 800, 1_000 + number)));
        rows.push(once("knock, good, sealed, 800 B, run once", good.collect()));
        let mut random = syn4.clone();
        random[6..10].copy_from_slice(&(1u32 << 24).to_le_bytes());
        random[10] = Program::Jpat.place()?;
        rows.push(row("jpat: drop, no grant, random sources", Program::Vary, random, XDP_DROP));
        for subject in crowded {
            for program in [Program::BarePass, Program::BareLookup, Program::Jpat] {
                let mut frame = syn4.clone();
                frame[6..10].copy_from_slice(&subject.grants.to_le_bytes());
                frame[10] = program.place()?;
                let name = varied(program, subject.grants);
                rows.push(Row { subject, ..row(&name, Program::Vary, frame, XDP_PASS) });
            }
        }
        for rival in &rivals.hosts {
            let row = row(rival.name, Program::BarePass, to_host(), XDP_PASS);
            rows.push(Row { host: &rival.host, modes: &[Mode::Live], ..row });
        }
        Ok(Self { rows })
    }
}

/// Sealed knocks that get no further than the filter, by what it says of them.
fn knocks(subject: &Subject) -> impl Iterator<Item = (&'static str, Vec<u8>)> + use<> {
    let sealed = |key, length, number| Sealed::new(key, subject.begin_ns, length, number);
    let forged = TagKey { secret: FOREIGN.secret, ..STAFF };
    let late = sealed(STAFF, 800, 0).shifted(2 * WINDOW_MS);
    [
        ("knock, unknown key, 800 B", sealed(FOREIGN, 800, 0)),
        ("knock, another time, 800 B", late),
        ("knock, bad tag, 128 B", sealed(forged, 128, 0)),
        (BAD_TAG, sealed(forged, 800, 0)),
        ("knock, bad tag, 1232 B", sealed(forged, 1_232, 0)),
        // The check before the first round is taken, and each one after it was here before.
        ("knock, seen tag, 800 B", sealed(STAFF, 800, 1)),
        ("knock, good tag, budget used up, 800 B", sealed(SPENT, 800, 0)),
    ]
    .map(|(name, knock)| (name, knock_of(&knock)))
    .into_iter()
}

fn knock_of(knock: &Sealed) -> Vec<u8> {
    v4(STRANGER.v4, HOST4, UDP, 0, &udp(KNOCK_PORT, &knock.bytes()))
}

/// The frame of [`DROP`], but with the host's own address in front.
pub(crate) fn to_host() -> Vec<u8> {
    let mut frame = v4(STRANGER.v4, HOST4, TCP, 0, &tcp(WEB_PORT, SYN, &[]));
    frame[..6].copy_from_slice(&super::HOST_MAC);
    frame
}

fn v4(source: [u8; 4], destination: [u8; 4], protocol: u8, fragment: u16, segment: &[u8]) -> Vec<u8> {
    frame(ETHER_IPV4, &ipv4(source, destination, protocol, fragment, &[], segment))
}

fn v6(source: [u8; 16], protocol: u8, segment: &[u8]) -> Vec<u8> {
    frame(ETHER_IPV6, &ipv6(source, HOST6, protocol, segment))
}

/// A frame for another host, as long as the shortest on a wire (60 bytes without the check sequence).
fn frame(ether_type: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(ether_type, packet);
    frame[..6].copy_from_slice(&[0x02, 0, 0, 0, 0xff, 0xff]);
    frame.resize(frame.len().max(60), 0);
    frame
}
