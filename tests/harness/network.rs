//! The network of the lab and the tests: client, stranger and host on one switch, each in its own namespace with one
//! device `eth0`. Addresses are of RFC 5737 and RFC 3849 and exist inside only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::netns::NetNs;

/// Address family of a test that runs for both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// As people write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// One of the three who have an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Member {
    /// The protected host.
    Host,
    /// Who holds a token.
    Client,
    /// Who does not.
    Stranger,
}

impl Member {
    /// Its address.
    #[must_use]
    pub const fn address(self, family: Family) -> IpAddr {
        let (v4, v6) = match self {
            Self::Host => (1, 0x1),
            Self::Client => (10, 0x10),
            Self::Stranger => (66, 0x66),
        };
        match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, v4)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, v6)),
        }
    }
}

/// The four namespaces; all go when this is dropped.
#[derive(Debug)]
pub struct Network {
    /// The protected host.
    pub host: NetNs,
    /// Who holds a token.
    pub client: NetNs,
    /// Who does not.
    pub stranger: NetNs,
    /// What joins them; its ports are called like them.
    pub switch: NetNs,
}

impl Network {
    /// Builds it; namespaces are called `PREFIX-host` and so on.
    ///
    /// # Errors
    /// If `ip` fails. What was built by then is removed.
    pub fn create(prefix: &str) -> Result<Self> {
        let switch = NetNs::create(&format!("{prefix}-switch"))?;
        switch.ip("link add name br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set br0 up")?;
        let host = plug(&switch, prefix, "host", Member::Host)?;
        let client = plug(&switch, prefix, "client", Member::Client)?;
        let stranger = plug(&switch, prefix, "stranger", Member::Stranger)?;
        Ok(Self { host, client, stranger, switch })
    }

    /// Gives every device of the network the same longest packet.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        for member in [&self.host, &self.client, &self.stranger] {
            member.ip(&format!("link set eth0 mtu {mtu}"))?;
        }
        let ports: Vec<_> =
            ["host", "client", "stranger", "br0"].map(|name| format!("link set {name} mtu {mtu}")).into();
        self.switch.ip(&ports.join("\n"))
    }

    /// The namespace of one of the three.
    #[must_use]
    pub const fn of(&self, member: Member) -> &NetNs {
        match member {
            Member::Host => &self.host,
            Member::Client => &self.client,
            Member::Stranger => &self.stranger,
        }
    }
}

fn plug(switch: &NetNs, prefix: &str, name: &str, member: Member) -> Result<NetNs> {
    let ns = NetNs::create(&format!("{prefix}-{name}"))?;
    switch.ip(&format!(
        "link add name {name} type veth peer name eth0 netns {}\n\
         link set {name} master br0\n\
         link set {name} up",
        ns.name()
    ))?;
    ns.ip(&format!(
        "link set eth0 up\naddr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad",
        member.address(Family::V4),
        member.address(Family::V6)
    ))?;
    Ok(ns)
}
