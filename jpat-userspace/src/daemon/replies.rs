//! Where replies leave from: the knocked address and port. The sockets are bound for that alone. Knocks never reach them,
//! because the program drops every one; what comes by a device without the program is left lying.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use nix::{
    libc,
    sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, sendmsg,
        setsockopt, socket, sockopt,
    },
};

/// One socket for each family.
#[derive(Debug, Default)]
pub(super) struct Replies {
    port: u16,
    v4: Option<OwnedFd>,
    v6: Option<OwnedFd>,
}

impl Replies {
    /// Binds `port` of all addresses. Says for which family that failed: its clients get no replies.
    pub(super) fn open(port: u16) -> (Self, Vec<String>) {
        let mut notes = Vec::new();
        let mut bound = |family, what: &str| match bound(family, port) {
            Ok(socket) => Some(socket),
            Err(error) => {
                notes.push(format!("knocks over {what} get no reply: udp/{port} cannot be bound: {error}"));
                None
            }
        };
        let (v4, v6) = (bound(AddressFamily::Inet, "IPv4"), bound(AddressFamily::Inet6, "IPv6"));
        (Self { port, v4, v6 }, notes)
    }

    /// The port that replies leave from.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// Sends one datagram to `to` from the address `from`. Never waits.
    ///
    /// # Errors
    /// What the system said, also where it has no such address.
    pub(super) fn send(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let data = [IoSlice::new(bytes)];
        let sent = match (from.ip(), to) {
            (IpAddr::V4(from), SocketAddr::V4(to)) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from(from).to_be() },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let control = [ControlMessage::Ipv4PacketInfo(&info)];
                let socket = self.v4.as_ref().ok_or(io::ErrorKind::NotConnected)?;
                sendmsg(socket.as_raw_fd(), &data, &control, MsgFlags::MSG_DONTWAIT, Some(&SockaddrIn::from(to)))
            }
            (IpAddr::V6(from), SocketAddr::V6(to)) => {
                let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: from.octets() }, ipi6_ifindex: 0 };
                let control = [ControlMessage::Ipv6PacketInfo(&info)];
                let socket = self.v6.as_ref().ok_or(io::ErrorKind::NotConnected)?;
                sendmsg(socket.as_raw_fd(), &data, &control, MsgFlags::MSG_DONTWAIT, Some(&SockaddrIn6::from(to)))
            }
            (IpAddr::V4(_) | IpAddr::V6(_), SocketAddr::V4(_) | SocketAddr::V6(_)) => {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
        };
        sent.map(|_| ()).map_err(io::Error::from)
    }
}

fn bound(family: AddressFamily, port: u16) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Datagram, flags, None)?;
    // The least there is.
    setsockopt(&socket.as_fd(), sockopt::RcvBuf, &0)?;
    let any_v4 = SocketAddrV4::new([0; 4].into(), port);
    if family == AddressFamily::Inet {
        bind(socket.as_raw_fd(), &SockaddrIn::from(any_v4))?;
    } else {
        setsockopt(&socket.as_fd(), sockopt::Ipv6V6Only, &true)?;
        bind(socket.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new([0; 16].into(), port, 0, 0)))?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_reply_leaves_from_the_knocked_address_and_port() {
        for (client, knocked, other) in [("127.0.0.1", "127.0.0.7", "127.0.0.8"), ("::1", "::1", "::1")] {
            let client = UdpSocket::bind((client, 0)).unwrap();
            client.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
            let free = UdpSocket::bind((other, 0)).unwrap().local_addr().unwrap().port();
            let (replies, notes) = Replies::open(free);
            assert!(notes.is_empty(), "{notes:?}");
            let from = SocketAddr::new(knocked.parse().unwrap(), free);
            replies.send(from, client.local_addr().unwrap(), b"reply").unwrap();
            let mut bytes = [0; 16];
            assert_eq!(client.recv_from(&mut bytes).unwrap(), (5, from));
            let elsewhere = SocketAddr::new("192.0.2.77".parse().unwrap(), free);
            replies.send(elsewhere, client.local_addr().unwrap(), b"reply").unwrap_err();
        }
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let (replies, notes) = Replies::open(port);
        assert!(notes.iter().any(|note| note.contains("IPv4") && note.contains(&port.to_string())), "{notes:?}");
        let client = SocketAddr::new("127.0.0.1".parse().unwrap(), 9);
        assert_eq!(replies.send(client, client, b"x").unwrap_err().kind(), io::ErrorKind::NotConnected);
        assert_eq!(replies.port(), port);
    }
}
