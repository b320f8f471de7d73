//! The kernel's list of links.

use std::io;

use super::{
    super::netlink::{self, Family, Message, attributes},
    Device,
};

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
/// `RTEXT_FILTER_SKIP_STATS`
const WITHOUT_STATISTICS: u32 = 8;
/// `IFLA_XDP_PROG_ID`, `IFLA_XDP_DRV_PROG_ID`, `IFLA_XDP_SKB_PROG_ID`
const XDP_PROGRAMS: std::ops::RangeInclusive<u16> = 4..=6;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_TUN_TYPE: u16 = 3;
const IFF_TUN: u8 = 1;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_GENEVE_PORT: u16 = 5;
/// `IFLA_GRE_ENCAP_TYPE`, `IFLA_IPTUN_ENCAP_TYPE`
const GRE_WRAPPING: u16 = 14;
const IP_WRAPPING: u16 = 15;
const IFF_UP: u32 = 1;
/// `struct ifinfomsg`.
const INFO: usize = 16;

pub(super) fn links() -> io::Result<Vec<Device>> {
    let mut request = vec![0; INFO];
    request.extend([8u16.to_ne_bytes(), IFLA_EXT_MASK.to_ne_bytes()].concat());
    request.extend(WITHOUT_STATISTICS.to_ne_bytes());
    netlink::dump(Family::Route, RTM_GETLINK, &request, device)
}

fn device(message: Message<'_>) -> Option<Device> {
    let body = (message.kind == RTM_NEWLINK).then_some(message.body)?;
    let [_, _, h0, h1, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *body.first_chunk::<INFO>()?;
    let mut device = Device {
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        hardware: u16::from_ne_bytes([h0, h1]),
        up: u32::from_ne_bytes([f0, f1, f2, f3]) & IFF_UP != 0,
        ..Device::default()
    };
    let mut is_elsewhere = false;
    for (kind, value) in attributes(body.get(INFO..)?) {
        match kind {
            IFLA_IFNAME => device.name = text(value),
            IFLA_MTU => device.mtu = number(value).unwrap_or(0),
            IFLA_LINK => device.lower = number(value).filter(|lower| *lower != device.index && *lower != 0),
            IFLA_LINK_NETNSID => is_elsewhere = true,
            IFLA_MASTER => device.master = number(value),
            IFLA_XDP => {
                let ids = attributes(value).filter(|(kind, _)| XDP_PROGRAMS.contains(kind));
                // The first says which, the others in which mode.
                device.xdp_programs.extend(ids.filter_map(|(_, id)| number(id)).filter(|id| *id != 0));
                device.xdp_programs.sort_unstable();
                device.xdp_programs.dedup();
            }
            IFLA_LINKINFO => kind_of(value, &mut device),
            _ => {}
        }
    }
    device.lower = device.lower.filter(|_| !is_elsewhere);
    (!device.name.is_empty()).then_some(device)
}

fn kind_of(value: &[u8], device: &mut Device) {
    let mut data: &[u8] = &[];
    for (kind, value) in attributes(value) {
        match kind {
            IFLA_INFO_KIND => device.kind = Some(text(value)),
            IFLA_INFO_SLAVE_KIND => device.port_of = Some(text(value)),
            IFLA_INFO_DATA => data = value,
            _ => {}
        }
    }
    let is_set = |value: &[u8]| value.iter().any(|byte| *byte != 0);
    for (attribute, value) in attributes(data) {
        match (device.kind.as_deref(), attribute) {
            (Some("tun"), IFLA_TUN_TYPE) => device.is_tun = value.first() == Some(&IFF_TUN),
            (Some("vxlan"), IFLA_VXLAN_PORT) | (Some("geneve"), IFLA_GENEVE_PORT) => {
                device.port = value.first_chunk().map(|port| u16::from_be_bytes(*port));
            }
            (Some("ipip" | "sit" | "ip6tnl"), IP_WRAPPING) => device.is_wrapped = is_set(value),
            (Some("gre" | "gretap" | "ip6gre" | "ip6gretap"), GRE_WRAPPING) => device.is_wrapped = is_set(value),
            _ => {}
        }
    }
}

fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|number| u32::from_ne_bytes(*number))
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        netlink::message(0, &[], attributes)[netlink::HEADER..].to_vec()
    }

    fn link(attributes: &[(u16, &[u8])]) -> Option<Device> {
        let named: Vec<_> =
            [(IFLA_IFNAME, b"eth0\0".as_slice())].into_iter().chain(attributes.iter().copied()).collect();
        let link = netlink::message(RTM_NEWLINK, &[0; INFO], &named);
        netlink::messages(&link).find_map(device)
    }

    fn link_of(kind: &[u8], data: &[(u16, &[u8])]) -> Device {
        let info = nested(&[(IFLA_INFO_KIND, kind), (IFLA_INFO_DATA, &nested(data))]);
        link(&[(IFLA_LINKINFO, &info)]).unwrap()
    }

    #[test]
    fn a_link_has_a_name_and_perhaps_a_kind() {
        let found = link(&[(IFLA_LINKINFO, b"\x09\0\x01\0bond\0")]).unwrap();
        assert_eq!((found.name.as_str(), found.kind.as_deref()), ("eth0", Some("bond")));
        let nameless = netlink::message(RTM_NEWLINK, &[0; INFO], &[]);
        assert_eq!(netlink::messages(&nameless).filter_map(device).count(), 0);
    }

    #[test]
    fn a_link_tells_what_it_lies_on_unless_that_is_elsewhere() {
        let (lower, master) = (7u32.to_ne_bytes(), 9u32.to_ne_bytes());
        let found = link(&[(IFLA_LINK, &lower), (IFLA_MASTER, &master), (IFLA_MTU, &1500u32.to_ne_bytes())]).unwrap();
        assert_eq!((found.lower, found.master, found.mtu), (Some(7), Some(9), 1500));
        let found = link(&[(IFLA_LINK_NETNSID, &[0; 4]), (IFLA_LINK, &lower)]).unwrap();
        assert_eq!(found.lower, None);
    }

    #[test]
    fn tunnels_tell_how_they_are_wrapped() {
        assert_eq!(link_of(b"vxlan\0", &[(IFLA_VXLAN_PORT, &4789u16.to_be_bytes())]).port, Some(4789));
        assert_eq!(link_of(b"geneve\0", &[(IFLA_GENEVE_PORT, &6081u16.to_be_bytes())]).port, Some(6081));
        assert!(link_of(b"ipip\0", &[(IP_WRAPPING, &1u16.to_ne_bytes())]).is_wrapped);
        assert!(!link_of(b"gre\0", &[(GRE_WRAPPING, &[0, 0])]).is_wrapped);
        assert!(link_of(b"tun\0", &[(IFLA_TUN_TYPE, &[IFF_TUN])]).is_tun);
        assert!(!link_of(b"tun\0", &[(IFLA_TUN_TYPE, &[2])]).is_tun);
    }
}
