//! The kernel's list of links (rtnetlink(7)), read without trust in its lengths.

use std::{io, os::fd::AsRawFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use super::Device;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
/// `NLM_F_REQUEST | NLM_F_DUMP`
const DUMP: u16 = 0x301;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_XDP: u16 = 43;
/// `IFLA_XDP_PROG_ID`, `IFLA_XDP_DRV_PROG_ID`, `IFLA_XDP_SKB_PROG_ID`
const XDP_PROGRAMS: std::ops::RangeInclusive<u16> = 4..=6;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
/// Bits of an attribute's type that are flags.
const NESTED_FLAGS: u16 = 0xc000;
const IFF_UP: u32 = 1;
/// `struct nlmsghdr` and `struct ifinfomsg`.
const HEADER: usize = 16;
const INFO: usize = 16;
/// Larger than the messages that the kernel makes of a dump.
const BUFFER: usize = 64 * 1024;

pub(super) fn links() -> io::Result<Vec<Device>> {
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    send(fd.as_raw_fd(), &request(), MsgFlags::empty())?;
    let (mut devices, mut buffer) = (Vec::new(), vec![0; BUFFER]);
    loop {
        let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        for (kind, body) in messages(&buffer[..length]) {
            match kind {
                RTM_NEWLINK => devices.extend(device(body)),
                NLMSG_DONE => return Ok(devices),
                NLMSG_ERROR => return Err(error(body)),
                _ => {}
            }
        }
    }
}

fn request() -> [u8; HEADER + INFO] {
    let mut request = [0; HEADER + INFO];
    request[..4].copy_from_slice(&((HEADER + INFO) as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&RTM_GETLINK.to_ne_bytes());
    request[6..8].copy_from_slice(&DUMP.to_ne_bytes());
    request
}

fn error(body: &[u8]) -> io::Error {
    let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    io::Error::from_raw_os_error(code.saturating_neg())
}

/// Types and bodies of the messages in a datagram.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let message = bytes.get(..length).filter(|message| message.len() >= HEADER)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([message[4], message[5]]), &message[HEADER..]))
    })
}

/// Types and values of netlink attributes.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & !NESTED_FLAGS, value))
    })
}

fn device(body: &[u8]) -> Option<Device> {
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
    fn a_cut_message_ends_the_list_and_nothing_else() {
        let mut message = vec![0; HEADER + INFO];
        message[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
        for (kind, value) in [(IFLA_IFNAME, &b"eth0\0"[..]), (IFLA_LINKINFO, b"\x09\0\x01\0bond\0")] {
            message.extend(u16::to_ne_bytes(4 + value.len() as u16));
            message.extend(kind.to_ne_bytes());
            message.extend(value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        let length = message.len() as u32;
        message[..4].copy_from_slice(&length.to_ne_bytes());
        let whole: Vec<_> = messages(&message).filter_map(|(_, body)| device(body)).collect();
        assert_eq!((whole[0].name.as_str(), whole[0].kind.as_deref()), ("eth0", Some("bond")));
        for end in 0..message.len() {
            assert_eq!(messages(&message[..end]).count(), 0);
            attributes(&message[HEADER + INFO..end.max(HEADER + INFO)]).for_each(drop);
        }
    }
}
