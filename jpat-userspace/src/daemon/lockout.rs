//! Whether enforcement would shut out whoever asked for it. The connection itself is adopted and goes on; the next one
//! would need a knock.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;

use super::Options;
use crate::config::{Config, Protocol};

/// Refuses a start that begins to enforce where the caller is logged in over SSH to a port that would be closed to it. A
/// trial rolls back by itself, so it goes on with a warning.
///
/// # Errors
/// Names the connection and the ways out.
pub(super) fn check_start(config: &Config, options: &Options) -> anyhow::Result<()> {
    let Some(what) = would_shut_out(config, std::process::id()) else { return Ok(()) };
    if options.force || options.trial.is_some() {
        tracing::warn!("{what}");
        return Ok(());
    }
    anyhow::bail!(
        "{what}\n  remedy: add the address to `always_allow.sources`, or start with --try 60s, which rolls back unless confirmed, or in audit mode, or with --force"
    )
}

/// Says which connection of `process` could not be made again under enforcement without a knock, if any: SSH to a
/// protected port from an address that is not always allowed.
pub(super) fn would_shut_out(config: &Config, process: u32) -> Option<String> {
    let Connection { peer, local } = connection_of(process).filter(|connection| is_cut(config, connection))?;
    Some(format!(
        "your own connection from {peer} to port {} has no grant: it would go on, but a new one would need a knock",
        local.port()
    ))
}

/// The address from which the caller is logged in, if through SSH.
pub(super) fn own_peer() -> Option<IpAddr> {
    connection_of(std::process::id()).map(|connection| connection.peer.ip())
}

/// An SSH session's two ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Connection {
    peer: SocketAddr,
    local: SocketAddr,
}

fn is_cut(config: &Config, connection: &Connection) -> bool {
    let protected =
        config.services.iter().flat_map(|service| &service.ports).any(|range| {
            range.protocol == Protocol::Tcp && (range.first..=range.last).contains(&connection.local.port())
        });
    let allowed = config.always_allow.iter().any(|net| contains(net, connection.peer.ip()));
    protected && !allowed
}

fn contains(net: &IpNet, address: IpAddr) -> bool {
    net.contains(&address.to_canonical())
}

/// `SSH_CONNECTION` of a process, or of the nearest ancestor that has one: sudo removes it from the environment.
fn connection_of(mut process: u32) -> Option<Connection> {
    for _generation in 0..32 {
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        let found = environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(b"SSH_CONNECTION="));
        if let Some(value) = found {
            return parse(std::str::from_utf8(value).ok()?);
        }
        process = parent(process).filter(|parent| *parent > 1)?;
    }
    None
}

/// Parent of a process. Its name, which may hold anything, ends at the last parenthesis (proc_pid_stat(5)).
fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// "client address, client port, server address, server port" (sshd(8)); a zone after `%` is left out.
fn parse(value: &str) -> Option<Connection> {
    let mut words = value.split_whitespace();
    let mut end = || {
        let address = words.next()?.split('%').next()?.parse().ok()?;
        Some(SocketAddr::new(address, words.next()?.parse().ok()?))
    };
    Some(Connection { peer: end()?, local: end()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
        mode = "enforce"
        [always_allow]
        sources = ["192.0.2.0/28"]
        [[issuer]]
        name = "corp"
        issuer = "https://idp.example"
        audience = ["a"]
        algorithms = ["ES256"]
        keys = { discovery = true }
        accept = ["bare"]
        [[service]]
        name = "ssh"
        ports = ["tcp/22"]
        allow = "true"
        ttl = "30s"
    "#;

    #[test]
    fn p8_a_connection_to_a_protected_port_is_cut_unless_always_allowed() {
        let config = Config::for_tests(CONFIG);
        let cut = |value| is_cut(&config, &parse(value).unwrap());
        assert!(cut("198.51.100.7 50000 203.0.113.1 22"));
        assert!(cut("2001:db8::7 50000 2001:db8::1 22"));
        assert!(!cut("192.0.2.7 50000 203.0.113.1 22"));
        assert!(!cut("::ffff:192.0.2.7 50000 ::ffff:203.0.113.1 22"));
        assert!(!cut("198.51.100.7 50000 203.0.113.1 2222"));
    }

    #[test]
    fn link_local_peers_carry_a_zone() {
        assert_eq!(parse("fe80::1%eth0 1 fe80::2%eth0 22").unwrap().local.port(), 22);
        assert_eq!(parse("nonsense"), None);
    }
}
