//! Packets with every field under control and every checksum right, as a real stack has to believe them; each fault is
//! put in afterwards, on purpose. [`packet`](crate::packet) builds those that only a parser sees.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::packet::{FRAGMENT, ICMPV6, TCP, UDP};

/// An IPv4 header (RFC 791).
#[derive(Clone, Debug)]
pub struct Ipv4 {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Time to live.
    pub ttl: u8,
    /// Identification.
    pub id: u16,
    /// Flags and fragment offset as on the wire.
    pub fragment: u16,
    /// Options, padded to 4 bytes with ends of list.
    pub options: Vec<u8>,
}

/// An IPv6 header (RFC 8200).
#[derive(Clone, Debug)]
pub struct Ipv6 {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// Hop limit.
    pub hop_limit: u8,
    /// Flow label, 20 bits.
    pub label: u32,
}

/// Addresses and ports of a segment or datagram.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub port: u16,
}

impl Ipv4 {
    /// The packet, its checksum right.
    #[must_use]
    pub fn packet(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let length = 20 + options.len();
        let mut packet = vec![0x40 | (length / 4) as u8, 0];
        for field in [(length + payload.len()) as u16, self.id, self.fragment] {
            packet.extend(field.to_be_bytes());
        }
        packet.extend([self.ttl, protocol, 0, 0]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(options);
        packet.extend(payload);
        seal(packet)
    }
}

impl Ipv6 {
    /// The packet.
    #[must_use]
    pub fn packet(&self, next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = (0x6000_0000 | self.label & 0xf_ffff).to_be_bytes().to_vec();
        packet.extend((payload.len() as u16).to_be_bytes());
        packet.extend([next, self.hop_limit]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(payload);
        packet
    }
}

impl Ends {
    /// A TCP segment (RFC 9293); `options` are padded to 4 bytes with ends of list.
    #[must_use]
    pub fn tcp(&self, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut options = options.to_vec();
        options.resize(options.len().next_multiple_of(4), 0);
        let offset = ((20 + options.len()) / 4) as u8;
        let mut segment = [self.source_port.to_be_bytes(), self.port.to_be_bytes()].concat();
        segment.extend([0, 0, 0, 1, 0, 0, 0, 2, offset << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(options);
        segment.extend(payload);
        self.sum(TCP, segment, 16)
    }

    /// A UDP datagram (RFC 768).
    #[must_use]
    pub fn udp(&self, payload: &[u8]) -> Vec<u8> {
        self.udp_of_length((payload.len() + 8) as u16, payload)
    }

    /// A UDP datagram whose header gives this length; the checksum covers that much, or all where there is no such part.
    #[must_use]
    pub fn udp_of_length(&self, length: u16, payload: &[u8]) -> Vec<u8> {
        let datagram = [&[self.source_port, self.port, length, 0].map(u16::to_be_bytes).concat()[..], payload].concat();
        let covered = if (8..=datagram.len()).contains(&usize::from(length)) { length.into() } else { datagram.len() };
        let mut sealed = self.sum(UDP, datagram[..covered].to_vec(), 6);
        sealed.extend(&datagram[covered..]);
        sealed
    }

    /// An ICMPv6 message (RFC 4443 §2.1); the ports mean nothing.
    #[must_use]
    pub fn icmp6(&self, kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
        self.sum(ICMPV6, [&[kind, code, 0, 0][..], &rest, body].concat(), 2)
    }

    /// Makes the checksum of a changed TCP segment right again.
    pub fn sum_again(&self, segment: &mut Vec<u8>) {
        segment[16..18].fill(0);
        *segment = self.sum(TCP, std::mem::take(segment), 16);
    }

    /// Puts the checksum in (RFC 9293 §3.1, RFC 8200 §8.1).
    fn sum(&self, protocol: u8, mut segment: Vec<u8>, at: usize) -> Vec<u8> {
        let mut covered = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => [source.octets(), destination.octets()].concat(),
            (source, destination) => [source, destination].map(mapped).concat(),
        };
        covered.extend((segment.len() as u32).to_be_bytes());
        covered.extend([0, 0, 0, protocol]);
        covered.extend(&segment);
        segment[at..at + 2].copy_from_slice(&checksum(&covered).to_be_bytes());
        segment
    }
}

/// An ICMP message (RFC 792); `rest` are the four bytes behind the checksum.
#[must_use]
pub fn icmp(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], &rest, body].concat();
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// The packet with its IPv4 header's checksum made right again, as far as the header is there.
#[must_use]
pub fn seal(mut packet: Vec<u8>) -> Vec<u8> {
    let length = (usize::from(packet[0] & 15) * 4).clamp(20, packet.len());
    packet[10..12].fill(0);
    let sum = checksum(&packet[..length]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Pieces of `bytes` that end at `cuts` and at the end: offset, whether more follow, and the bytes.
#[must_use]
pub fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<(usize, bool, &'a [u8])> {
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain([bytes.len()]);
    starts.zip(ends).map(|(start, end)| (start, end < bytes.len(), &bytes[start..end])).collect()
}

/// An IPv6 fragment header (RFC 8200 §4.5) in front of `payload`; `offset` in bytes.
#[must_use]
pub fn fragment(id: u32, next: u8, offset: usize, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![next, 0];
    bytes.extend((offset as u16 & !7 | u16::from(more)).to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// As [`packet::extended`](crate::packet::extended), with fragment headers of this id.
#[must_use]
pub fn extended(id: u32, kinds: &[u8], kind: u8, payload: &[u8]) -> (u8, Vec<u8>) {
    kinds.iter().rev().fold((kind, payload.to_vec()), |(next, behind), &header| match header {
        FRAGMENT => (FRAGMENT, fragment(id, next, 0, false, &behind)),
        _ => crate::packet::extended(&[header], next, &behind),
    })
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The Internet checksum (RFC 1071); a UDP sum of 0 would mean none and becomes its other form.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        0 => 0xffff,
        sum => sum,
    }
}
