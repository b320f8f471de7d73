//! Between whom the frames go, and how they are put together.

use crate::packet::{self, ETHER_IPV4, ETHER_IPV6, ICMP, ICMPV6, SYN, TCP, UDP};

/// One end of the link.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its IPv4 address.
    pub v4: [u8; 4],
    /// Its IPv6 address.
    pub v6: [u8; 16],
}

/// The protected host.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Its addresses.
    pub peer: Peer,
    /// Broadcast address of its IPv4 network.
    pub broadcast: [u8; 4],
    /// A port that is protected in TCP and in UDP.
    pub port: u16,
    /// A port that is protected in neither.
    pub free_port: u16,
    /// The knock port.
    pub knock_port: u16,
}

/// A protected host, and who sends to it.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// The protected host.
    pub host: Host,
    /// Has no grant.
    pub stranger: Peer,
    /// Has a live grant for the host's protected port.
    pub granted: Peer,
}

/// IP version of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }
}

/// A path from one peer to another, over which packets are put together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) from: Peer,
    pub(super) to: Peer,
}

impl Scene {
    /// From the stranger to the host.
    pub(super) const fn path(&self) -> Path {
        Path { from: self.stranger, to: self.host.peer }
    }

    /// From the granted peer to the host.
    pub(super) const fn granted_path(&self) -> Path {
        Path { from: self.granted, to: self.host.peer }
    }

    /// The stranger's SYN to the protected port, as a frame.
    pub(super) fn syn(&self, family: Family) -> Vec<u8> {
        self.path().frame(family, TCP, &self.path().tcp(family, self.host.port, SYN, &[]))
    }
}

impl Path {
    /// A TCP segment with its checksum.
    pub(super) fn tcp(&self, family: Family, port: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
        self.summed(family, TCP, packet::tcp(port, flags, payload))
    }

    /// A UDP datagram with its checksum.
    pub(super) fn udp(&self, family: Family, port: u16, payload: &[u8]) -> Vec<u8> {
        self.summed(family, UDP, packet::udp(port, payload))
    }

    /// `segment` from another source port.
    pub(super) fn sent_from(&self, family: Family, protocol: u8, port: u16, mut segment: Vec<u8>) -> Vec<u8> {
        segment[..2].copy_from_slice(&port.to_be_bytes());
        self.summed(family, protocol, segment)
    }

    /// `segment` with the checksum of its protocol over the pseudo-header of this path (RFC 9293 §3.1, RFC 8200 §8.1).
    pub(super) fn summed(&self, family: Family, protocol: u8, mut segment: Vec<u8>) -> Vec<u8> {
        let at = match protocol {
            TCP => 16,
            UDP => 6,
            ICMP | ICMPV6 => 2,
            _ => return segment,
        };
        segment[at..at + 2].fill(0);
        let mut summed = match (family, protocol) {
            (_, ICMP) => Vec::new(),
            (Family::V4, _) => [self.from.v4, self.to.v4].concat(),
            (Family::V6, _) => [self.from.v6, self.to.v6].concat(),
        };
        if !summed.is_empty() {
            summed.extend([0, protocol]);
            summed.extend((segment.len() as u16).to_be_bytes());
        }
        summed.extend(&segment);
        let sum = packet::checksum(&summed);
        // RFC 768: a sum of zero goes as all ones, for zero means that there is none.
        let sum = if sum == 0 && protocol == UDP { u16::MAX } else { sum };
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        segment
    }

    /// An IPv4 packet; `fragment` and `options` as in [`packet::ipv4`].
    pub(super) fn v4(&self, protocol: u8, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
        packet::ipv4(self.from.v4, self.to.v4, protocol, fragment, options, payload)
    }

    /// An IPv6 packet.
    pub(super) fn v6(&self, next: u8, payload: &[u8]) -> Vec<u8> {
        packet::ipv6(self.from.v6, self.to.v6, next, payload)
    }

    /// A plain packet of either version.
    pub(super) fn packet(&self, family: Family, protocol: u8, payload: &[u8]) -> Vec<u8> {
        match family {
            Family::V4 => self.v4(protocol, 0, &[], payload),
            Family::V6 => self.v6(protocol, payload),
        }
    }

    /// A plain packet in an Ethernet frame.
    pub(super) fn frame(&self, family: Family, protocol: u8, payload: &[u8]) -> Vec<u8> {
        self.ip(family, &self.packet(family, protocol, payload))
    }

    /// A packet in an Ethernet frame.
    pub(super) fn ip(&self, family: Family, packet: &[u8]) -> Vec<u8> {
        match family {
            Family::V4 => self.ethernet(ETHER_IPV4, packet),
            Family::V6 => self.ethernet(ETHER_IPV6, packet),
        }
    }

    /// An Ethernet frame.
    pub(super) fn ethernet(&self, ether_type: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = [self.to.mac, self.from.mac].concat();
        frame.extend(ether_type.to_be_bytes());
        frame.extend(payload);
        frame
    }
}

/// The bytes with some replaced; no checksum is mended.
pub(super) fn patched(mut bytes: Vec<u8>, at: usize, new: &[u8]) -> Vec<u8> {
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

/// An IPv4 packet with some bytes of its header replaced and the header's checksum mended where there is room for it.
pub(super) fn patched_v4(packet: Vec<u8>, at: usize, new: &[u8]) -> Vec<u8> {
    let mut packet = patched(patched(packet, at, new), 10, &[0, 0]);
    let length = usize::from(packet[0] & 15) * 4;
    let sum = packet::checksum(&packet[..length.clamp(20, packet.len())]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}
