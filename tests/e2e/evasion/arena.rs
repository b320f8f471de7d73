//! Where cases are sent: a stage whose stranger also has a wire of its own to the host, real listeners behind it, and
//! taps on both sides. The host's stack is set to believe as much as it can, so that nothing but the program protects.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    capture::FENCE_PORT,
    ears::{Ears, Heard},
    network::Family,
    probe::{self, Port},
    wait::{self, PATIENCE},
    wire::{Tap, Wire},
};

use super::{
    case::{Case, Reach},
    shot::{self, MARKS, Shot, UDP4},
};
use crate::{
    config::{Config, KNOCK_PORT},
    stage::{Stage, address},
};

/// Protected, TCP and UDP.
pub(crate) const SEALED: u16 = 7_443;
/// Unprotected, TCP and UDP.
pub(crate) const FREE: u16 = 7_444;

/// What stands between the stranger and the listeners.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Guard {
    /// Nothing.
    None,
    /// The program in the driver's hook.
    Native,
    /// The program in the generic hook.
    Generic,
}

/// Behind it all that was sent before has arrived. Nobody else has its mark.
const FENCE: Shot = Shot { mark: MARKS, port: FREE };

fn is_fenced(heard: &Heard) -> bool {
    heard.datagrams.iter().any(|(_, payload)| shot::mark_in(payload) == Some(FENCE.mark))
}

/// What a case is sent at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Aim {
    Sealed,
    Knock,
    Free,
}

/// Which way a frame takes to the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// A veth of its own: the frame arrives as it was written.
    Wire,
    /// The switch, which takes the outer VLAN tag out of the frame, as hardware does.
    Switch,
}

pub(crate) struct Arena {
    pub(crate) stage: Stage,
    pub(crate) guard: Guard,
    ears: Ears,
    wires: [Wire; 2],
    behind: Tap,
    before: Tap,
    next: u16,
    /// What was sent at protected ports or the knock port, so that a late answer is known for one.
    sealed: BTreeSet<u16>,
}

/// What became of one shot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Frames of it that a tap on the host saw.
    pub(crate) passed: usize,
    delivered: usize,
    served: usize,
    /// What came back.
    pub(crate) answers: Vec<Vec<u8>>,
}

/// What became of a volley.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    /// Per case, in order.
    pub(crate) of: Vec<Outcome>,
    /// What nobody sent for, or an earlier shot did: answers, and what reached a protected or the knock port.
    pub(crate) strays: Vec<String>,
}

/// A volley of which the first frames are sent.
pub(crate) struct Volley {
    marks: Range<u16>,
    rest: Vec<Vec<Vec<u8>>>,
    aim: Aim,
    way: Way,
}

impl Aim {
    const fn port(self) -> u16 {
        match self {
            Self::Sealed => SEALED,
            Self::Knock => KNOCK_PORT,
            Self::Free => FREE,
        }
    }
}

impl Outcome {
    pub(crate) fn reach(&self) -> Reach {
        let is_answered = self.answers.iter().any(|answer| is_tcp(answer));
        match (self.served > 0 || is_answered, self.delivered > 0, self.passed > 0) {
            (true, ..) => Reach::Service,
            (_, true, _) => Reach::Transport,
            (.., true) => Reach::Device,
            (false, false, false) => Reach::Nothing,
        }
    }
}

impl Arena {
    /// Builds it; with a guard other than none `jpatd` enforces when this returns.
    pub(crate) fn new(guard: Guard, tunnels: &str, prepare: impl FnOnce(&Stage) -> Result<()>) -> Result<Self> {
        let service = format!(
            "[[service]]\nname = \"sealed\"\nissuers = [\"corp\"]\nports = [\"tcp/{SEALED}\", \"udp/{SEALED}\"]\n\
             ttl = \"60s\"\nallow = 'true'\n"
        );
        let stage = Stage::new(Config { services: vec![service], ..Config::default() })?;
        let attach = if guard == Guard::Generic { "generic" } else { "driver" };
        let listen = format!("interfaces = [\"eth0\", \"wire0\"]\ntunnels = \"{tunnels}\"");
        let text = std::fs::read_to_string(stage.path("jpat.toml"))?;
        let text = text.replace("interfaces = [\"eth0\"]", &listen).replace("\"driver\"", &format!("\"{attach}\""));
        std::fs::write(stage.path("jpat.toml"), text)?;
        connect(&stage)?;
        prepare(&stage)?;
        let net = &stage.net;
        let ears = Ears::listen(&net.host, &[SEALED, FREE], &[SEALED, FREE, KNOCK_PORT])?;
        let wires = [Wire::open(&net.stranger, "wire0")?, Wire::open(&net.stranger, "eth0")?];
        let (behind, before) = (Tap::open(&net.host)?, Tap::open(&net.stranger)?);
        let mut arena = Self { stage, guard, ears, wires, behind, before, next: 0, sealed: BTreeSet::new() };
        if guard != Guard::None {
            arena.stage.start(&[])?;
        }
        // The devices come up, and the neighbours learn each other, before anything counts.
        for way in [Way::Wire, Way::Switch] {
            wait::for_true("a way to the host", PATIENCE, || arena.fence(way))?;
        }
        for family in Family::ALL {
            let fence = address(family, FENCE_PORT);
            wait::for_true("the fence", PATIENCE, || Ok(probe::udp(&arena.stage.net.stranger, fence)? == Port::Open))?;
        }
        Ok(arena)
    }

