//! What became of a volley: how far each case got, what was answered, and what nobody sent for.

use std::{collections::BTreeSet, ops::Range};

use jpat_tests::{
    capture::FENCE_PORT,
    ears::{Delivered, Heard},
    packet::UDP,
};

use super::{arena::SEALED, case::Reach, shot};
use crate::config::KNOCK_PORT;

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

/// All that was seen on both sides while a volley was in the air.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    /// At the listeners.
    pub(crate) heard: Heard,
    /// Frames on the host.
    pub(crate) behind: Vec<Vec<u8>>,
    /// Frames at the stranger, without the link's upkeep and the fences.
    pub(crate) before: Vec<Vec<u8>>,
}

/// What became of a volley.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    /// Per case, in order.
    pub(crate) of: Vec<Outcome>,
    /// What nobody sent for, or an earlier shot did: answers, and what reached a protected or the knock port.
    pub(crate) strays: Vec<String>,
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

impl Sight {
    /// What reached a protected port or the knock port.
    pub(crate) fn leaks(&self) -> Vec<String> {
        let delivered = self.heard.delivered.iter().filter(|segment| is_sealed_segment(segment));
        let delivered = delivered.map(|segment| format!("delivered: {segment:02x?}"));
        let served = self.heard.served().filter(|(port, _)| is_sealed(*port));
        delivered.chain(served.map(|(port, bytes)| format!("port {port} got {bytes:02x?}"))).collect()
    }
}

impl Outcomes {
    /// Tells the sight of the shots `marks` at `port` apart. What answers or reaches `sealed` shots of earlier volleys is a
    /// stray; a late answer to another earlier shot is nothing.
    pub(crate) fn of(sight: Sight, marks: &Range<u16>, port: u16, sealed: &BTreeSet<u16>) -> Self {
        let mut outcomes = Self { of: vec![Outcome::default(); marks.len()], strays: Vec::new() };
        let place =
            |mark: Option<u16>| mark.filter(|mark| marks.contains(mark)).map(|mark| usize::from(mark - marks.start));
        for at in sight.behind.iter().filter_map(|frame| place(shot::mark_of_frame(frame))) {
            outcomes.of[at].passed += 1;
        }
        for frame in sight.before {
            let mark = shot::mark_answered(&frame);
            let is_late = mark.is_some_and(|mark| mark < marks.start && !sealed.contains(&mark));
            match place(mark) {
                Some(at) => outcomes.of[at].answers.push(frame),
                None if is_late => {}
                None => outcomes.strays.push(format!("an answer: {frame:02x?}")),
            }
        }
        for segment in &sight.heard.delivered {
            match place(shot::mark_in(&segment.bytes)) {
                Some(at) if segment.port() == Some(port) => outcomes.of[at].delivered += 1,
                Some(_) | None if is_sealed_segment(segment) => {
                    outcomes.strays.push(format!("delivered: {segment:02x?}"));
                }
                Some(_) | None => {}
            }
        }
        for (heard_at, bytes) in sight.heard.served() {
            match place(shot::mark_in(bytes)) {
                Some(at) if heard_at == port => outcomes.of[at].served += 1,
                Some(_) | None if is_sealed(heard_at) => {
                    outcomes.strays.push(format!("port {heard_at} got {bytes:02x?}"));
                }
                Some(_) | None => {}
            }
        }
        outcomes
    }
}

/// Nobody listens on the knock port but for UDP.
const fn is_sealed(port: u16) -> bool {
    port == SEALED || port == KNOCK_PORT
}

fn is_sealed_segment(segment: &Delivered) -> bool {
    segment.port().is_some_and(|port| port == SEALED || (port == KNOCK_PORT && segment.protocol == UDP))
}

fn is_tcp(frame: &[u8]) -> bool {
    let is_v4 = frame.get(12..14) == Some(&[0x08, 0x00]);
    frame.get(if is_v4 { 23 } else { 20 }) == Some(&6)
}

/// From the echo service that fences are sent to, and from nothing else.
pub(crate) fn is_fence(frame: &[u8]) -> bool {
    let (protocol, port) = if frame.get(12..14) == Some(&[0x08, 0x00]) { (23, 34) } else { (20, 54) };
    frame.get(protocol) == Some(&17) && frame.get(port..port + 2) == Some(&FENCE_PORT.to_be_bytes()[..])
}

/// Whether a frame is an ICMP or ICMPv6 error: unreachable, or a parameter problem.
pub(crate) fn is_icmp_error(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(23) == Some(&1) && matches!(frame.get(34), Some(3 | 12)),
        Some([0x86, 0xdd]) => frame.get(20) == Some(&58) && matches!(frame.get(54), Some(1 | 4)),
        Some(_) | None => false,
    }
}
