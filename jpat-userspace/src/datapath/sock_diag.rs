//! The host's own TCP sockets (sock_diag(7)), IPv4 and IPv6: which connections stand, which are under way to their end.

mod procfs;

use std::{collections::BTreeSet, io};

use jpat_common::{
    addr::{self, Addr},
    flow::FlowKey,
};
use nix::sys::socket::AddressFamily;

use super::netlink::{self, Family, Message};

/// `SOCK_DIAG_BY_FAMILY` (`include/uapi/linux/sock_diag.h`).
const BY_FAMILY: u16 = 20;
/// `struct inet_diag_req_v2` (`include/uapi/linux/inet_diag.h`): family, protocol, extensions, padding, states, a socket.
const REQUEST: usize = 56;
/// `struct inet_diag_msg` up to its socket.
const HEAD: usize = 4;
/// `struct inet_diag_sockid` up to its addresses: two ports, network order.
const PORTS: usize = HEAD + 4;
const TCP: u8 = 6;

/// Numbers of TCP states (`include/net/tcp_states.h`).
const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;
/// SYN_RECV and NEW_SYN_RECV.
const OPENING: [u8; 2] = [3, 12];
/// SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING: neither established nor over.
const BETWEEN: [u8; 6] = [2, 4, 5, 8, 9, 11];

/// TCP sockets of this network namespace. Keys have the peer for their source, as flows do.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Sockets {
    /// Established.
    pub established: BTreeSet<FlowKey>,
    /// Answered with a SYN and ACK, and not yet confirmed by the peer.
    pub opening: BTreeSet<FlowKey>,
    /// Closing.
    pub between: BTreeSet<FlowKey>,
    /// Ports on which something listens.
    pub listening: BTreeSet<u16>,
}

/// Reads all of them.
///
/// # Errors
/// What the kernel says.
pub fn tcp() -> io::Result<Sockets> {
    let found = match dump() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => procfs::tcp(),
        found => found,
    };
    let mut sockets = Sockets::default();
    found?.iter().for_each(|socket| sockets.add(socket));
    Ok(sockets)
}

/// `ENOENT` where the kernel lacks `tcp_diag`.
fn dump() -> io::Result<Vec<Socket>> {
    let states =
        BETWEEN.into_iter().chain(OPENING).chain([ESTABLISHED, LISTEN]).fold(0u32, |mask, state| mask | 1 << state);
    let mut sockets = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = [0; REQUEST];
        request[0] = family as u8;
        request[1] = TCP;
        request[4..8].copy_from_slice(&states.to_ne_bytes());
        sockets.extend(netlink::dump(Family::SockDiag, BY_FAMILY, &request, socket)?);
    }
    Ok(sockets)
}

impl Sockets {
    fn add(&mut self, socket: &Socket) {
        let key = || FlowKey::new(socket.peer, socket.peer_port, socket.local, socket.local_port, TCP);
        match socket.state {
            ESTABLISHED => {
                self.established.insert(key());
            }
            LISTEN => {
                self.listening.insert(u16::from_be_bytes(socket.local_port));
            }
            state if OPENING.contains(&state) => {
                self.opening.insert(key());
            }
            state if BETWEEN.contains(&state) => {
                self.between.insert(key());
            }
            _over => {}
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Socket {
    state: u8,
    local: Addr,
    local_port: [u8; 2],
    peer: Addr,
    peer_port: [u8; 2],
}

fn socket(message: Message<'_>) -> Option<Socket> {
    let (head, rest) = message.body.split_at_checked(PORTS)?;
    let (local, rest) = rest.split_first_chunk::<16>()?;
    let peer = rest.first_chunk::<16>()?;
    let is_v4 = head[0] == AddressFamily::Inet as u8;
    // IPv4 connections of an IPv6 socket have their addresses mapped already, as the tables have them.
    let address = |bytes: &Addr| if is_v4 { addr::from_v4([bytes[0], bytes[1], bytes[2], bytes[3]]) } else { *bytes };
    Some(Socket {
        state: head[1],
        local: address(local),
        local_port: [head[4], head[5]],
        peer: address(peer),
        peer_port: [head[6], head[7]],
    })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

    use super::*;

    fn key(peer: SocketAddr, local: SocketAddr) -> FlowKey {
        let bytes = |address: SocketAddr| match address.ip() {
            IpAddr::V4(v4) => addr::from_v4(v4.octets()),
            IpAddr::V6(v6) => v6.octets(),
        };
        FlowKey::new(bytes(peer), peer.port().to_be_bytes(), bytes(local), local.port().to_be_bytes(), TCP)
    }

    #[test]
    fn p8_the_hosts_own_connections_are_found_in_both_families_and_mapped() {
        for (bind, connect) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")] {
            let Ok(listener) = TcpListener::bind(bind) else { continue };
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect((connect, port)).unwrap();
            let (server, _) = listener.accept().unwrap();
            let key = key(server.peer_addr().unwrap(), server.local_addr().unwrap());
            let sockets = tcp().unwrap();
            assert!(sockets.established.contains(&key), "{bind}: {key:?}");
            assert!(sockets.listening.contains(&port), "{bind}");
            // The server's side waits for its own end now, and is not over.
            drop(client);
            let closing = (0..1000).find_map(|_| {
                let sockets = tcp().unwrap();
                (!sockets.established.contains(&key)).then(|| sockets.between.contains(&key))
            });
            assert_eq!(closing, Some(true), "{bind}");
            drop(server);
        }
    }

    #[test]
    fn a_cut_message_is_no_socket() {
        let whole = [2, ESTABLISHED, 0, 0, 0, 22, 200, 1]
            .into_iter()
            .chain([192, 0, 2, 1])
            .chain([0; 12])
            .chain([198, 51, 100, 7])
            .chain([0; 12])
            .collect::<Vec<_>>();
        let read = |body: &[u8]| netlink::messages(&netlink::message(BY_FAMILY, body, &[])).find_map(socket);
        let found = read(&whole).unwrap();
        assert_eq!((found.local, found.local_port), (addr::from_v4([192, 0, 2, 1]), [0, 22]));
        assert_eq!((found.peer, found.peer_port), (addr::from_v4([198, 51, 100, 7]), [200, 1]));
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), None, "{end}");
        }
        let mut v6 = whole;
        v6[0] = AddressFamily::Inet6 as u8;
        let mapped = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201).octets();
        v6[8..24].copy_from_slice(&mapped);
        assert_eq!(read(&v6).unwrap().local, addr::from_v4([192, 0, 2, 1]));
    }
}
