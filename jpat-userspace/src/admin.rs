//! The local socket's protocol: one JSON object a line, a request and its response.

pub mod client;
#[cfg(feature = "daemon")]
mod peer;
#[cfg(feature = "daemon")]
pub mod server;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Version of requests and responses.
pub const VERSION: u32 = 1;

/// Where the socket is unless the configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/jpat/admin.sock";

/// Longest request in bytes.
pub const MAX_REQUEST: u64 = 16 * 1024;

/// What one may ask of a running controller.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How it stands.
    Status,
    /// Changes the mode until the next reload or restart.
    Mode {
        /// `enforce` or `audit`.
        mode: ModeName,
        /// Even if the sender could not connect again without a knock, or connections that stand would be cut.
        #[serde(default)]
        force: bool,
    },
    /// Ends a trial: what is attached stays.
    Confirm,
    /// Every live grant, and those whose flows outlived them.
    GrantsList,
    /// Opens a service by hand.
    GrantsAdd {
        /// For whom.
        source: IpAddr,
        /// Which service.
        service: String,
        /// For how long, in seconds; the service's own TTL if absent.
        ttl_seconds: Option<u64>,
    },
    /// Takes grants back. What is absent matches all; all three absent is refused.
    GrantsRevoke {
        /// Sources.
        source: Option<IpNet>,
        /// A service.
        service: Option<String>,
        /// A principal as `grants list` shows it.
        principal: Option<String>,
    },
    /// Takes every grant back, in one step.
    GrantsFlush,
    /// Reads the configuration again.
    Reload,
}

impl Request {
    /// Whether it changes anything.
    #[must_use]
    pub const fn is_change(&self) -> bool {
        match self {
            Self::Status | Self::GrantsList => false,
            Self::Mode { .. }
            | Self::Confirm
            | Self::GrantsAdd { .. }
            | Self::GrantsRevoke { .. }
            | Self::GrantsFlush
            | Self::Reload => true,
        }
    }
}

/// Names of the modes on the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModeName {
    /// Drop.
    Enforce,
    /// Count what would be dropped.
    Audit,
}

/// An answer with its version.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Versioned {
    /// [`VERSION`].
    pub version: u32,
    /// The answer.
    #[serde(flatten)]
    pub response: Response,
}

/// What a controller answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "kebab-case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// The mode in force now.
    Mode {
        /// The mode.
        mode: ModeName,
    },
    /// The trial is over.
    Confirmed,
    /// To [`Request::GrantsList`].
    Grants {
        /// In the order of source and service.
        grants: Vec<Grant>,
        /// Grants that have ended, and whose flows have not.
        #[serde(default)]
        outlived: Vec<Grant>,
    },
    /// To [`Request::GrantsAdd`].
    Added {
        /// What was opened.
        grant: Grant,
    },
    /// To [`Request::GrantsRevoke`].
    Revoked {
        /// How many live ones.
        count: usize,
        /// How many flows ended with them, or of grants that had ended before.
        #[serde(default)]
        flows: usize,
    },
    /// To [`Request::GrantsFlush`].
    Flushed {
        /// The generation that is live now.
        generation: u32,
    },
    /// To [`Request::Reload`].
    Reloaded {
        /// The mode in force now.
        mode: ModeName,
        /// What will surprise.
        warnings: Vec<String>,
    },
    /// Nothing was done.
    Refused {
        /// Why, and what to do.
        message: String,
    },
}

/// One live grant, or one principal's share in it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// Source prefix.
    pub source: String,
    /// Service.
    pub service: String,
    /// `issuer:subject`, the name of the admin who added it, or `adopted`.
    pub principal: String,
    /// Token id, where a token opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// When it ends, RFC 3339.
    pub until: String,
    /// Seconds left, rounded down.
    pub seconds_left: u64,
    /// Flows from the source prefix to the service, whoever opened them, as last seen.
    #[serde(default)]
    pub flows: usize,
}

/// How a controller stands.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Program version.
    pub program: String,
    /// Mode in force.
    pub mode: ModeName,
    /// Configuration file.
    pub config: String,
    /// How many times it was loaded.
    pub config_generation: u64,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Whether the death of the controller leaves enforcement in place.
    pub pinned: bool,
    /// Seconds until an unconfirmed trial rolls back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_seconds: Option<u64>,
    /// UDP port of knocks.
    pub knock_port: u16,
    /// Where the program is attached.
    pub interfaces: Vec<Interface>,
    /// Entries of `listen.interfaces` that no device matches yet.
    #[serde(default)]
    pub waiting: Vec<String>,
    /// Devices that are up and not judged: loopback, and those of this host's own containers.
    #[serde(default)]
    pub not_judged: Vec<String>,
    /// What this kernel does without, and what that means.
    #[serde(default)]
    pub degraded: Vec<String>,
    /// Live grants.
    pub grants: usize,
    /// Most live grants.
    pub grants_capacity: u32,
    /// Flows, as last seen.
    #[serde(default)]
    pub flows: usize,
    /// Most flows.
    #[serde(default)]
    pub flows_capacity: u32,
    /// What is protected.
    pub services: Vec<Service>,
    /// Whose tokens count.
    pub issuers: Vec<Issuer>,
    /// What needs somebody's attention.
    pub alarms: Vec<String>,
}

/// An interface in [`Status`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `driver` or `generic`.
    pub attach: String,
    /// The program's name in the kernel.
    #[serde(default)]
    pub program: String,
    /// Why not as wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A service in [`Status`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The data path's number of it.
    pub id: u32,
    /// As in the file.
    pub ports: Vec<String>,
}

/// An issuer in [`Status`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Issuer {
    /// Its configured name.
    pub name: String,
    /// Keys at hand.
    pub keys: usize,
    /// Seconds since they were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u64>,
    /// Why the last fetch failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
