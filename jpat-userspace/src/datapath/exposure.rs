//! Ways to a protected port that pass the program by.
//!
//! A packet is judged where a device that it came through is attached: the one that received it, or one above, which
//! is the bridge or bond that a port hands it to. Devices that only other devices of this namespace feed (VLANs,
//! macvlans) are as safe as those. What comes out of a tunnel was judged as a tunnel packet alone.

mod kind;

use std::{collections::BTreeSet, fmt};

pub use self::kind::Way;
use super::{interfaces::Device, ipsec::Ipsec};

/// What passes the program by, and what nobody can say that of.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Exposure {
    /// Reasons for an alarm, one for each way.
    pub exposed: Vec<Exposed>,
    /// Devices that are up and not judged, without an alarm: loopback, and those whose other end is on this host, which
    /// are its containers'. In the order of the kernel's list.
    pub not_judged: Vec<String>,
}

/// Devices through which protected ports can be reached unjudged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exposed {
    /// Which.
    pub way: Way,
    /// Their names; none for IPsec.
    pub devices: Vec<String>,
    /// What to do.
    pub remedy: String,
}

impl Exposed {
    /// Through what, and what that means.
    #[must_use]
    pub fn what(&self) -> String {
        if let Way::Ipsec(Ipsec { states, policies, .. }) = self.way {
            return format!(
                "IPsec is in use ({states} states, {policies} inbound policies): what it carries reaches protected ports \
                 unjudged"
            );
        }
        let (verb, pronoun) = if self.devices.len() == 1 { ("is", "it") } else { ("are", "them") };
        let names = self.devices.join(", ");
        if self.way == Way::SourceRouting {
            return format!(
                "IPv6 source routing is on (seg6_enabled or rpl_seg_enabled) on {names}: packets that it carries reach \
                 protected ports unjudged"
            );
        }
        format!(
            "{names} ({}) {verb} up and not protected: what comes through {pronoun} reaches protected ports unjudged",
            self.way
        )
    }
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; remedy: {}", self.what(), self.remedy)
    }
}

/// What passes the program by on a host with these devices, some of which are `attached`, by index.
#[must_use]
pub fn of(devices: &[Device], attached: &BTreeSet<u32>, ipsec: Option<Ipsec>, drops_tunnels: bool) -> Exposure {
    let mut exposure = Exposure::default();
    for device in devices.iter().filter(|device| device.up && !is_judged(device, devices, attached)) {
        match kind::way(device) {
            None if kind::is_fed_by_others(device) => {}
            None => exposure.not_judged.push(device.name.clone()),
            Some(way) if drops_tunnels && way.is_dropped() => {}
            Some(way) => {
                let remedy = kind::remedy(&way, device, devices, drops_tunnels);
                match exposure.exposed.iter_mut().find(|known| known.way == way && known.remedy == remedy) {
                    Some(known) => known.devices.push(device.name.clone()),
                    None => exposure.exposed.push(Exposed { way, devices: vec![device.name.clone()], remedy }),
                }
            }
        }
    }
    let ipsec = ipsec.filter(|ipsec| ipsec.is_used() && (!drops_tunnels || ipsec.hidden > 0));
    exposure.exposed.extend(ipsec.map(|ipsec| {
        let remedy = match drops_tunnels {
            false => "set listen.tunnels = \"drop\", or bind protected services to addresses that IPsec does not cover",
            true => {
                "let no peer use ESP in TCP or on UDP ports other than 4500, which listen.tunnels = \"drop\" does not know"
            }
        };
        Exposed { way: Way::Ipsec(ipsec), devices: Vec::new(), remedy: remedy.to_owned() }
    }));
    let routing = devices.iter().filter(|device| device.up && device.unpacks_source_routing && !drops_tunnels);
    let routing: Vec<_> = routing.map(|device| device.name.clone()).collect();
    if !routing.is_empty() {
        let remedy = "set listen.tunnels = \"drop\", or net.ipv6.conf.all.seg6_enabled and rpl_seg_enabled to 0";
        exposure.exposed.push(Exposed { way: Way::SourceRouting, devices: routing, remedy: remedy.to_owned() });
    }
    exposure
}

/// Whether it is attached, or what it is a port of, or what that is a port of.
fn is_judged(device: &Device, devices: &[Device], attached: &BTreeSet<u32>) -> bool {
    let mut at = Some(device);
    // The kernel allows eight levels (MAX_NEST_DEV).
    for _ in 0..8 {
        let Some(device) = at else { return false };
        if attached.contains(&device.index) {
            return true;
        }
        let hands_up = matches!(device.port_of.as_deref(), Some("bridge" | "bond" | "team"));
        let above = device.master.filter(|_| hands_up);
        at = above.and_then(|above| devices.iter().find(|device| device.index == above));
    }
    false
}

#[cfg(test)]
mod tests;