    /// Sends the frames of all cases, and tells what became of each.
    pub(crate) fn volley(&mut self, cases: &[&Case], aim: Aim, way: Way) -> Result<Outcomes> {
        let first = self.next;
        for case in cases {
            let shot = self.shot(aim.port())?;
            for frame in case.frames(&shot) {
                self.send(way, &frame).with_context(|| case.name.clone())?;
            }
        }
        let marks = first..self.next;
        if aim != Aim::Free {
            self.sealed.extend(marks.clone());
        }
        let mut outcomes = Outcomes { of: vec![Outcome::default(); cases.len()], strays: Vec::new() };
        self.settle(way, &mut |sight| self.note(sight, &marks, aim, &mut outcomes))?;
        Ok(outcomes)
    }

    /// Sends the first frame of each case, and keeps the others for [`Self::finish_volley`].
    pub(crate) fn volley_in_two(&mut self, cases: &[&Case], aim: Aim, way: Way) -> Result<Volley> {
        let first = self.next;
        let mut rest = Vec::new();
        for case in cases {
            let shot = self.shot(aim.port())?;
            let mut frames = case.frames(&shot);
            rest.push(frames.split_off(1));
            self.send(way, &frames[0])?;
        }
        if aim != Aim::Free {
            self.sealed.extend(first..self.next);
        }
        self.settle(way, &mut |_sight| {})?;
        Ok(Volley { marks: first..self.next, rest, aim, way })
    }

    /// Sends what is left of the cases that `which` chooses by place, and tells what became of all.
    pub(crate) fn finish_volley(&self, volley: &Volley, which: impl Fn(usize) -> bool) -> Result<Outcomes> {
        for (_, frames) in volley.rest.iter().enumerate().filter(|(at, _)| which(*at)) {
            for frame in frames {
                self.send(volley.way, frame)?;
            }
        }
        let mut outcomes = Outcomes { of: vec![Outcome::default(); volley.rest.len()], strays: Vec::new() };
        self.settle(volley.way, &mut |sight| self.note(sight, &volley.marks, volley.aim, &mut outcomes))?;
        Ok(outcomes)
    }

    /// A new mark for a port.
    pub(crate) fn shot(&mut self, port: u16) -> Result<Shot> {
        let mark = self.next;
        ensure!(mark < MARKS, "no marks are left");
        self.next += 1;
        Ok(Shot { mark, port })
    }

    /// Sends one frame.
    pub(crate) fn send(&self, way: Way, frame: &[u8]) -> Result<()> {
        match way {
            Way::Wire => self.wires[0].send(frame),
            Way::Switch => self.wires[1].send(frame),
        }
    }

    /// Waits until all that was sent has arrived, and what was answered has come back.
    fn settle(&self, way: Way, note: &mut impl FnMut(Sight)) -> Result<()> {
        self.send(way, &FENCE.frame(UDP4.ether_type(), &FENCE.plain(UDP4)))?;
        wait::for_true("the fence behind the program", PATIENCE, || {
            let heard = self.ears.drain()?;
            let is_in = is_fenced(&heard);
            note(Sight::Heard(heard));
            Ok(is_in)
        })?;
        for family in Family::ALL {
            let echo = probe::udp(&self.stage.net.stranger, address(family, FENCE_PORT))?;
            ensure!(echo == Port::Open, "the unprotected echo is {echo:?} over {family:?}");
        }
        note(Sight::Heard(self.ears.drain()?));
        note(Sight::Behind(self.behind.drain()?));
        note(Sight::Before(self.before.drain()?));
        Ok(())
    }

    /// Whether a fence gets through.
    fn fence(&self, way: Way) -> Result<bool> {
        self.send(way, &FENCE.frame(UDP4.ether_type(), &FENCE.plain(UDP4)))?;
        Ok(is_fenced(&self.ears.drain()?))
    }

