//! Knocks: finds the server, sends the datagram, hears the reply, waits for the service. A bare knock is never answered: all
//! that is known afterwards is what was sent, and whether a port has opened.

mod error;
pub mod exchange;
mod host;
pub mod preflight;
pub mod profile;
pub mod sealed;
pub mod token_source;
pub mod wait;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    path::PathBuf,
};

pub(crate) use self::error::explained as error_explained;
pub use self::{
    error::{ClientError, SendError},
    host::{Host, HostError},
};
use crate::clock::UnixTime;

/// The knock port unless configured otherwise.
pub const KNOCK_PORT: u16 = 1337;

/// Which addresses of the server are knocked at. A grant is for the source address that the knock came from, and a
/// later connection may use either family: so each gets a knock of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Family {
    /// The first address of each family.
    #[default]
    Both,
    /// The first IPv4 address.
    V4,
    /// The first IPv6 address.
    V6,
}

/// A datagram that was sent, with its socket, which later hears whether the server has rejected it.
#[derive(Debug)]
pub struct Sent {
    /// Where to.
    pub to: SocketAddr,
    /// Bytes of UDP payload.
    pub bytes: usize,
    socket: UdpSocket,
    rejection: Option<io::Error>,
}

impl Sent {
    /// Whether an ICMP message has come back: then no JPAT guards that port, because it never lets one out (P1).
    pub fn rejected(&mut self) -> Option<&io::Error> {
        if self.rejection.is_none() {
            self.rejection = self.socket.take_error().ok().flatten();
        }
        self.rejection.as_ref()
    }
}

/// The addresses to knock at: at most one of each family, in the order of the resolver. Blocks.
///
/// # Errors
/// [`ClientError::Resolve`], [`ClientError::NoAddress`].
pub fn resolve(host: &Host, port: u16, family: Family) -> Result<Vec<SocketAddr>, ClientError> {
    let found = (host.as_str(), port)
        .to_socket_addrs()
        .map_err(|source| ClientError::Resolve { host: host.to_string(), source })?;
    let mut chosen: Vec<SocketAddr> = Vec::new();
    for address in found {
        let wanted = match family {
            Family::Both => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        };
        if wanted && !chosen.iter().any(|other| other.is_ipv4() == address.is_ipv4()) {
            chosen.push(address);
        }
    }
    if chosen.is_empty() {
        let family = match family {
            Family::Both => "IPv4 or IPv6",
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        return Err(ClientError::NoAddress { host: host.to_string(), family });
    }
    Ok(chosen)
}

/// Sends one datagram, whole or not at all: the socket forbids fragments, because the data path drops them.
///
/// # Errors
/// [`SendError`].
pub fn send(datagram: &[u8], to: SocketAddr) -> Result<Sent, SendError> {
    let sent = connect(to).and_then(|socket| {
        let bytes = socket.send(datagram)?;
        Ok(Sent { to, bytes, socket, rejection: None })
    });
    sent.map_err(|source| send_error(source, to.ip(), datagram.len()))
}

/// A socket that talks to one address, whole datagrams or none.
fn connect(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    forbid_fragments(&socket, to)?;
    socket.connect(to)?;
    Ok(socket)
}

fn send_error(source: io::Error, to: IpAddr, length: usize) -> SendError {
    if source.raw_os_error() == Some(nix::libc::EMSGSIZE) {
        SendError::TooLong { to, length }
    } else {
        SendError::Io { to, source }
    }
}

#[cfg(target_os = "linux")]
fn forbid_fragments(socket: &UdpSocket, to: SocketAddr) -> io::Result<()> {
    use rustix::net::sockopt::{
        Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
    };
    if to.is_ipv4() {
        set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DO)?;
    } else {
        set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DO)?;
    }
    Ok(())
}

/// A knock is at most 1232 bytes, which every IPv6 path takes whole.
#[cfg(not(target_os = "linux"))]
fn forbid_fragments(_socket: &UdpSocket, _to: SocketAddr) -> io::Result<()> {
    Ok(())
}

