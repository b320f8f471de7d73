//! netlink(7): dumps and messages, read without trust in their lengths.

pub(super) mod subscription;

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{MsgFlags, recv, send};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`
const DUMP: u16 = 0x301;
const NLM_F_DUMP_INTR: u16 = 0x10;
/// `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
/// Larger than the messages that the kernel makes of a dump.
const BUFFER: usize = 64 * 1024;
/// Dumps of a list that keeps changing under them.
const ATTEMPTS: usize = 8;
/// Bits of an attribute's type that are flags.
const NESTED_FLAGS: u16 = 0xc000;

/// One message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Message<'a> {
    /// `RTM_*` or `NLMSG_*`.
    pub(super) kind: u16,
    /// `NLM_F_*`.
    flags: u16,
    /// What follows the header.
    pub(super) body: &'a [u8],
}

/// Who is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Family {
    /// Links, addresses, routes.
    Route,
    /// IPsec.
    Xfrm,
    /// Sockets.
    SockDiag,
}

/// A socket of that family.
pub(super) fn open(family: Family, flags: SocketFlags) -> io::Result<OwnedFd> {
    let protocol = match family {
        Family::Route => None,
        Family::Xfrm => Some(rustix::net::netlink::XFRM),
        Family::SockDiag => Some(rustix::net::netlink::SOCK_DIAG),
    };
    let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC | flags, protocol)?;
    Ok(fd)
}

/// All items of a list that `item` takes. `kind` asks for it, followed by `body`.
///
/// # Errors
/// What the kernel says; `EINTR` where the list did not hold still.
pub(super) fn dump<T>(
    family: Family,
    kind: u16,
    body: &[u8],
    mut item: impl FnMut(Message<'_>) -> Option<T>,
) -> io::Result<Vec<T>> {
    for _ in 0..ATTEMPTS {
        let fd = open(family, SocketFlags::empty())?;
        send(fd.as_raw_fd(), &request(kind, body), MsgFlags::empty())?;
        let (mut dump, mut buffer) = (Dump::default(), vec![0; BUFFER]);
        while !dump.is_done {
            let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            dump.read(&buffer[..length], &mut item)?;
        }
        if !dump.is_interrupted {
            return Ok(dump.items);
        }
    }
    Err(io::ErrorKind::Interrupted.into())
}

struct Dump<T> {
    items: Vec<T>,
    is_interrupted: bool,
    is_done: bool,
}

impl<T> Default for Dump<T> {
    fn default() -> Self {
        Self { items: Vec::new(), is_interrupted: false, is_done: false }
    }
}

impl<T> Dump<T> {
    fn read(&mut self, datagram: &[u8], item: &mut impl FnMut(Message<'_>) -> Option<T>) -> io::Result<()> {
        for message in messages(datagram) {
            self.is_interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
            match message.kind {
                NLMSG_ERROR => return Err(error(message.body)),
                NLMSG_DONE => {
                    // It carries the error of a dump that ended half way.
                    let error = error(message.body);
                    self.is_done = true;
                    return if error.raw_os_error() == Some(0) { Ok(()) } else { Err(error) };
                }
                _ => self.items.extend(item(message)),
            }
        }
        Ok(())
    }
}

fn request(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut request = vec![0; HEADER];
    request.extend(body);
    let length = request.len() as u32;
    request[..4].copy_from_slice(&length.to_ne_bytes());
    request[4..6].copy_from_slice(&kind.to_ne_bytes());
    request[6..8].copy_from_slice(&DUMP.to_ne_bytes());
    request
}

fn error(body: &[u8]) -> io::Error {
    let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    io::Error::from_raw_os_error(code.saturating_neg())
}

/// The messages in a datagram; a cut one ends them.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let message = bytes.get(..length).filter(|message| message.len() >= HEADER)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([message[4], message[5]]),
            flags: u16::from_ne_bytes([message[6], message[7]]),
            body: &message[HEADER..],
        })
    })
}

/// Types and values of netlink attributes.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & !NESTED_FLAGS, value))
    })
}

/// A message as the kernel would send it: `head` is the family's own header.
#[cfg(test)]
pub(super) fn message(kind: u16, head: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut message = request(kind, head);
    message[6..8].fill(0);
    for (kind, value) in attributes {
        message.extend(u16::to_ne_bytes(4 + value.len() as u16));
        message.extend(kind.to_ne_bytes());
        message.extend(*value);
        message.resize(message.len().next_multiple_of(4), 0);
    }
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(datagram: &[u8]) -> io::Result<Dump<u16>> {
        let mut dump = Dump::default();
        dump.read(datagram, &mut |message| Some(message.kind))?;
        Ok(dump)
    }

    #[test]
    fn a_dump_goes_on_until_it_says_that_it_is_done() {
        let item = message(24, &[0; 12], &[]);
        let dump = read(&[item.clone(), item.clone()].concat()).unwrap();
        assert_eq!((dump.items.len(), dump.is_done, dump.is_interrupted), (2, false, false));
        let done = message(NLMSG_DONE, &0i32.to_ne_bytes(), &[]);
        let dump = read(&[item, done].concat()).unwrap();
        assert_eq!((dump.items.len(), dump.is_done), (1, true));
    }

    #[test]
    fn a_dump_that_failed_half_way_is_an_error() {
        let item = message(24, &[0; 12], &[]);
        for kind in [NLMSG_DONE, NLMSG_ERROR] {
            let end = message(kind, &(-105i32).to_ne_bytes(), &[]);
            let error = read(&[item.clone(), end].concat()).err().unwrap();
            assert_eq!(error.raw_os_error(), Some(nix::Error::ENOBUFS as i32));
        }
    }

    #[test]
    fn a_dump_that_changed_meanwhile_is_told() {
        let mut item = message(24, &[0; 12], &[]);
        item[6..8].copy_from_slice(&NLM_F_DUMP_INTR.to_ne_bytes());
        assert!(read(&item).unwrap().is_interrupted);
    }

    #[test]
    fn a_cut_message_ends_the_list_and_nothing_else() {
        let item = message(16, &[0; 16], &[(3, b"eth0\0"), (18, b"\x09\0\x01\0bond\0")]);
        assert_eq!(attributes(&item[HEADER + 16..]).map(|(kind, _)| kind).collect::<Vec<_>>(), [3, 18]);
        for end in 0..item.len() {
            assert_eq!(messages(&item[..end]).count(), 0);
            attributes(&item[HEADER + 16..end.max(HEADER + 16)]).for_each(drop);
        }
    }
}
