//! Where cases are sent: a stage whose stranger also has a wire of its own to the host, real listeners behind it, and
//! taps on both sides.

use std::{collections::BTreeSet, ops::Range};

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
    case::Case,
    ground,
    outcome::{Outcomes, Sight, is_fence},
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
        ground::prepare(&stage)?;
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
        Ok(Outcomes::of(self.settle(way)?, &marks, aim.port(), &self.sealed))
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
        self.settle(way)?;
        Ok(Volley { marks: first..self.next, rest, aim, way })
    }

    /// Sends what is left of the cases that `which` chooses by place, and tells what became of all.
    pub(crate) fn finish_volley(&self, volley: &Volley, which: impl Fn(usize) -> bool) -> Result<Outcomes> {
        for (_, frames) in volley.rest.iter().enumerate().filter(|(at, _)| which(*at)) {
            for frame in frames {
                self.send(volley.way, frame)?;
            }
        }
        Ok(Outcomes::of(self.settle(volley.way)?, &volley.marks, volley.aim.port(), &self.sealed))
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

    /// Waits until all that was sent has arrived and what was answered has come back, and tells what was seen.
    pub(crate) fn settle(&self, way: Way) -> Result<Sight> {
        let mut heard = Heard::default();
        self.send(way, &FENCE.frame(UDP4.ether_type(), &FENCE.plain(UDP4)))?;
        wait::for_true("the fence behind the program", PATIENCE, || {
            let more = self.ears.drain()?;
            let is_in = is_fenced(&more);
            heard.extend(more);
            Ok(is_in)
        })?;
        for family in Family::ALL {
            let echo = address(family, FENCE_PORT);
            let stranger = &self.stage.net.stranger;
            wait::for_true("the unprotected echo", PATIENCE, || Ok(probe::udp(stranger, echo)? == Port::Open))?;
        }
        heard.extend(self.ears.drain()?);
        let mut before = self.before.drain()?;
        before.retain(|frame| !shot::is_link_upkeep(frame) && !is_fence(frame));
        Ok(Sight { heard, behind: self.behind.drain()?, before })
    }

    /// Whether a fence gets through.
    fn fence(&self, way: Way) -> Result<bool> {
        self.send(way, &FENCE.frame(UDP4.ether_type(), &FENCE.plain(UDP4)))?;
        Ok(is_fenced(&self.ears.drain()?))
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
}
