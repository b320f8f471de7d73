//! Attempts to get a packet past the program, each with the verdict that the design gives it. The frames are built for
//! the addresses they are to be sent between and carry right checksums, so that over a real link a leak is delivered
//! and seen. Rows are those of the threat table: T17 fragments, T18 IPv4 options, T19 extension headers, T20 the link
//! layer, T21 tunnels, T23 jumbo frames, T24 TCP flags, T26 ICMP, T27 silence, T28 lengths, T30 the host's own addresses;
//! `hole` is what another firewall of this kind let through.

mod fragments;
mod holes;
mod hosts;
mod link;
mod network;
mod scene;
mod transport;
mod tunnels;

use jpat_common::reason::{DropReason, PassReason};
use jpat_ebpf::verdict::Verdict;

pub use scene::{Host, Peer, Scene};

/// Who sends a case's frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum From {
    /// Somebody without a grant.
    Stranger,
    /// Somebody with a live grant for the service of [`Host::port`].
    Granted,
}

/// A frame and what must become of it.
#[derive(Clone, Debug)]
pub struct Expected {
    /// From the destination MAC address on.
    pub frame: Vec<u8>,
    /// What must become of it in enforce mode.
    pub verdict: Verdict,
    /// Whether it counts for the service of [`Host::port`], or for none.
    pub of_service: bool,
}

/// One attempt: frames that are sent one after the other.
#[derive(Clone, Debug)]
pub struct Case {
    /// Unique; `row/what`.
    pub name: String,
    /// Who sends them.
    pub from: From,
    /// Whether the case is about `tunnels = "drop"` instead of `"pass"`.
    pub drop_tunnels: bool,
    /// The frames, in the order in which they are sent.
    pub frames: Vec<Expected>,
}

impl Case {
    fn one(name: impl Into<String>, expected: Expected) -> Self {
        Self::all(name, vec![expected])
    }

    fn all(name: impl Into<String>, frames: Vec<Expected>) -> Self {
        Self { name: name.into(), from: From::Stranger, drop_tunnels: false, frames }
    }

    fn granted(mut self) -> Self {
        self.from = From::Granted;
        self
    }

    fn dropping_tunnels(mut self) -> Self {
        self.drop_tunnels = true;
        self
    }
}

/// For the protected port, and nobody opened it.
fn no_grant(frame: Vec<u8>) -> Expected {
    of_service(frame, DropReason::NoGrant)
}

/// Dropped as a packet of the service.
fn of_service(frame: Vec<u8>, reason: DropReason) -> Expected {
    Expected { frame, verdict: Verdict::Drop(reason), of_service: true }
}

/// Dropped before it is known for whom.
fn dropped(frame: Vec<u8>, reason: DropReason) -> Expected {
    Expected { frame, verdict: Verdict::Drop(reason), of_service: false }
}

/// Goes on to the stack, and can do no harm there.
fn passed(frame: Vec<u8>, reason: PassReason) -> Expected {
    Expected { frame, verdict: Verdict::Pass(reason), of_service: false }
}

/// Every case, of a stranger or a granted peer of `scene`; names are unique and the same for every scene.
#[must_use]
pub fn cases(scene: &Scene) -> Vec<Case> {
    let mut all = fragments::cases(scene);
    all.extend(network::cases(scene));
    all.extend(link::cases(scene));
    all.extend(tunnels::cases(scene));
    all.extend(transport::cases(scene));
    all.extend(hosts::cases(scene));
    all.extend(holes::cases(scene));
    all
}
