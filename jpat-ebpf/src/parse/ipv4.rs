//! IPv4 (RFC 791), and AH (RFC 4302) in front of the transport header.

use jpat_common::reason::DropReason;

use super::{Addresses, Carries, MAX_EXTENSIONS, Packet, transport};
use crate::frame::Cursor;

const HEADER: usize = 20;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Reads the packet at `packet.payload`; fills in its addresses as soon as they are there.
#[inline(always)]
pub(super) fn parse(packet: &mut Packet<'_>) -> Result<Carries, DropReason> {
    let at = &mut packet.payload;
    let header = at.peek::<HEADER>().ok_or(DropReason::TruncatedL3)?;
    if header[0] >> 4 != 4 {
        return Err(DropReason::BadIpHeader);
    }
    packet.addresses = header.last_chunk().map_or(Addresses::Unknown, Addresses::Ipv4);

    let header_length = usize::from(header[0] & 0x0f) * 4;
    if header_length < HEADER {
        return Err(DropReason::BadIpHeader);
    }
    if !at.holds(header_length) {
        return Err(DropReason::TruncatedL3);
    }
    let total_length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    at.limit(total_length).ok_or(DropReason::BadIpLength)?;
    at.skip(header_length).ok_or(DropReason::BadIpLength)?;

    let fragment = u16::from_be_bytes([header[6], header[7]]);
    if fragment & FRAGMENT_OFFSET != 0 {
        return Ok(Carries::LaterFragment);
    }
    let protocol = skip_authentication(header[9], at)?;
    Ok(transport::parse(packet, protocol, transport::ICMP, fragment & MORE_FRAGMENTS != 0))
}

#[inline(always)]
fn skip_authentication(mut protocol: u8, at: &mut Cursor<'_>) -> Result<u8, DropReason> {
    let mut headers = 0;
    while protocol == transport::AUTHENTICATION {
        if headers == MAX_EXTENSIONS {
            return Err(DropReason::TooManyExtensions);
        }
        headers += 1;
        at.join_ways();
        protocol = transport::skip_authentication(at)?;
    }
    Ok(protocol)
}
