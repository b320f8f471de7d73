//! What people use today, each in a namespace of its own with rules that do the same job: the service's port is closed
//! to everyone but one address. Their rules stay in place during the whole run.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use jpat_tests::netns::NetNs;

use super::{rounds, subject::Subject};

/// One of them, ready.
pub(crate) struct Rival {
    pub(crate) name: &'static str,
    pub(crate) host: NetNs,
}

/// Those that this machine has.
pub(crate) struct Rivals {
    pub(crate) hosts: Vec<Rival>,
    /// The others, with the reason.
    pub(crate) skipped: Vec<String>,
}

/// Name, program, and the rules it reads.
const RIVALS: [(&str, &[&str], &str); 4] = [
    (
        "iptables (legacy) INPUT",
        &["iptables-legacy-restore"],
        "*filter\n-A INPUT -p tcp --dport 8443 ! -s 203.0.113.5 -j DROP\nCOMMIT\n",
    ),
    (
        "iptables (nf_tables) INPUT",
        &["iptables-nft-restore"],
        "*filter\n-A INPUT -p tcp --dport 8443 ! -s 203.0.113.5 -j DROP\nCOMMIT\n",
    ),
    (
        "nftables input, set look-up",
        &["nft", "-f", "-"],
        "table inet jpat {
            set granted { type ipv4_addr; flags timeout; elements = { 203.0.113.5 timeout 1h } }
            chain in { type filter hook input priority 0; tcp dport 8443 ip saddr != @granted drop; }
        }",
    ),
    (
        "nftables netdev ingress, set look-up",
        &["nft", "-f", "-"],
        "table netdev jpat {
            set granted { type ipv4_addr; flags timeout; elements = { 203.0.113.5 timeout 1h } }
            chain in { type filter hook ingress device eth0 priority 0; tcp dport 8443 ip saddr != @granted drop; }
        }",
    ),
];

/// Their names, as rows and bars have them.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    RIVALS.into_iter().map(|(name, ..)| name)
}

impl Rivals {
    /// Writes the rules of each, and makes sure that they stop what otherwise reaches TCP.
    pub(crate) fn prepare(prefix: &str, subject: &Subject) -> Result<Self> {
        let mut rivals = Self { hosts: Vec::new(), skipped: Vec::new() };
        for (number, (name, command, rules)) in RIVALS.into_iter().enumerate() {
            let host = super::host(prefix, &format!("rival{number}"))?;
            let open = segments(&host, subject)?;
            ensure!(open == PROBES, "without rules, {open} of {PROBES} segments reached TCP");
            if let Err(error) = write_rules(&host, command, rules) {
                rivals.skipped.push(format!("{name}: {error:#}"));
                continue;
            }
            let closed = segments(&host, subject)?;
            ensure!(closed == 0, "{name}: {closed} of {PROBES} segments reached TCP");
            rivals.hosts.push(Rival { name, host });
        }
        Ok(rivals)
    }
}

const PROBES: u32 = 1_000;

fn write_rules(host: &NetNs, command: &[&str], rules: &str) -> Result<()> {
    let [program, args @ ..] = command else { bail!("no program") };
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = host.spawn(&mut command)?;
    child.stdin.take().context("no input")?.write_all(rules.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// How many of [`PROBES`] frames reach the host's TCP.
fn segments(host: &NetNs, subject: &Subject) -> Result<u32> {
    host.run(|| {
        let before = received()?;
        rounds::send_up(subject, &super::plan::to_host(), PROBES)?;
        Ok(received()? - before)
    })
}

/// `TcpInSegs` of this thread's namespace (RFC 4022 `tcpInSegs`).
fn received() -> Result<u32> {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp").context("read the counters of TCP")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().context("no names")?, lines.next().context("no values")?);
    let at = names.split(' ').position(|name| name == "InSegs").context("no InSegs")?;
    Ok(values.split(' ').nth(at).context("no value")?.parse()?)
}
