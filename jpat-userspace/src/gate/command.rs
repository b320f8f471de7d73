//! What goes into a gate once, and what comes out of it.

use std::time::Duration;

use jpat_common::grant::{GrantKey, GrantValue, ServiceId};

use crate::{
    audit::Event,
    clock::{BootTime, UnixTime},
    config::Limits,
    refusal::Refusal,
};

/// What a gate starts with.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Capacities; all but `grants` can be changed by a reload.
    pub limits: Limits,
    /// Entries of the grant map that may be in use: its capacity less 128 for each possible CPU.
    pub usable: u32,
    /// Longest life of a grant, whatever its service says; the program refuses longer ones.
    pub max_ttl: Duration,
    /// Generation that the data path holds for live.
    pub generation: u32,
    /// Generation of the snapshot in force.
    pub snapshot_generation: u64,
    /// `once` tokens with an earlier `iat`, or none, are refused: the replay memory starts empty. At least the
    /// start of the controller; later by the leeway for `iat`, where issuers' clocks may run ahead.
    pub once_since: UnixTime,
}

/// What the shell is to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Write a grant. If that fails, call [`Gate::write_failed`](super::Gate::write_failed).
    Write {
        /// Where.
        key: GrantKey,
        /// What.
        value: GrantValue,
        /// Set on the last write of a knock: count and time it once it is written.
        knock: Option<Accepted>,
    },
    /// Delete a grant; that it is not there is no error.
    Delete {
        /// Where.
        key: GrantKey,
    },
    /// Remove flows. What deleted or changed their grant comes before.
    EndFlows(FlowsOf),
    /// Make this generation the live one: the grants and flows of all others are revoked.
    SetGeneration(u32),
    /// Count a refused knock.
    Refused(Refusal),
    /// Write a line of the audit log.
    Audit(Box<Event>),
}

/// Which flows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FlowsOf {
    /// All that the grant's source prefix has to its service.
    Grant(GrantKey),
    /// All to a service.
    Service(ServiceId),
}

/// A knock that opened something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// When the XDP program saw it.
    pub received: BootTime,
    /// Whether it only renewed what was open already.
    pub renewed: bool,
}
