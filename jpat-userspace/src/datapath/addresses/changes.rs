//! That addresses change.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::sys::socket::{MsgFlags, NetlinkAddr, SockFlag, bind, recv, setsockopt, sockopt};

use super::{
    super::{
        error::DataPathError,
        netlink::{self, messages},
    },
    routes::{self, RTM_DELROUTE, RTM_NEWROUTE},
};

/// `RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE`
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
/// Room for what comes while the loop is busy; a router's daemon changes routes by the thousand.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Datagrams taken before others get their turn.
const BATCH: usize = 4096;

/// A socket that becomes readable whenever an address or a route comes or goes.
#[derive(Debug)]
pub struct Changes(OwnedFd);

/// What was told since the last time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// Something may have changed that [`super::local`] reads, or nobody knows: messages were lost.
    pub is_change: bool,
    /// Nothing is left to take.
    pub is_all: bool,
}

impl Changes {
    /// Subscribes to rtnetlink.
    ///
    /// # Errors
    /// [`DataPathError::Addresses`].
    pub fn subscribe() -> Result<Self, DataPathError> {
        let open = || {
            let fd = netlink::open(SockFlag::SOCK_NONBLOCK)?;
            // Without CAP_NET_ADMIN rmem_max is the limit.
            setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER)
                .or_else(|_not_permitted| setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER))?;
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
            Ok(Self(fd))
        };
        open().map_err(|error: nix::Error| DataPathError::Addresses(error.into()))
    }

    /// Takes what was told. Every error but `EAGAIN` stands for lost messages (`ENOBUFS`), and others come after it.
    #[must_use]
    pub fn drain(&self) -> Told {
        drain(|buffer| recv(self.0.as_raw_fd(), buffer, MsgFlags::empty()))
    }
}

impl AsRawFd for Changes {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn drain(mut receive: impl FnMut(&mut [u8]) -> nix::Result<usize>) -> Told {
    let (mut buffer, mut is_change) = ([0; 8192], false);
    for _ in 0..BATCH {
        match receive(&mut buffer) {
            Ok(length) => is_change |= concerns_addresses(&buffer[..length]),
            Err(nix::Error::EAGAIN) => return Told { is_change, is_all: true },
            Err(_lost) => is_change = true,
        }
    }
    Told { is_change, is_all: false }
}

/// A datagram that cannot be read does.
fn concerns_addresses(datagram: &[u8]) -> bool {
    let mut messages = messages(datagram).peekable();
    messages.peek().is_none()
        || messages.any(|message| match message.kind {
            RTM_NEWADDR | RTM_DELADDR => true,
            RTM_NEWROUTE | RTM_DELROUTE => routes::ends_here(message.body),
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use nix::errno::Errno::{EAGAIN, EINTR, ENOBUFS};

    use super::*;

    fn told(datagrams: Vec<nix::Result<Vec<u8>>>) -> (Told, usize) {
        let mut datagrams = VecDeque::from(datagrams);
        let told = drain(|buffer| {
            let datagram = datagrams.pop_front().unwrap_or(Err(EAGAIN))?;
            buffer[..datagram.len()].copy_from_slice(&datagram);
            Ok(datagram.len())
        });
        (told, datagrams.len())
    }

    fn route(message: u16, kind: u8) -> Vec<u8> {
        netlink::message(message, &[2, 32, 0, 0, 254, 2, 0, kind, 0, 0, 0, 0], &[])
    }

    fn address(message: u16) -> Vec<u8> {
        netlink::message(message, &[2, 24, 0, 0, 1, 0, 0, 0], &[])
    }

    #[test]
    fn p2_lost_messages_are_a_change_and_what_follows_is_taken_too() {
        for error in [ENOBUFS, EINTR] {
            let (told, left) = told(vec![Err(error), Ok(route(RTM_NEWROUTE, 1)), Err(error), Ok(address(RTM_NEWADDR))]);
            assert_eq!((told, left), (Told { is_change: true, is_all: true }, 0), "{error}");
        }
    }

    #[test]
    fn a_routers_routes_are_no_change() {
        let routes = (0..1000).map(|_| Ok(route(RTM_NEWROUTE, 1))).collect();
        assert_eq!(told(routes).0, Told { is_change: false, is_all: true });
        let endless = (0..BATCH + 1).map(|_| Ok(route(RTM_DELROUTE, 1))).collect();
        assert_eq!(told(endless), (Told { is_change: false, is_all: false }, 1));
    }

    #[test]
    fn p2_addresses_and_routes_that_end_here_are_a_change() {
        let kinds =
            [RTM_NEWROUTE, RTM_DELROUTE].into_iter().flat_map(|message| [2, 3, 4].map(|kind| route(message, kind)));
        let addresses = [RTM_NEWADDR, RTM_DELADDR].map(address);
        for datagram in kinds.chain(addresses).chain([vec![], vec![0; 20]]) {
            assert!(told(vec![Ok(datagram.clone())]).0.is_change, "{datagram:?}");
        }
    }
}
