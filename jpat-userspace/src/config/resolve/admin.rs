//! `[limits]`, `[audit]` and `[admin]`.

use std::net::SocketAddr;

use nix::unistd::{Group, User};

use super::{Resolver, all};
use crate::config::{Admin, Audit, Limits, Peer, raw};

/// More verification threads than this are asked for by number.
const MAX_AUTO_WORKERS: usize = 8;

impl Resolver {
    pub(super) fn limits(&mut self, raw: &raw::Limits) -> Option<Limits> {
        let grants = self.number("limits.grants", raw.grants, 256..=16_777_216);
        let flows = self.number("limits.flows", raw.flows, 16..=16_777_216);
        let flows_per_grant = self.number("limits.flows_per_grant", raw.flows_per_grant, 1..=16_777_216);
        let sources = self.number("limits.sources_per_principal", raw.sources_per_principal, 1..=65_536);
        let workers = self.number("limits.workers", raw.workers, 0..=256);
        let queue = self.number("limits.queue", raw.queue, 1..=65_536);
        let bare = self.number("limits.bare_per_second", raw.bare_per_second, 1..=1_000_000);
        let sealed = self.number("limits.knocks_per_second", raw.knocks_per_second, 1..=1_000_000);
        let replay = self.number("limits.replay_entries", raw.replay_entries, 1..=10_000_000);
        Some(Limits {
            grants: grants?,
            flows: flows?,
            flows_per_grant: flows_per_grant?,
            sources_per_principal: sources?,
            workers: match workers? {
                0 => threads(),
                workers => workers,
            },
            queue: queue?,
            bare_per_second: bare?,
            knocks_per_second: sealed?,
            replay_entries: replay?,
        })
    }

    pub(super) fn audit(&mut self, raw: raw::Audit) -> Option<Audit> {
        match raw.file {
            Some(file) => self.path("audit.file", &file).map(Audit::File),
            None => Some(Audit::Journal),
        }
    }

    pub(super) fn admin(&mut self, raw: raw::Admin) -> Option<Admin> {
        let socket = self.path("admin.socket", &raw.socket);
        let read = self.peers("admin.read", &raw.read);
        let change = self.peers("admin.change", &raw.change);
        let metrics = self.metrics(&raw.metrics);
        Some(Admin { socket: socket?, read: read?, change: change?, metrics: metrics? })
    }

    fn metrics(&mut self, text: &str) -> Option<Option<SocketAddr>> {
        let key = "admin.metrics";
        if text == "off" {
            return Some(None);
        }
        let Ok(address) = text.parse::<SocketAddr>() else {
            self.error(
                key,
                format!("`{text}` is no address with a port"),
                "write \"127.0.0.1:9337\", \"[::1]:9337\" or \"off\"",
            );
            return None;
        };
        if !address.ip().is_loopback() {
            let message = format!("metrics on {address} tell others who is refused and how often");
            self.warn(key, message, "use a loopback address, or list the port in a [[service]] of its own");
        }
        Some(Some(address))
    }

    fn peers(&mut self, key: &str, names: &[String]) -> Option<Vec<Peer>> {
        let names = names.iter().enumerate();
        all(names.map(|(at, name)| self.peer(&format!("{key}[{at}]"), name)).collect())
    }

    fn peer(&mut self, key: &str, text: &str) -> Option<Peer> {
        let found = match text.strip_prefix('@') {
            Some(group) => group_id(group).map(|id| Peer::Group(group.to_owned(), id)),
            None => user_id(text).map(|id| Peer::User(text.to_owned(), id)),
        };
        if found.is_none() {
            let kind = if text.starts_with('@') { "group" } else { "user" };
            let remedy = "write a user (\"root\"), a group (\"@adm\") or a number (\"1000\", \"@4\") of this host";
            self.error(key, format!("there is no {kind} `{}` on this host", text.trim_start_matches('@')), remedy);
        }
        found
    }
}

/// Numbers and root need no user database: images made from scratch have none.
fn user_id(name: &str) -> Option<u32> {
    match name {
        "root" => Some(0),
        _ => name.parse().ok().or_else(|| User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())),
    }
}

fn group_id(name: &str) -> Option<u32> {
    match name {
        "root" => Some(0),
        _ => name.parse().ok().or_else(|| Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())),
    }
}

/// A thread for each CPU of this process; none where there is one, which is the loop's.
fn threads() -> u32 {
    match std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
        1 => 0,
        cores => u32::try_from(cores.min(MAX_AUTO_WORKERS)).unwrap_or(1),
    }
}
