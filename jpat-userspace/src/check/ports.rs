//! Ports that are the host's own, or its cluster's.

use std::ops::RangeInclusive;

use super::{Findings, HostFacts};
use crate::config::{Config, Mode, PortRange, Protocol};

/// A port that infrastructure uses.
struct Infrastructure {
    protocol: Protocol,
    ports: RangeInclusive<u16>,
    what: &'static str,
    /// Part of Kubernetes or of its networks.
    cluster: bool,
}

const fn cluster(protocol: Protocol, ports: RangeInclusive<u16>, what: &'static str) -> Infrastructure {
    Infrastructure { protocol, ports, what, cluster: true }
}

const INFRASTRUCTURE: [Infrastructure; 14] = [
    cluster(Protocol::Tcp, 6443..=6443, "the Kubernetes API server"),
    cluster(Protocol::Tcp, 2379..=2380, "etcd"),
    cluster(Protocol::Tcp, 10_250..=10_250, "the kubelet"),
    cluster(Protocol::Tcp, 10_256..=10_256, "kube-proxy's health check"),
    cluster(Protocol::Tcp, 10_257..=10_257, "the Kubernetes controller manager"),
    cluster(Protocol::Tcp, 10_259..=10_259, "the Kubernetes scheduler"),
    cluster(Protocol::Tcp, 179..=179, "BGP between nodes (Calico, Cilium)"),
    cluster(Protocol::Tcp, 4240..=4240, "Cilium's health check"),
    cluster(Protocol::Udp, 8472..=8472, "VXLAN between nodes (Flannel, Cilium)"),
    cluster(Protocol::Udp, 4789..=4789, "VXLAN between nodes (Calico)"),
    cluster(Protocol::Udp, 6081..=6081, "Geneve between nodes"),
    cluster(Protocol::Udp, 51_820..=51_821, "WireGuard between nodes"),
    Infrastructure { protocol: Protocol::Udp, ports: 68..=68, what: "the DHCP client", cluster: false },
    Infrastructure { protocol: Protocol::Udp, ports: 546..=546, what: "the DHCPv6 client", cluster: false },
];

pub(super) fn check(config: &Config, facts: &HostFacts, findings: &mut Findings) {
    for (at, service) in config.services.iter().enumerate() {
        for (port, range) in service.ports.iter().enumerate() {
            let key = format!("service[{at}].ports[{port}]");
            ephemeral(config, facts, &key, *range, findings);
            infrastructure(config, facts, &key, *range, findings);
        }
    }
    let port = config.listen.port;
    if own(facts, port) {
        let message = format!(
            "{port} is a port of the host's own connections ({}), whose replies would be taken for knocks",
            show(&facts.ephemeral)
        );
        findings.errors.push(config.source.error("listen.port", message, reserve(facts, port, port)));
    }
    let knock = PortRange { protocol: Protocol::Udp, first: port, last: port };
    if let Some(used) = INFRASTRUCTURE.iter().find(|used| overlaps(used, knock)) {
        let message = format!("udp/{port} is the port of {}", used.what);
        findings.warnings.push(config.source.warning("listen.port", message, "use another, such as the default 1337"));
    }
}

fn ephemeral(config: &Config, facts: &HostFacts, key: &str, range: PortRange, findings: &mut Findings) {
    let Some(first) = (range.first..=range.last).find(|port| own(facts, *port)) else { return };
    let last = (first..=range.last).take_while(|port| own(facts, *port)).last().unwrap_or(first);
    let own = show(&facts.ephemeral);
    let message =
        format!("`{range}` lies among the ports of the host's own connections ({own}), whose replies would be dropped");
    let remedy = reserve(facts, first, last);
    match config.mode {
        Mode::Enforce => findings.errors.push(config.source.error(key, message, remedy)),
        Mode::Audit => findings.warnings.push(config.source.warning(key, message, remedy)),
    }
}

fn infrastructure(config: &Config, facts: &HostFacts, key: &str, range: PortRange, findings: &mut Findings) {
    let Some(used) = INFRASTRUCTURE.iter().find(|used| overlaps(used, range)) else { return };
    let message = format!("`{range}` holds the port of {}", used.what);
    let remedy = "leave it out, or list the networks of nodes and pods in always_allow.sources";
    // On a node, the cluster would lose it; who lists networks to be let through has thought of that.
    if used.cluster && facts.kubernetes && config.always_allow.is_empty() && config.mode == Mode::Enforce {
        findings.errors.push(config.source.error(key, message, remedy));
    } else {
        let remedy = if used.cluster { remedy } else { "leave it out: without it this host loses its address" };
        findings.warnings.push(config.source.warning(key, message, remedy));
    }
}

fn own(facts: &HostFacts, port: u16) -> bool {
    facts.ephemeral.contains(&port) && !facts.reserved.iter().any(|reserved| reserved.contains(&port))
}

fn overlaps(used: &Infrastructure, range: PortRange) -> bool {
    used.protocol == range.protocol && *used.ports.start() <= range.last && range.first <= *used.ports.end()
}

/// The sysctl replaces what is reserved already.
fn reserve(facts: &HostFacts, first: u16, last: u16) -> String {
    let ranges: Vec<_> = facts.reserved.iter().cloned().chain([first..=last]).map(|range| show(&range)).collect();
    format!(
        "use another port, or reserve it: sysctl -w net.ipv4.ip_local_reserved_ports={}, and in /etc/sysctl.d",
        ranges.join(",")
    )
}

fn show(range: &RangeInclusive<u16>) -> String {
    if range.start() == range.end() { range.start().to_string() } else { format!("{}-{}", range.start(), range.end()) }
}