/// The datagram of a bare knock.
///
/// # Errors
/// [`ClientError::TokenTooLong`], [`ClientError::NotAToken`].
pub fn bare(token: &str, now: UnixTime) -> Result<&[u8], ClientError> {
    let token = token.trim();
    if token.len() > crate::knock::MAX_PAYLOAD {
        return Err(ClientError::TokenTooLong(sealed::sizes(token, now)));
    }
    crate::knock::bare::encode(token).map_err(ClientError::NotAToken)
}

/// What became of a round of knocks.
#[derive(Debug)]
pub struct Knocked {
    /// Datagrams that were sent; never empty.
    pub sent: Vec<Sent>,
    /// Addresses that could not be reached, such as IPv6 ones on a host without IPv6.
    pub failed: Vec<SendError>,
}

/// Sends the datagram to every address.
///
/// # Errors
/// [`ClientError::NotSent`] when it could be sent to none.
pub fn knock(datagram: &[u8], addresses: &[SocketAddr]) -> Result<Knocked, ClientError> {
    let mut knocked = Knocked { sent: Vec::new(), failed: Vec::new() };
    for to in addresses {
        match send(datagram, *to) {
            Ok(sent) => knocked.sent.push(sent),
            Err(error) => knocked.failed.push(error),
        }
    }
    if knocked.sent.is_empty() { Err(ClientError::NotSent(knocked.failed)) } else { Ok(knocked) }
}

/// Where a token comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TokenSource {
    /// `-`
    Stdin,
    /// Read anew for each knock, because kubelet and agents rotate it.
    File(PathBuf),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::refusal::Refusal;

    #[test]
    fn the_datagram_is_the_token_and_nothing_else() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let server = UdpSocket::bind(local).unwrap();
            server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut knocked =
                knock(bare(" eyJh.eyJz.c2ln\n", UnixTime::from_secs(1)).unwrap(), &[server.local_addr().unwrap()])
                    .unwrap();
            let mut buffer = [0; 2048];
            let length = server.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"eyJh.eyJz.c2ln");
            assert_eq!(knocked.sent[0].bytes, 14);
            assert!(knocked.sent[0].rejected().is_none());
        }
    }

    #[test]
    fn a_closed_port_that_answers_is_noticed() {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut knocked = knock(b"a.b.c", &[free]).unwrap();
        assert_eq!(knocked.sent[0].rejected().map(|e| e.kind()), Some(io::ErrorKind::ConnectionRefused));
    }

    #[test]
    fn what_does_not_fit_one_packet_is_a_local_error() {
        // Loopback takes 65536 bytes at once; with fragments it would take 65507 of payload, more in no case.
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = send(&vec![b'a'; 65_508], server.local_addr().unwrap()).unwrap_err();
        assert!(matches!(error, SendError::TooLong { length: 65_508, .. }));
    }

    #[test]
    fn one_address_of_each_family() {
        let host = "localhost".parse().unwrap();
        for family in [Family::Both, Family::V4] {
            let found = resolve(&host, 1337, family).unwrap();
            assert!(
                found.iter().filter(|a| a.is_ipv4()).count() <= 1 && found.iter().filter(|a| a.is_ipv6()).count() <= 1
            );
            assert!(found.iter().all(|a| a.port() == 1337 && a.ip().is_loopback()));
        }
        let error = resolve(&"127.0.0.1".parse().unwrap(), 1, Family::V6).unwrap_err();
        assert_eq!(error.to_string(), "127.0.0.1 has no IPv6 address");
    }

    #[test]
    fn too_long_and_shapeless_tokens_come_with_advice() {
        let long = format!("{}.b.c", "a".repeat(1400));
        let bare = |token| bare(token, UnixTime::from_secs(1)).map(<[u8]>::len);
        let error = bare(&long).unwrap_err();
        assert!(matches!(error, ClientError::TokenTooLong(sizes) if sizes.bare == 1404));
        assert!(error.to_string().contains("1232 bytes"), "{error}");
        assert!(matches!(bare("opaque"), Err(ClientError::NotAToken(Refusal::NotJws))));
        assert!(matches!(bare("a.b.c.d.e"), Err(ClientError::NotAToken(Refusal::NotJws))));
    }
}
