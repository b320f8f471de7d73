//! Knocks: finds the server, sends the datagram, waits for the service. The server never answers, so all that is known
//! afterwards is what was sent, and whether a port has opened.

pub mod preflight;
pub mod token_source;
pub mod wait;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    path::PathBuf,
    str::FromStr,
};

use crate::refusal::Refusal;

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

/// A server as typed: a name or an address, without a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host(String);

impl Host {
    /// The name, or the address without brackets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a server cannot be named like that.
#[derive(thiserror::Error, PartialEq, Eq, Debug)]
pub enum HostError {
    /// A port stands behind it.
    #[error("{0} looks like a service port: use --wait tcp/{0} (and --knock-port for the port to knock at)")]
    Port(u16),
    /// It is a URL, a user or a path.
    #[error("give the name or the address of the server alone")]
    NotAHost,
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(HostError::NotAHost)?;
                let port =
                    if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(HostError::NotAHost)?) };
                (host, port)
            }
            None if text.matches(':').count() == 1 => text.split_once(':').map_or((text, None), |(h, p)| (h, Some(p))),
            None => (text, None),
        };
        if let Some(port) = port {
            return Err(port.parse().map_or(HostError::NotAHost, HostError::Port));
        }
        let foreign = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '@' | '[' | ']');
        let colons = host.contains(':') && host.split('%').next().is_none_or(|ip| ip.parse::<Ipv6Addr>().is_err());
        if host.is_empty() || host.contains(foreign) || colons {
            return Err(HostError::NotAHost);
        }
        Ok(Self(host.to_owned()))
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why nothing was sent, or nothing opened.
#[derive(thiserror::Error, Debug)]
pub enum ClientError {
    /// The token cannot be read.
    #[error("cannot read the token from {from}: {source}")]
    ReadToken {
        /// The file, or standard input.
        from: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing to read.
    #[error("{0} holds no token")]
    EmptyToken(String),
    /// The token does not fit a datagram.
    #[error(
        "the token has {length} bytes, and a knock carries at most {max}: ask the identity provider for a smaller one \
         (fewer scopes, roles or groups, ES256 instead of RS256), or exchange it for a small token of your own issuer",
        max = crate::knock::MAX_PAYLOAD
    )]
    TokenTooLong {
        /// Its length.
        length: usize,
    },
    /// The token has not the shape of one.
    #[error("this is no token that a knock can carry: {}", .0.text())]
    NotAToken(Refusal),
    /// The token would be refused.
    #[error("not sent: {0} (--force sends it all the same)")]
    Hopeless(preflight::Finding),
    /// The name has no address.
    #[error("cannot find an address of {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The name has no address of the wanted family.
    #[error("{host} has no {family} address")]
    NoAddress {
        /// The name.
        host: String,
        /// "IPv4" or "IPv6" or both.
        family: &'static str,
    },
    /// No datagram could be sent.
    #[error("nothing was sent: {}", join(.0))]
    NotSent(Vec<SendError>),
    /// The service did not open.
    #[error(transparent)]
    NotOpen(#[from] wait::NotOpen),
    /// The runtime could not be started.
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
}

/// Why one datagram could not be sent.
#[derive(thiserror::Error, Debug)]
pub enum SendError {
    /// It is longer than the path to the server takes in one packet; it must not be fragmented.
    #[error("{to}: {length} bytes do not fit one packet on the way there: a smaller token is needed")]
    TooLong {
        /// Where to.
        to: IpAddr,
        /// UDP payload.
        length: usize,
    },
    /// Anything else.
    #[error("{to}: {source}")]
    Io {
        /// Where to.
        to: IpAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A datagram that was sent, with its socket, which later hears whether the server has rejected it.
#[derive(Debug)]
pub struct Sent {
    /// Where to.
    pub to: SocketAddr,
    /// Bytes of UDP payload.
    pub bytes: usize,
    socket: UdpSocket,
}

impl Sent {
    /// Whether an ICMP message has come back: then no JPAT guards that port, because it never lets one out (P1).
    #[must_use]
    pub fn rejected(&self) -> Option<io::Error> {
        self.socket.take_error().ok().flatten()
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
    let connected = || {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        forbid_fragments(&socket, to)?;
        socket.connect(to)?;
        let bytes = socket.send(datagram)?;
        Ok(Sent { to, bytes, socket })
    };
    connected().map_err(|source: io::Error| {
        if source.raw_os_error() == Some(nix::libc::EMSGSIZE) {
            SendError::TooLong { to: to.ip(), length: datagram.len() }
        } else {
            SendError::Io { to: to.ip(), source }
        }
    })
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
pub fn bare(token: &str) -> Result<&[u8], ClientError> {
    let length = token.trim().len();
    if length > crate::knock::MAX_PAYLOAD {
        return Err(ClientError::TokenTooLong { length });
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

fn join(errors: &[SendError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_host_has_no_port() {
        for good in ["web-1.example", "192.0.2.7", "2001:db8::7", "::1", "fe80::1%eth0", "localhost"] {
            assert_eq!(good.parse::<Host>().map(|host| host.0), Ok(good.to_owned()));
        }
        assert_eq!("[::1]".parse::<Host>().map(|host| host.0), Ok("::1".to_owned()));
        for bad in ["web-1.example:8443", "192.0.2.7:8443", "[2001:db8::7]:8443"] {
            let error = bad.parse::<Host>().unwrap_err();
            assert_eq!(error, HostError::Port(8443));
            assert!(error.to_string().starts_with("8443 looks like a service port: use --wait tcp/8443"), "{error}");
        }
        for bad in ["", "https://web-1.example", "me@web", "a b", "web:", "web:https", "[::1", "[::1]x", "1:2:3", "a/b"]
        {
            assert_eq!(bad.parse::<Host>(), Err(HostError::NotAHost), "{bad}");
        }
    }

    #[test]
    fn the_datagram_is_the_token_and_nothing_else() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let server = UdpSocket::bind(local).unwrap();
            server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let knocked = knock(bare(" eyJh.eyJz.c2ln\n").unwrap(), &[server.local_addr().unwrap()]).unwrap();
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
        let knocked = knock(b"a.b.c", &[free]).unwrap();
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
        let error = bare(&long).unwrap_err();
        assert!(matches!(error, ClientError::TokenTooLong { length: 1404 }));
        assert!(error.to_string().contains("at most 1232"), "{error}");
        assert!(matches!(bare("opaque"), Err(ClientError::NotAToken(Refusal::NotJws))));
        assert!(matches!(bare("a.b.c.d.e"), Err(ClientError::NotAToken(Refusal::NotJws))));
    }
}
