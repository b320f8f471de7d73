//! IPv6 and its extension headers (RFC 8200).

use jpat_common::{addr, reason::DropReason};

use super::{Addresses, Carries, MAX_EXTENSIONS, Packet, transport};

const MAX_PAYLOAD: usize = 65_535;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// RFC 6275.
const MOBILITY: u8 = 135;
/// RFC 7401.
const HIP: u8 = 139;
/// RFC 5533.
const SHIM6: u8 = 140;

/// Reads the packet at `packet.payload`; fills in its addresses as soon as they are there.
#[inline(always)]
pub(super) fn parse(packet: &mut Packet<'_>) -> Result<Carries, DropReason> {
    let at = &mut packet.payload;
    let fields = at.take::<8>().ok_or(DropReason::TruncatedL3)?;
    let addresses = at.take::<32>().ok_or(DropReason::TruncatedL3)?;
    if fields[0] >> 4 != 6 {
        return Err(DropReason::BadIpHeader);
    }
    packet.addresses = Addresses::Ipv6(addresses);
    // On the wire they mean nothing (RFC 4291 §2.5.5.2), and in the tables they would be taken for IPv4.
    if addr::is_v4(&packet.addresses.source()) || addr::is_v4(&packet.addresses.destination()) {
        return Err(DropReason::MappedAddress);
    }
    at.limit(usize::from(u16::from_be_bytes([fields[4], fields[5]]))).ok_or(DropReason::BadIpLength)?;
    extensions(packet, fields[6])
}

#[inline(always)]
fn extensions(packet: &mut Packet<'_>, first: u8) -> Result<Carries, DropReason> {
    let at = &mut packet.payload;
    let mut next = first;
    let mut seen_fragment = false;
    let mut is_first_fragment = false;
    let mut headers = 0;
    while is_extension(next) {
        if headers == MAX_EXTENSIONS {
            return Err(DropReason::TooManyExtensions);
        }
        headers += 1;
        at.join_ways();
        if next == transport::AUTHENTICATION {
            next = transport::skip_authentication(at)?;
            continue;
        }
        // Next header, length, and the type of a routing header; or next header, reserved, offset and flag.
        let header = at.peek::<8>().ok_or(DropReason::TruncatedExtension)?;
        let mut size = 8;
        if next == FRAGMENT {
            if seen_fragment {
                return Err(DropReason::SecondFragmentHeader);
            }
            seen_fragment = true;
            let field = u16::from_be_bytes([header[2], header[3]]);
            let more = field & 1 != 0;
            let offset = usize::from(field & !7);
            if offset != 0 {
                return later_fragment(offset, at.left() - size, more);
            }
            is_first_fragment = more;
        } else {
            if next == ROUTING && header[2] == 0 {
                return Err(DropReason::RoutingHeader0);
            }
            size += usize::from(header[1]) * 8;
        }
        next = header[0];
        at.skip(size).ok_or(DropReason::TruncatedExtension)?;
    }
    Ok(transport::parse(packet, next, transport::ICMPV6, is_first_fragment))
}

#[inline(always)]
const fn is_extension(next: u8) -> bool {
    matches!(
        next,
        HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6 | transport::AUTHENTICATION
    )
}

/// A stack answers these two faults with a Parameter Problem (RFC 8200 §4.5), even to a lone later fragment.
#[inline(always)]
const fn later_fragment(offset: usize, length: usize, more: bool) -> Result<Carries, DropReason> {
    if (more && !length.is_multiple_of(8)) || offset + length > MAX_PAYLOAD {
        return Err(DropReason::MalformedFragment);
    }
    Ok(Carries::LaterFragment)
}
