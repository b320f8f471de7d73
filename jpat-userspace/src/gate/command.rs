//! What goes into a gate once, and what comes out of it.

use std::{collections::BTreeSet, time::Duration};

use jpat_common::grant::{GrantKey, GrantValue, ServiceId};

use super::claim::Claim;
use crate::{
    audit::Event,
    clock::BootTime,
    config::Limits,
    knock::{
        Peer,
        reply::{Outcome, Reply},
        sealed::ReplyTicket,
    },
    refusal::Refusal,
};

/// What a gate starts with.
#[derive(Clone, Debug)]
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
    /// How far the clocks of issuers may run ahead where tokens may be used once.
    pub once_leeway: Duration,
}

/// What the shell is to do next.
#[derive(Debug)]
pub enum Command {
    /// Append its records to the replay store. If that succeeds, call [`Gate::claimed`](super::Gate::claimed), else
    /// [`Gate::claim_failed`](super::Gate::claim_failed): what the knock opens comes out of the gate only then.
    Claim(Box<Claim>),
    /// Append [`Gate::notes`](super::Gate::notes) to the replay store, which no knock waits for. If that succeeds, call
    /// [`Gate::noted`](super::Gate::noted); else they are asked for again.
    Note,
    /// Seal and send a reply.
    Reply(Box<Answer>),
    /// Count a knock that did what it asked for without a write.
    Done(Accepted),
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

/// A knock that was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// When the XDP program saw it.
    pub received: BootTime,
    /// What came of it.
    pub result: Taken,
}

/// What came of a knock that was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// Something opened.
    Granted,
    /// It only renewed what was open already.
    Renewed,
    /// A token that may be used once came again while its grant lives.
    Repeated,
    /// It gave something back.
    Closed,
}

impl Taken {
    /// Every one, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Granted, Self::Renewed, Self::Repeated, Self::Closed];

    /// Its name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Renewed => "renewed",
            Self::Repeated => "repeated",
            Self::Closed => "closed",
        }
    }
}

/// A reply, and where it goes.
#[derive(Debug)]
pub struct Answer {
    /// Seals it.
    pub ticket: ReplyTicket,
    /// The knock's ends: it goes from its destination to its source.
    pub peer: Peer,
    /// What it says.
    pub reply: Reply,
    /// The grants that it tells of.
    pub(super) keys: BTreeSet<GrantKey>,
}

impl Answer {
    /// What it tells of is not in effect.
    pub fn take_back(&mut self) {
        if !self.keys.is_empty() {
            self.reply.outcome = Outcome::Refused(Refusal::WriteFailed.code().to_owned());
        }
    }
}
