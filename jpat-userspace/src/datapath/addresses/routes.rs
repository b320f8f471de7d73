//! Routes whose packets end at this host.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use nix::libc::{AF_INET, AF_INET6};

use super::super::netlink::{self, Family, Message, attributes};

pub(super) const RTM_NEWROUTE: u16 = 24;
pub(super) const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
/// `RTN_LOCAL`, `RTN_BROADCAST`, `RTN_ANYCAST`.
const LOCAL_TYPES: [u8; 3] = [2, 3, 4];
const RTA_DST: u16 = 1;
const RTA_TABLE: u16 = 15;
/// `RT_TABLE_DEFAULT`, `RT_TABLE_MAIN`, `RT_TABLE_LOCAL`: what every packet is looked up in.
const COMMON_TABLES: std::ops::RangeInclusive<u32> = 253..=255;
/// `struct rtmsg`.
const ROUTE: usize = 12;

/// The destinations of all routes of these types, in every table: a VRF has its own.
pub(super) fn local() -> io::Result<Vec<IpNet>> {
    let mut destinations = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let mut request = [0; ROUTE];
        request[0] = family as u8;
        destinations.extend(netlink::dump(Family::Route, RTM_GETROUTE, &request, destination)?);
    }
    Ok(destinations)
}

/// Whether a message about a route is about one that ends here.
pub(super) fn ends_here(body: &[u8]) -> bool {
    body.get(7).is_some_and(|kind| LOCAL_TYPES.contains(kind))
}

fn destination(message: Message<'_>) -> Option<IpNet> {
    let body = Some(message.body).filter(|body| message.kind == RTM_NEWROUTE && ends_here(body))?;
    let [family, bits, _, _, table, ..] = *body.first_chunk::<ROUTE>()?;
    let (mut address, mut table) = (unspecified(family)?, u32::from(table));
    for (kind, value) in attributes(&body[ROUTE..]) {
        match kind {
            RTA_DST => address = parse(value)?,
            RTA_TABLE => table = value.first_chunk().map_or(table, |table| u32::from_ne_bytes(*table)),
            _ => {}
        }
    }
    // "local default" in a table of its own is how a transparent proxy gets marked packets of others.
    (bits > 0 || COMMON_TABLES.contains(&table)).then(|| IpNet::new(address, bits).ok()).flatten()
}

fn unspecified(family: u8) -> Option<IpAddr> {
    match i32::from(family) {
        AF_INET => Some(Ipv4Addr::UNSPECIFIED.into()),
        AF_INET6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    }
}

fn parse(value: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(value).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(value).ok().map(IpAddr::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNICAST: u8 = 1;
    const LOCAL: u8 = 2;
    const MULTICAST: u8 = 5;

    fn route(family: i32, bits: u8, kind: u8, table: u32, address: Option<&str>) -> Option<String> {
        let head = [family as u8, bits, 0, 0, u8::try_from(table).unwrap_or(252), 2, 0, kind, 0, 0, 0, 0];
        let octets = address.map(|address| match address.parse().unwrap() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        });
        let mut attributes = vec![(RTA_TABLE, table.to_ne_bytes().to_vec())];
        attributes.extend(octets.map(|octets| (RTA_DST, octets)));
        let attributes: Vec<_> = attributes.iter().map(|(kind, value)| (*kind, value.as_slice())).collect();
        let bytes = netlink::message(RTM_NEWROUTE, &head, &attributes);
        netlink::messages(&bytes).find_map(destination).map(|net| net.to_string())
    }

    #[test]
    fn p2_what_ends_here_counts_with_its_prefix() {
        for (family, bits, kind, address, net) in [
            (AF_INET, 32, LOCAL, "192.0.2.1", "192.0.2.1/32"),
            (AF_INET, 32, 3, "192.0.2.255", "192.0.2.255/32"),
            (AF_INET, 24, LOCAL, "198.51.100.0", "198.51.100.0/24"),
            (AF_INET6, 128, 4, "2001:db8::", "2001:db8::/128"),
            (AF_INET6, 48, LOCAL, "2001:db8:1::", "2001:db8:1::/48"),
        ] {
            for table in [255, 1000] {
                assert_eq!(route(family, bits, kind, table, Some(address)).as_deref(), Some(net), "{table}");
            }
        }
    }

    #[test]
    fn p2_other_routes_do_not_count() {
        for kind in [0, UNICAST, MULTICAST, 6, 7, 8, 9, 10, 11, 255] {
            assert_eq!(route(AF_INET, 0, kind, 254, None), None, "default, type {kind}");
            assert_eq!(route(AF_INET6, 64, kind, 255, Some("2001:db8::")), None, "type {kind}");
        }
        assert_eq!(route(128, 32, LOCAL, 255, None), None, "a family that is not IP");
        assert_eq!(route(AF_INET, 33, LOCAL, 255, Some("192.0.2.1")), None, "a prefix of 33 bits");
    }

    #[test]
    fn p2_a_local_default_counts_where_every_packet_is_looked_up() {
        assert_eq!(route(AF_INET, 0, LOCAL, 255, None).as_deref(), Some("0.0.0.0/0"));
        assert_eq!(route(AF_INET6, 0, LOCAL, 254, None).as_deref(), Some("::/0"));
        assert_eq!(route(AF_INET, 0, LOCAL, 100, None), None);
        assert_eq!(route(AF_INET6, 0, LOCAL, 2004, None), None);
    }

    #[test]
    fn cut_messages_are_no_routes() {
        let head = [AF_INET as u8, 32, 0, 0, 255, 2, 254, LOCAL, 0, 0, 0, 0];
        let whole = netlink::message(RTM_NEWROUTE, &head, &[(RTA_DST, &[192, 0, 2, 1])]);
        for end in 0..head.len() {
            let body = &whole[netlink::HEADER..netlink::HEADER + end];
            let bytes = netlink::message(RTM_NEWROUTE, body, &[]);
            assert!(netlink::messages(&bytes).find_map(destination).is_none(), "{end}");
        }
    }
}
