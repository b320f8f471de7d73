//! Real listeners that tell of whatever reaches them: TCP and UDP sockets of both families, and behind them raw sockets,
//! which get a copy of each segment and datagram that the stack delivers locally, after reassembly and before it looks
//! at the checksum or for a listener.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{netns::NetNs, packet, wire::widen};

/// Listeners in a namespace; polled, never answering.
#[derive(Debug)]
pub struct Ears {
    tcp: BTreeMap<u16, TcpListener>,
    udp: Vec<(u16, UdpSocket)>,
    raw: Vec<(Domain, u8, Socket)>,
}

/// What reached a namespace.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Segments and datagrams that the stack delivered.
    pub delivered: Vec<Delivered>,
    /// Datagrams that a listener got: its port, and the payload.
    pub datagrams: Vec<(u16, Vec<u8>)>,
    /// Connections that a listener got: its port, and the first bytes.
    pub connections: Vec<(u16, Vec<u8>)>,
}

/// One segment or datagram behind the network layer.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// IANA number of its protocol.
    pub protocol: u8,
    /// From the transport header on.
    pub bytes: Vec<u8>,
}

impl Heard {
    /// What listeners got: port and bytes.
    pub fn served(&self) -> impl Iterator<Item = (u16, &[u8])> {
        self.datagrams.iter().chain(&self.connections).map(|(port, bytes)| (*port, &bytes[..]))
    }

    /// Adds what came after it.
    pub fn extend(&mut self, later: Self) {
        self.delivered.extend(later.delivered);
        self.datagrams.extend(later.datagrams);
        self.connections.extend(later.connections);
    }
}

impl Delivered {
    /// Destination port, if it is there.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes.get(2..4)?.try_into().ok()?))
    }
}

impl Ears {
    /// Listens on these ports of every address of `ns`.
    ///
    /// # Errors
    /// If a port is taken.
    pub fn listen(ns: &NetNs, tcp: &[u16], udp: &[u16]) -> Result<Self> {
        ns.run(|| {
            let mut ears = Self { tcp: BTreeMap::new(), udp: Vec::new(), raw: Vec::new() };
            for &port in tcp {
                let listener =
                    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).with_context(|| format!("tcp/{port}"))?;
                listener.set_nonblocking(true)?;
                ears.tcp.insert(port, listener);
            }
            for &port in udp {
                // One that took both families would miss IPv4 groups.
                for domain in [Domain::IPV4, Domain::IPV6] {
                    let socket = Socket::new(domain, Type::DGRAM, None)?;
                    let any: IpAddr = if domain == Domain::IPV4 {
                        Ipv4Addr::UNSPECIFIED.into()
                    } else {
                        socket.set_only_v6(true)?;
                        Ipv6Addr::UNSPECIFIED.into()
                    };
                    socket.bind(&SocketAddr::new(any, port).into()).with_context(|| format!("udp/{port}"))?;
                    widen(&socket)?;
                    ears.udp.push((port, socket.into()));
                }
            }
            for domain in [Domain::IPV4, Domain::IPV6] {
                for protocol in [packet::TCP, packet::UDP] {
                    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(protocol))))?;
                    widen(&socket)?;
                    ears.raw.push((domain, protocol, socket));
                }
            }
            Ok(ears)
        })
        .context("listen")
    }

    /// What came since the last call.
    ///
    /// # Errors
    /// If a socket is broken.
    pub fn drain(&self) -> Result<Heard> {
        let mut heard = Heard::default();
        for (domain, protocol, socket) in &self.raw {
            while let Some(packet) = next(socket)? {
                // Raw IPv4 sockets hand out the IP header too.
                let header = if *domain == Domain::IPV4 { usize::from(packet[0] & 15) * 4 } else { 0 };
                heard.delivered.push(Delivered { protocol: *protocol, bytes: packet[header..].to_vec() });
            }
        }
        for (port, socket) in &self.udp {
            let mut buffer = vec![0; 65_536];
            while let Some((length, _)) = unless_empty(socket.recv_from(&mut buffer))? {
                heard.datagrams.push((*port, buffer[..length].to_vec()));
            }
        }
        for (port, listener) in &self.tcp {
            while let Some((mut stream, _)) = unless_empty(listener.accept())? {
                stream.set_nonblocking(true)?;
                let mut bytes = vec![0; 4_096];
                let length = unless_empty(stream.read(&mut bytes))?.unwrap_or(0);
                heard.connections.push((*port, bytes[..length].to_vec()));
            }
        }
        Ok(heard)
    }
}

fn next(mut socket: &Socket) -> Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; 65_536];
    Ok(unless_empty(socket.read(&mut buffer))?.map(|length| buffer[..length].to_vec()))
}

fn unless_empty<T>(result: std::io::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