    fn note(&self, sight: Sight, marks: &Range<u16>, aim: Aim, outcomes: &mut Outcomes) {
        let of =
            |mark: Option<u16>| mark.filter(|mark| marks.contains(mark)).map(|mark| usize::from(mark - marks.start));
        let is_sealed = |port: Option<u16>| port.is_some_and(|port| port == SEALED || port == KNOCK_PORT);
        match sight {
            Sight::Behind(frames) => {
                for at in frames.iter().filter_map(|frame| of(shot::mark_of_frame(frame))) {
                    outcomes.of[at].passed += 1;
                }
            }
            Sight::Before(frames) => {
                for frame in frames.into_iter().filter(|frame| !shot::is_link_upkeep(frame) && !is_fence(frame)) {
                    let mark = shot::mark_answered(&frame);
                    match of(mark) {
                        Some(at) => outcomes.of[at].answers.push(frame),
                        // A late answer to an earlier shot at an unprotected port is none of this volley's.
                        None if mark.is_some_and(|mark| mark < marks.start && !self.sealed.contains(&mark)) => {}
                        None => outcomes.strays.push(format!("an answer: {frame:02x?}")),
                    }
                }
            }
            Sight::Heard(heard) => {
                for segment in heard.delivered {
                    match of(shot::mark_in(&segment.bytes)) {
                        Some(at) if segment.port() == Some(aim.port()) => outcomes.of[at].delivered += 1,
                        Some(_) | None if is_sealed(segment.port()) => {
                            outcomes.strays.push(format!("delivered: {segment:02x?}"));
                        }
                        Some(_) | None => {}
                    }
                }
                for (port, bytes) in heard.datagrams.into_iter().chain(heard.connections) {
                    match of(shot::mark_in(&bytes)) {
                        Some(at) if port == aim.port() => outcomes.of[at].served += 1,
                        Some(_) | None if is_sealed(Some(port)) => {
                            outcomes.strays.push(format!("port {port} got {bytes:02x?}"));
                        }
                        Some(_) | None => {}
                    }
                }
            }
        }
    }

    /// Connections of protected ports that the host's stack knows, half-open ones included; listeners are none.
    pub(crate) fn connections(&self) -> Result<Vec<String>> {
        const LISTEN: &str = "0A";
        let tables = self.stage.net.host.run(|| {
            let read = |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
            Ok(read("tcp")? + &read("tcp6")?)
        })?;
        let local = format!(":{SEALED:04X}");
        let is_connection = |row: &&str| {
            let mut fields = row.split_whitespace().skip(1);
            let (is_local, state) = (fields.next().is_some_and(|own| own.ends_with(&local)), fields.nth(1));
            is_local && state != Some(LISTEN)
        };
        Ok(tables.lines().filter(is_connection).map(str::to_owned).collect())
    }

    /// Packets counted so far, by reason.
    pub(crate) fn counted(&self) -> Result<BTreeMap<&'static str, f64>> {
        use jpat_common::reason::{DropReason, PassReason};
        let metrics = self.stage.metrics()?;
        let reasons = PassReason::ALL.iter().map(|reason| reason.as_str());
        let reasons = reasons.chain(DropReason::ALL.iter().map(|reason| reason.as_str()));
        Ok(reasons.map(|reason| (reason, metrics.packets(reason))).collect())
    }
}

enum Sight {
    Heard(Heard),
    /// Frames on the host.
    Behind(Vec<Vec<u8>>),
    /// Frames at the stranger.
    Before(Vec<Vec<u8>>),
}

fn is_tcp(frame: &[u8]) -> bool {
    let is_v4 = frame.get(12..14) == Some(&[0x08, 0x00]);
    frame.get(if is_v4 { 23 } else { 20 }) == Some(&6)
}

/// From the echo service that fences are sent to, and from nothing else.
fn is_fence(frame: &[u8]) -> bool {
    let (protocol, port) = if frame.get(12..14) == Some(&[0x08, 0x00]) { (23, 34) } else { (20, 54) };
    frame.get(protocol) == Some(&17) && frame.get(port..port + 2) == Some(&FENCE_PORT.to_be_bytes()[..])
}

/// A veth with one queue, so that frames stay in order, and a host that takes what others refuse.
fn connect(stage: &Stage) -> Result<()> {
    let net = &stage.net;
    net.host.ip(&format!(
        "link add name wire0 numtxqueues 1 numrxqueues 1 address 02:00:00:00:00:01 type veth \
         peer name wire0 numtxqueues 1 numrxqueues 1 netns {}\n\
         link set eth0 address 02:00:00:00:00:01",
        net.stranger.name()
    ))?;
    net.stranger.run(|| Ok(std::fs::write("/proc/sys/net/ipv6/conf/wire0/disable_ipv6", "1")?))?;
    // Nobody answers for what lies behind it.
    net.host.ip("route add blackhole 2001:db8:ffff::/48")?;
    // Frames of the stranger that pretend to be the host's must not turn the switch.
    net.switch.ip("link set stranger type bridge_slave learning off")?;
    net.host.run(|| {
        let set = |key: &str, value: &str| {
            std::fs::write(format!("/proc/sys/net/{key}"), value).with_context(|| format!("set {key}"))
        };
        for device in ["all", "wire0", "eth0"] {
            set(&format!("ipv4/conf/{device}/rp_filter"), "0")?;
            for key in ["accept_local", "route_localnet", "accept_source_route"] {
                set(&format!("ipv4/conf/{device}/{key}"), "1")?;
            }
            set(&format!("ipv6/conf/{device}/accept_source_route"), "1")?;
        }
        // Answers that a limit held back would be answers that were not seen.
        set("ipv4/icmp_ratelimit", "0")?;
        set("ipv6/icmp/ratelimit", "0")?;
        set("ipv4/icmp_echo_ignore_broadcasts", "0")
    })?;
    net.stranger.ip("link set wire0 up")?;
    net.host.ip("link set wire0 up")
}
