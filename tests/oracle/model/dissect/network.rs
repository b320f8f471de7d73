//! RFC 791 and RFC 8200.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jpat_common::reason::DropReason;

use super::{Carries, Inside, Packet, number, transport};

/// Most extension headers that are followed.
const MOST_HEADERS: usize = 6;

const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
/// Next headers that are extension headers (IANA, "IPv6 Extension Header Types") and say how long they are in the
/// clear: hop-by-hop, routing, fragment, AH, destination options, mobility, HIP, shim6.
const EXTENSIONS: [u8; 8] = [0, ROUTING, FRAGMENT, AUTHENTICATION, 60, 135, 139, 140];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Four,
    Six,
}

/// An IPv4 packet.
pub(super) fn v4(bytes: &[u8]) -> Carries {
    let Some(header) = bytes.first_chunk::<20>() else { return Carries::CutHeader };
    if header[0] >> 4 != 4 {
        return Carries::OtherVersion(header[0] >> 4);
    }
    let address = |at: usize| IpAddr::from(Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]));
    let field = u16::from_be_bytes([header[6], header[7]]);
    let (offset, more) = (usize::from(field & 0x1fff) * 8, field & 0x2000 != 0);
    let mut packet = Packet {
        source: address(12),
        destination: address(16),
        headers: Vec::new(),
        fragment: (offset != 0 || more).then_some((offset, more)),
        inside: Ok(Inside::LaterFragment),
    };
    packet.inside = inside_v4(bytes, header, &mut packet);
    Carries::Packet(packet)
}

fn inside_v4(bytes: &[u8], header: &[u8; 20], packet: &mut Packet) -> Result<Inside, DropReason> {
    let length = usize::from(header[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if length < 20 {
        return Err(DropReason::BadIpHeader);
    }
    if length > bytes.len() {
        return Err(DropReason::TruncatedL3);
    }
    if total < length || total > bytes.len() {
        return Err(DropReason::BadIpLength);
    }
    if packet.fragment.is_some_and(|(offset, _)| offset != 0) {
        return Ok(Inside::LaterFragment);
    }
    follow(Version::Four, header[9], &bytes[length..total], packet)
}

/// An IPv6 packet.
pub(super) fn v6(bytes: &[u8]) -> Carries {
    let Some(header) = bytes.first_chunk::<40>() else { return Carries::CutHeader };
    if header[0] >> 4 != 6 {
        return Carries::OtherVersion(header[0] >> 4);
    }
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&header[at..at + 16]);
        Ipv6Addr::from(octets)
    };
    let (source, destination) = (address(8), address(24));
    let mut packet = Packet {
        source: source.into(),
        destination: destination.into(),
        headers: Vec::new(),
        fragment: None,
        inside: Err(DropReason::MappedAddress),
    };
    if source.to_ipv4_mapped().is_none() && destination.to_ipv4_mapped().is_none() {
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        packet.inside = match bytes[40..].get(..length) {
            Some(payload) => follow(Version::Six, header[6], payload, &mut packet),
            None => Err(DropReason::BadIpLength),
        };
    }
    Carries::Packet(packet)
}

/// Follows the chain of headers up to the transport header.
fn follow(version: Version, mut kind: u8, mut rest: &[u8], packet: &mut Packet) -> Result<Inside, DropReason> {
    while is_extension(version, kind) {
        if packet.headers.len() == MOST_HEADERS {
            return Err(DropReason::TooManyExtensions);
        }
        // What the first bytes of a header show counts before what its length shows.
        if kind == ROUTING && rest.len() >= 8 && rest[2] == 0 {
            return Err(DropReason::RoutingHeader0);
        }
        let Some((header, behind)) = split(kind, rest) else { return Err(DropReason::TruncatedExtension) };
        packet.headers.push(kind);
        rest = behind;
        if kind == FRAGMENT {
            if packet.fragment.is_some() {
                return Err(DropReason::SecondFragmentHeader);
            }
            let field = number(header, 2).unwrap_or(0);
            let (offset, more) = (usize::from(field & 0xfff8), field & 1 == 1);
            packet.fragment = Some((offset, more));
            if offset != 0 {
                return later_v6(offset, more, rest.len());
            }
        }
        kind = header[0];
    }
    transport::inside(version, kind, rest, packet.is_first_fragment())
}

/// RFC 4302 puts AH into IPv4 as well; nothing else of the chain.
fn is_extension(version: Version, kind: u8) -> bool {
    match version {
        Version::Four => kind == AUTHENTICATION,
        Version::Six => EXTENSIONS.contains(&kind),
    }
}

/// The header of `kind` at the start of `bytes`, and what is behind it. Lengths count 8 bytes without the first 8, in AH
/// 4 bytes without the first 8 (RFC 4302 §2.2); a fragment header has 8.
fn split(kind: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let stated = usize::from(*bytes.get(1)?);
    let length = match kind {
        FRAGMENT => 8,
        AUTHENTICATION => (stated + 2) * 4,
        _ => (stated + 1) * 8,
    };
    bytes.split_at_checked(length)
}

/// RFC 8200 §4.5: but the last, a fragment holds a multiple of 8 bytes, and none reaches beyond byte 65535.
fn later_v6(offset: usize, more: bool, length: usize) -> Result<Inside, DropReason> {
    if (more && !length.is_multiple_of(8)) || offset + length > 65_535 {
        return Err(DropReason::MalformedFragment);
    }
    Ok(Inside::LaterFragment)
}
