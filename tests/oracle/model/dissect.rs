//! Takes a frame apart, layer by layer, into an owned description of what it is. Nothing is judged here but form.

mod link;
mod network;
mod transport;

use std::net::IpAddr;

use jpat_common::reason::DropReason;

/// Where the bytes of a frame begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    /// At the destination MAC address.
    Ethernet,
    /// At the IP header.
    Ip,
}

/// What a frame is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Frame {
    /// TPIDs of its VLAN tags, from the outside.
    pub(crate) tags: Vec<u16>,
    /// What is behind them.
    pub(crate) carries: Carries,
}

/// What the link layer carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Carries {
    /// The frame ends before that is known.
    Cut,
    /// A third VLAN tag.
    ThirdTag,
    /// Something by that name in which IP can lie.
    Wrapper(&'static str),
    /// Something else, by EtherType or length.
    NotIp(u16),
    /// Less than the fixed part of an IP header.
    CutHeader,
    /// An IP header of another version than was announced.
    OtherVersion(u8),
    /// An IP packet.
    Packet(Packet),
}

/// An IP packet whose addresses are known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Packet {
    /// Source address.
    pub(crate) source: IpAddr,
    /// Destination address.
    pub(crate) destination: IpAddr,
    /// Kinds of the extension headers that could be read, in their order.
    pub(crate) headers: Vec<u8>,
    /// Offset in bytes and whether more fragments follow, where it says that it is a fragment.
    pub(crate) fragment: Option<(usize, bool)>,
    /// What it carries, or what is wrong with it.
    pub(crate) inside: Result<Inside, DropReason>,
}

impl Packet {
    /// Whether it is the first of several fragments.
    pub(crate) fn is_first_fragment(&self) -> bool {
        self.fragment == Some((0, true))
    }
}

/// What an IP packet carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Inside {
    /// The middle or the end of something.
    LaterFragment,
    /// A TCP segment.
    Tcp(Tcp),
    /// A UDP datagram.
    Udp(Udp),
    /// ICMP in IPv4, ICMPv6 in IPv6.
    Icmp,
    /// A protocol in which packets lie.
    Tunnel(u8),
    /// Any other protocol.
    Other(u8),
}

/// A TCP segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tcp {
    /// Source port.
    pub(crate) from: u16,
    /// Destination port.
    pub(crate) to: u16,
    /// The byte of flags.
    pub(crate) flags: u8,
    /// Length of its header as it says.
    pub(crate) header: usize,
    /// Its length in the packet.
    pub(crate) length: usize,
}

/// A UDP datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Udp {
    /// Source port.
    pub(crate) from: u16,
    /// Destination port.
    pub(crate) to: u16,
    /// Its length as it says.
    pub(crate) stated: usize,
    /// What the packet holds behind the header.
    pub(crate) behind: Vec<u8>,
}

/// Takes `bytes` apart.
pub(crate) fn dissect(bytes: &[u8], start: Start) -> Frame {
    match start {
        Start::Ethernet => link::frame(bytes),
        Start::Ip => {
            let carries = match bytes.first() {
                None => Carries::CutHeader,
                Some(first) if first >> 4 == 4 => network::v4(bytes),
                Some(first) if first >> 4 == 6 => network::v6(bytes),
                Some(first) => Carries::OtherVersion(first >> 4),
            };
            Frame { tags: Vec::new(), carries }
        }
    }
}

/// A number in network order.
fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}
