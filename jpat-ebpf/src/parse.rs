//! From a frame to what the decision needs: addresses, and what the packet carries. Ends at the first transport
//! header. Nothing here consults a table, and nothing here is a judgement: a fault found behind readable addresses
//! is kept in the packet, because it matters only if the destination is judged.

mod ipv4;
mod ipv6;
mod link;
mod plain;
mod transport;

use jpat_common::{
    addr::{self, Addr},
    reason::DropReason,
    settings::Protocol,
};

use crate::frame::Cursor;

/// Most extension headers in front of a transport header (IPv6, and AH in IPv4).
pub const MAX_EXTENSIONS: usize = 6;

/// A frame, read. Every field always has a value, and pointers are kept apart from plain values: an enum in which
/// they overlap makes the compiler do arithmetic on pointers, or copy a register that it never wrote, and the verifier
/// refuses both.
#[derive(Clone, Copy)]
pub struct Packet<'a> {
    /// Where from and where to.
    pub addresses: Addresses<'a>,
    /// What is behind the IP headers.
    pub carries: Carries,
    /// The transport header where it carries [`Carries::Segment`]; nothing particular for anything else.
    pub segment: Segment,
    /// Payload of a UDP datagram without a fault; nothing particular for anything else.
    pub payload: Cursor<'a>,
}

/// Source and destination, left in the frame until a table is asked about them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Addresses<'a> {
    /// None, or none that could be read.
    Unknown,
    /// IPv4: source, then destination.
    Ipv4(&'a [u8; 8]),
    /// IPv6: source, then destination.
    Ipv6(&'a [u8; 32]),
}

/// What a frame carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carries {
    /// Not IP, and nothing that could carry it here.
    NotIp,
    /// Headers that cannot be followed, or must not be.
    Malformed(DropReason),
    /// TCP or UDP, whole or as a first fragment with its whole header.
    Segment,
    /// A fragment that is not the first.
    LaterFragment,
    /// ICMP in IPv4 or ICMPv6 in IPv6.
    Icmp,
    /// An IP protocol that carries other packets.
    Tunnel,
    /// Any other protocol.
    Other,
}

/// A TCP or UDP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Which of the two.
    pub protocol: Protocol,
    /// Source port, network order.
    pub source_port: [u8; 2],
    /// Destination port, network order.
    pub port: [u8; 2],
    /// Flags of a TCP header (RFC 9293 §3.1), as its byte 13; 0 for UDP.
    pub flags: u8,
    /// Whether the rest comes in later fragments.
    pub is_first_fragment: bool,
    /// What is wrong with the header's own lengths; always something for the first fragment of a UDP datagram.
    pub fault: Option<DropReason>,
}

impl Segment {
    const NONE: Self = Self {
        protocol: Protocol::Tcp,
        source_port: [0; 2],
        port: [0; 2],
        flags: 0,
        is_first_fragment: false,
        fault: None,
    };
}

impl Addresses<'_> {
    /// Source address; the unspecified one where it is unknown.
    #[inline(always)]
    #[must_use]
    pub fn source(&self) -> Addr {
        match *self {
            Self::Unknown => [0; 16],
            Self::Ipv4(&[a, b, c, d, ..]) => addr::from_v4([a, b, c, d]),
            Self::Ipv6(both) => half(both, 0),
        }
    }

    /// Destination address; the unspecified one where it is unknown.
    #[inline(always)]
    #[must_use]
    pub fn destination(&self) -> Addr {
        match *self {
            Self::Unknown => [0; 16],
            Self::Ipv4(&[.., a, b, c, d]) => addr::from_v4([a, b, c, d]),
            Self::Ipv6(both) => half(both, 16),
        }
    }
}

#[inline(always)]
fn half(both: &[u8; 32], at: usize) -> Addr {
    let mut half = [0; 16];
    half.copy_from_slice(&both[at..at + 16]);
    half
}

/// Reads one Ethernet frame.
#[inline(always)]
#[must_use]
pub fn parse(frame: Cursor<'_>) -> Packet<'_> {
    match plain::parse(&frame) {
        Some(packet) => packet,
        None => parse_any(frame),
    }
}

/// Reads one Ethernet frame of whatever shape.
#[inline(always)]
#[must_use]
pub fn parse_any(mut frame: Cursor<'_>) -> Packet<'_> {
    let network = link::network_layer(&mut frame);
    parse_network(frame, network)
}

/// Reads one frame of a device without a link header: it begins with the IP header, whose version says which.
#[inline(always)]
#[must_use]
pub fn parse_l3(frame: Cursor<'_>) -> Packet<'_> {
    let network = link::version(&frame);
    parse_network(frame, network)
}

#[inline(always)]
fn parse_network(mut frame: Cursor<'_>, network: Result<link::Network, DropReason>) -> Packet<'_> {
    frame.join_ways();
    let mut packet =
        Packet { addresses: Addresses::Unknown, carries: Carries::NotIp, segment: Segment::NONE, payload: frame };
    let carries = match network {
        Ok(link::Network::Ipv4) => ipv4::parse(&mut packet),
        Ok(link::Network::Ipv6) => ipv6::parse(&mut packet),
        Ok(link::Network::Other) => Ok(Carries::NotIp),
        Err(reason) => Err(reason),
    };
    packet.carries = carries.unwrap_or_else(Carries::Malformed);
    packet
}
