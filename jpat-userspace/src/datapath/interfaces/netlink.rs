//! The kernel's list of links.

use std::io;

use super::{
    super::netlink::{self, Message, attributes},
    Device,
};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_XDP: u16 = 43;
/// `IFLA_XDP_PROG_ID`, `IFLA_XDP_DRV_PROG_ID`, `IFLA_XDP_SKB_PROG_ID`
const XDP_PROGRAMS: std::ops::RangeInclusive<u16> = 4..=6;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFF_UP: u32 = 1;
/// `struct ifinfomsg`.
const INFO: usize = 16;

pub(super) fn links() -> io::Result<Vec<Device>> {
    netlink::dump(RTM_GETLINK, &[0; INFO], device)
}

fn device(message: Message<'_>) -> Option<Device> {
    let body = (message.kind == RTM_NEWLINK).then_some(message.body)?;
    let [_, _, h0, h1, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *body.first_chunk::<INFO>()?;
    let mut device = Device {
        name: String::new(),
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        hardware: u16::from_ne_bytes([h0, h1]),
        up: u32::from_ne_bytes([f0, f1, f2, f3]) & IFF_UP != 0,
        kind: None,
        port_of: None,
        xdp_programs: Vec::new(),
    };
    for (kind, value) in attributes(body.get(INFO..)?) {
        match kind {
            IFLA_IFNAME => device.name = text(value),
            IFLA_XDP => {
                let ids = attributes(value).filter(|(kind, _)| XDP_PROGRAMS.contains(kind));
                device.xdp_programs.extend(ids.filter_map(|(_, id)| Some(u32::from_ne_bytes(*id.first_chunk()?))));
            }
            IFLA_LINKINFO => {
                for (kind, value) in attributes(value) {
                    match kind {
                        IFLA_INFO_KIND => device.kind = Some(text(value)),
                        IFLA_INFO_SLAVE_KIND => device.port_of = Some(text(value)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    (!device.name.is_empty()).then_some(device)
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_a_name_and_perhaps_a_kind() {
        let link = netlink::message(
            RTM_NEWLINK,
            &[0; INFO],
            &[(IFLA_IFNAME, b"eth0\0"), (IFLA_LINKINFO, b"\x09\0\x01\0bond\0")],
        );
        let devices: Vec<_> = netlink::messages(&link).filter_map(device).collect();
        assert_eq!((devices[0].name.as_str(), devices[0].kind.as_deref()), ("eth0", Some("bond")));
        let nameless = netlink::message(RTM_NEWLINK, &[0; INFO], &[]);
        assert_eq!(netlink::messages(&nameless).filter_map(device).count(), 0);
    }
}
