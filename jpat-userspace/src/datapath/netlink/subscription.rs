//! That something changed, told by the kernel.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, recv, setsockopt, sockopt};
use rustix::net::SocketFlags;

use super::{Family, Message, messages, open};

/// Room for what comes while the loop is busy; a router's daemon changes routes by the thousand.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Datagrams taken before others get their turn.
const BATCH: usize = 4096;

/// A socket of the route family that becomes readable when one of its groups is told something.
#[derive(Debug)]
pub(in crate::datapath) struct Subscription(OwnedFd);

/// What was told since the last time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// Something may have changed that one asked for, or nobody knows: messages were lost.
    pub is_change: bool,
    /// Nothing is left to take.
    pub is_all: bool,
}

impl Subscription {
    /// Subscribes to groups (`RTMGRP_*`).
    pub(in crate::datapath) fn open(groups: u32) -> io::Result<Self> {
        let fd = open(Family::Route, SocketFlags::NONBLOCK)?;
        // Without CAP_NET_ADMIN rmem_max is the limit.
        setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER)
            .or_else(|_not_permitted| setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self(fd))
    }

    /// Takes what was told. Every error but `EAGAIN` stands for lost messages (`ENOBUFS`), and others come after it.
    pub(in crate::datapath) fn drain(&self, concerns: impl Fn(Message<'_>) -> bool) -> Told {
        drain(|buffer| recv(self.0.as_raw_fd(), buffer, MsgFlags::empty()), concerns)
    }
}

impl AsRawFd for Subscription {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A datagram that cannot be read is a change.
pub(in crate::datapath) fn drain(
    mut receive: impl FnMut(&mut [u8]) -> nix::Result<usize>,
    concerns: impl Fn(Message<'_>) -> bool,
) -> Told {
    let (mut buffer, mut is_change) = ([0; 8192], false);
    for _ in 0..BATCH {
        match receive(&mut buffer) {
            Ok(length) => {
                let mut messages = messages(&buffer[..length]).peekable();
                is_change |= messages.peek().is_none() || messages.any(&concerns);
            }
            Err(nix::Error::EAGAIN) => return Told { is_change, is_all: true },
            Err(_lost) => is_change = true,
        }
    }
    Told { is_change, is_all: false }
}

#[cfg(test)]
pub(in crate::datapath) mod tests {
    use std::collections::VecDeque;

    use nix::errno::Errno::{EAGAIN, EINTR, ENOBUFS};

    use super::{super::message, *};

    /// What is told of these datagrams, and how many were left.
    pub(in crate::datapath) fn told(
        datagrams: Vec<nix::Result<Vec<u8>>>,
        concerns: impl Fn(Message<'_>) -> bool,
    ) -> (Told, usize) {
        let mut datagrams = VecDeque::from(datagrams);
        let receive = |buffer: &mut [u8]| {
            let datagram = datagrams.pop_front().unwrap_or(Err(EAGAIN))?;
            buffer[..datagram.len()].copy_from_slice(&datagram);
            Ok(datagram.len())
        };
        (drain(receive, concerns), datagrams.len())
    }

    #[test]
    fn p2_lost_messages_are_a_change_and_what_follows_is_taken_too() {
        for error in [ENOBUFS, EINTR] {
            let datagrams = vec![Err(error), Ok(message(24, &[], &[])), Err(error), Ok(message(20, &[], &[]))];
            let (told, left) = told(datagrams, |_| false);
            assert_eq!((told, left), (Told { is_change: true, is_all: true }, 0), "{error}");
        }
    }

    #[test]
    fn p2_what_cannot_be_read_is_a_change() {
        for datagram in [vec![], vec![0; 20]] {
            assert!(told(vec![Ok(datagram.clone())], |_| false).0.is_change, "{datagram:?}");
        }
    }

    #[test]
    fn others_get_their_turn() {
        let endless = (0..BATCH + 1).map(|_| Ok(message(25, &[], &[]))).collect();
        assert_eq!(told(endless, |_| false), (Told { is_change: false, is_all: false }, 1));
    }
}
