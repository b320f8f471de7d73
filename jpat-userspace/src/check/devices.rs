//! `listen.interfaces` against the devices there are.

use super::{Findings, HostFacts};
use crate::{
    config::{Config, InterfacePattern},
    datapath::interfaces::{self, Device},
};

const KEY: &str = "listen.interfaces";

/// Kinds of devices that unwrap packets; what is inside is judged only if they are listed.
const TUNNELS: [&str; 14] = [
    "vxlan",
    "geneve",
    "gre",
    "gretap",
    "erspan",
    "ip6gre",
    "ip6gretap",
    "ip6tnl",
    "ipip",
    "sit",
    "vti",
    "vti6",
    "xfrm",
    "wireguard",
];
/// Kinds whose outer packets `listen.tunnels = "drop"` does not know: any UDP port, or made by a process.
const UNDROPPED: [&str; 2] = ["wireguard", "tun"];

pub(super) fn check(config: &Config, facts: &HostFacts, findings: &mut Findings) {
    let devices = match &facts.devices {
        Ok(devices) => devices,
        Err(error) => {
            let remedy = "allow netlink sockets: in a systemd unit RestrictAddressFamilies= must list AF_NETLINK";
            let message = format!("the devices of this host cannot be listed: {error}");
            findings.errors.push(config.source.error(KEY, message, remedy));
            return;
        }
    };
    let found = interfaces::resolve(&config.listen.interfaces, devices);
    for at in &found.unmatched {
        if let Some(pattern) = config.listen.interfaces.get(*at) {
            unmatched(config, pattern, &format!("{KEY}[{at}]"), devices, findings);
        }
    }
    if found.names.is_empty() && findings.errors.is_empty() {
        findings.errors.push(config.source.error(KEY, "no device: nothing would be protected", here(devices)));
    }
    for device in devices.iter().filter(|device| device.up && !found.names.contains(&device.name)) {
        tunnel(config, device, findings);
    }
}

fn unmatched(config: &Config, pattern: &InterfacePattern, key: &str, devices: &[Device], findings: &mut Findings) {
    match pattern {
        InterfacePattern::Name(name) if devices.iter().any(|device| device.name == *name) => {
            let message = format!("`{name}` has no Ethernet header; such devices are not available in this version");
            findings.errors.push(config.source.error(
                key,
                message,
                "leave it out, and bind protected services to other addresses",
            ));
        }
        InterfacePattern::Name(name) => {
            findings.errors.push(config.source.error(key, format!("there is no device `{name}`"), here(devices)));
        }
        InterfacePattern::Glob(glob) => {
            findings.warnings.push(config.source.warning(key, format!("no device matches `{glob}`"), here(devices)));
        }
        InterfacePattern::External => {
            let message = "this host has no physical or bond device that is no bridge port";
            findings.warnings.push(config.source.warning(key, message, here(devices)));
        }
    }
}

fn tunnel(config: &Config, device: &Device, findings: &mut Findings) {
    let Some(kind) = device.kind.as_deref() else { return };
    let dropped = config.listen.drop_tunnels && !UNDROPPED.contains(&kind);
    if dropped || !(TUNNELS.contains(&kind) || UNDROPPED.contains(&kind)) {
        return;
    }
    let message = format!(
        "`{}` ({kind}) is up and not listed: what comes through it reaches protected ports unjudged",
        device.name
    );
    let remedy = match (device.has_ethernet(), UNDROPPED.contains(&kind)) {
        (true, _) => format!("list \"{}\" as well", device.name),
        (false, false) => {
            "set listen.tunnels = \"drop\", or bind protected services to addresses outside of the tunnel".into()
        }
        (false, true) => {
            "bind protected services to addresses outside of the tunnel, unless all its peers may use them".into()
        }
    };
    findings.warnings.push(config.source.warning(KEY, message, remedy));
}

fn here(devices: &[Device]) -> String {
    let names: Vec<_> =
        devices.iter().filter(|device| device.has_ethernet() && device.index != 1).map(|d| d.name.as_str()).collect();
    format!("name devices of this host: {}", names.join(", "))
}
