//! `listen.interfaces` against the devices there are.

use std::collections::BTreeMap;

use super::{Findings, HostFacts};
use crate::{
    config::{Config, InterfacePattern},
    datapath::{
        exposure,
        interfaces::{self, Device, Resolution},
    },
};

const KEY: &str = "listen.interfaces";
/// VLAN tags that the program looks below.
const MAX_TAGS: usize = 2;

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
            unmatched(config, pattern, &format!("{KEY}[{at}]"), &found, devices, findings);
        }
    }
    unreadable(config, &found, findings);
    if found.targets.is_empty() {
        if findings.errors.is_empty() {
            findings.errors.push(config.source.error(KEY, "no device: nothing would be protected", here(devices)));
        }
        return;
    }
    let attached = found.targets.iter().map(|target| target.ifindex).collect();
    let exposure = exposure::of(devices, &attached, facts.ipsec, config.listen.drop_tunnels);
    for exposed in exposure.exposed {
        findings.warnings.push(config.source.warning(KEY, exposed.what(), exposed.remedy));
    }
    for device in devices.iter().filter(|device| found.is_target(device)) {
        harmed(config, device, devices, facts, findings);
    }
}

/// A device that is not there now may come: it is attached when it does. One must be there, or the name is a mistake.
fn unmatched(
    config: &Config,
    pattern: &InterfacePattern,
    key: &str,
    found: &Resolution,
    devices: &[Device],
    findings: &mut Findings,
) {
    match pattern {
        InterfacePattern::Name(name) if found.targets.is_empty() => {
            findings.errors.push(config.source.error(key, format!("there is no device `{name}`"), here(devices)));
        }
        InterfacePattern::Name(name) => {
            let message = format!("there is no device `{name}`; when it appears it is attached to");
            findings.warnings.push(config.source.warning(key, message, here(devices)));
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

fn unreadable(config: &Config, found: &Resolution, findings: &mut Findings) {
    let names: BTreeMap<_, _> = config
        .listen
        .interfaces
        .iter()
        .enumerate()
        .filter_map(|(at, pattern)| match pattern {
            InterfacePattern::Name(name) => Some((name.as_str(), at)),
            InterfacePattern::Glob(_) | InterfacePattern::External => None,
        })
        .collect();
    for (name, why) in &found.unreadable {
        let message = format!("`{name}` cannot be protected: {why}");
        let remedy = "leave it out, and bind protected services to addresses that cannot be reached through it";
        match names.get(name.as_str()) {
            Some(at) => {
                findings.errors.push(config.source.error(&format!("{KEY}[{at}]"), message, remedy));
            }
            None => findings.warnings.push(config.source.warning(KEY, message, remedy)),
        }
    }
}

/// Encapsulations below IP that are in use on a listed device, whose frames the program drops.
fn harmed(config: &Config, device: &Device, devices: &[Device], facts: &HostFacts, findings: &mut Findings) {
    let above =
        |kind: &str| devices.iter().find(|up| up.kind.as_deref() == Some(kind) && up.lower == Some(device.index));
    let name = &device.name;
    let mut drop = |what: String, reason: &str, instead: String| {
        let message = format!("{what} runs over `{name}`, whose frames are dropped there as {reason}");
        findings.warnings.push(config.source.warning(KEY, message, instead));
    };
    if let Some(macsec) = above("macsec") {
        let instead = format!("list \"{}\" instead of \"{name}\"", macsec.name);
        drop(format!("MACsec (`{}`)", macsec.name), "l2_encapsulation", instead);
    }
    if let Some(mesh @ ("batadv" | "hsr")) = device.port_of.as_deref() {
        drop(mesh.to_owned(), "l2_encapsulation", format!("list the {mesh} device instead of \"{name}\""));
    }
    if facts.pppoe.contains(name) {
        let instead = format!("list the ppp device instead of \"{name}\"");
        drop("PPPoE".to_owned(), "l2_encapsulation", instead);
    }
    if facts.mpls.contains(name) {
        drop("MPLS".to_owned(), "l2_encapsulation", format!("leave \"{name}\" out if its labelled packets are needed"));
    }
    let vlan = devices.iter().find(|vlan| tags(vlan, device, devices).is_some_and(|tags| tags > MAX_TAGS));
    if let Some(vlan) = vlan {
        let instead = format!("list \"{}\" instead of \"{name}\"", vlan.name);
        drop(format!("`{}`, under more than two VLAN tags,", vlan.name), "too_many_tags", instead);
    }
}

/// How many VLAN devices lie between a device and the one at the bottom.
fn tags(vlan: &Device, bottom: &Device, devices: &[Device]) -> Option<usize> {
    let mut at = vlan;
    for tags in 0..8 {
        if at.index == bottom.index {
            return Some(tags);
        }
        let lower = at.lower.filter(|_| at.kind.as_deref() == Some("vlan"))?;
        at = devices.iter().find(|device| device.index == lower)?;
    }
    None
}

fn here(devices: &[Device]) -> String {
    let usable = devices.iter().filter(|device| device.link_layer().is_ok() && !device.is_loopback());
    let names: Vec<_> = usable.map(|device| device.name.as_str()).collect();
    format!("name devices of this host: {}", names.join(", "))
}
