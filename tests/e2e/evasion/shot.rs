//! One case, sent once: the stranger's packets with a mark in all of them, so that whatever becomes of one tells whose it
//! was.

use std::net::{Ipv4Addr, Ipv6Addr};

use jpat_tests::{
    crafted::{Ends, Ipv4, Ipv6},
    network::{Family, Member},
    packet::{ETHER_IPV4, ETHER_IPV6, SYN, TCP, UDP},
};

/// The host's device on the wire.
pub(crate) const HOST_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
/// Source addresses of frames: the last two bytes are the mark.
const SOURCE_MAC: [u8; 4] = [0x02, 0x4a, 0x50, 0];
/// Source ports: this and the mark.
const PORTS: u16 = 20_000;
/// Most shots of one stage: the ports from [`PORTS`] up to those that the kernel itself takes.
pub(crate) const MARKS: u16 = 12_000;
const MAGIC: [u8; 8] = *b"\xf0jpat\xf1\xf2\xf3";

/// A family and a protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kind {
    pub(crate) family: Family,
    pub(crate) is_tcp: bool,
}

pub(crate) const TCP4: Kind = Kind { family: Family::V4, is_tcp: true };
pub(crate) const UDP4: Kind = Kind { family: Family::V4, is_tcp: false };
pub(crate) const TCP6: Kind = Kind { family: Family::V6, is_tcp: true };
pub(crate) const UDP6: Kind = Kind { family: Family::V6, is_tcp: false };
pub(crate) const KINDS: [Kind; 4] = [TCP4, UDP4, TCP6, UDP6];

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match (self.family, self.is_tcp) {
            (Family::V4, true) => "v4_tcp",
            (Family::V4, false) => "v4_udp",
            (Family::V6, true) => "v6_tcp",
            (Family::V6, false) => "v6_udp",
        }
    }

    pub(crate) const fn protocol(self) -> u8 {
        if self.is_tcp { TCP } else { UDP }
    }

    pub(crate) const fn ether_type(self) -> u16 {
        match self.family {
            Family::V4 => ETHER_IPV4,
            Family::V6 => ETHER_IPV6,
        }
    }
}

/// What a case's frames are made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shot {
    pub(crate) mark: u16,
    pub(crate) port: u16,
}

impl Shot {
    /// From the stranger to the host.
    pub(crate) const fn ends(&self, family: Family) -> Ends {
        Ends {
            source: Member::Stranger.address(family),
            destination: Member::Host.address(family),
            source_port: PORTS + self.mark,
            port: self.port,
        }
    }

    /// 40 bytes with the mark in front.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let mut payload = [&MAGIC[..], &self.mark.to_be_bytes()].concat();
        payload.resize(40, b'.');
        payload
    }

    /// A SYN with data, or a datagram.
    pub(crate) fn segment(&self, kind: Kind) -> Vec<u8> {
        self.segment_of(kind, &self.ends(kind.family))
    }

    pub(crate) fn segment_of(&self, kind: Kind, ends: &Ends) -> Vec<u8> {
        if kind.is_tcp { ends.tcp(SYN, &[], &self.payload()) } else { ends.udp(&self.payload()) }
    }

    /// The stranger's IPv4 header.
    pub(crate) const fn ip4(&self) -> Ipv4 {
        let (source, destination) = (Ipv4Addr::new(192, 0, 2, 66), Ipv4Addr::new(192, 0, 2, 1));
        Ipv4 { source, destination, ttl: 64, id: self.mark, fragment: 0, options: Vec::new() }
    }

    /// The stranger's IPv6 header.
    pub(crate) const fn ip6(&self) -> Ipv6 {
        let source = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x66);
        let destination = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x1);
        Ipv6 { source, destination, hop_limit: 64, label: self.mark as u32 }
    }

    /// An IP packet of the stranger.
    pub(crate) fn packet(&self, family: Family, protocol: u8, payload: &[u8]) -> Vec<u8> {
        match family {
            Family::V4 => self.ip4().packet(protocol, payload),
            Family::V6 => self.ip6().packet(protocol, payload),
        }
    }

    /// Nothing odd at all.
    pub(crate) fn plain(&self, kind: Kind) -> Vec<u8> {
        self.packet(kind.family, kind.protocol(), &self.segment(kind))
    }

    pub(crate) fn frame(&self, ether_type: u16, packet: &[u8]) -> Vec<u8> {
        self.frame_to(HOST_MAC, ether_type, packet)
    }

    pub(crate) fn frame_to(&self, mac: [u8; 6], ether_type: u16, packet: &[u8]) -> Vec<u8> {
        [&mac[..], &SOURCE_MAC, &self.mark.to_be_bytes(), &ether_type.to_be_bytes(), packet].concat()
    }
}

/// Whose frame this is, by its source address.
pub(crate) fn mark_of_frame(frame: &[u8]) -> Option<u16> {
    let source = frame.get(6..12)?;
    source.starts_with(&SOURCE_MAC).then(|| u16::from_be_bytes([source[4], source[5]]))
}

/// Whose bytes these are, by the payload.
pub(crate) fn mark_in(bytes: &[u8]) -> Option<u16> {
    let at = bytes.windows(MAGIC.len()).position(|window| window == MAGIC)? + MAGIC.len();
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Whose packet this answers: by its port, or by the header that an ICMP error quotes.
pub(crate) fn mark_answered(frame: &[u8]) -> Option<u16> {
    if let Some(mark) = mark_in(frame) {
        return Some(mark);
    }
    let (ether_type, packet) = (frame.get(12..14)?, frame.get(14..)?);
    let is_v4 = ether_type == ETHER_IPV4.to_be_bytes();
    // Answers to options carry options.
    let (protocol, header) =
        if is_v4 { (*packet.get(9)?, usize::from(packet[0] & 15) * 4) } else { (*packet.get(6)?, 40) };
    let behind = packet.get(header..)?;
    let number = |at: usize| Some(u16::from_be_bytes(behind.get(at..at + 2)?.try_into().ok()?));
    match protocol {
        TCP | UDP => number(2)?.checked_sub(PORTS).filter(|mark| *mark < MARKS),
        // The identification, or the low half of the flow label, behind 8 bytes of ICMP.
        1 => number(8 + 4),
        58 => number(8 + 2),
        _ => None,
    }
}

/// Whether a frame is ARP or neighbour discovery (RFC 4861 §4) or a multicast listener report: what any host on a link
/// has to say to be found.
pub(crate) fn is_link_upkeep(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x06]) => true,
        Some([0x86, 0xdd]) => match frame.get(20) {
            Some(58) => matches!(frame.get(54), Some(133..=137)),
            // A listener report comes behind a hop-by-hop header (RFC 3810 §5).
            Some(0) => matches!(frame.get(62), Some(143)),
            Some(_) | None => false,
        },
        Some(_) | None => false,
    }
}
