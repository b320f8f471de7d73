//! IPv4 (RFC 791), and AH (RFC 4302) in front of the transport header.

use jpat_common::reason::DropReason;

use super::{Addresses, Carries, MAX_EXTENSIONS, Packet, transport};
use crate::frame::Cursor;

const HEADER: usize = 20;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Reads the packet at `at`; an error where its addresses cannot be read.
#[inline(always)]
pub(super) fn packet(at: Cursor<'_>) -> Result<Packet<'_>, DropReason> {
    let header = at.peek::<HEADER>().ok_or(DropReason::TruncatedL3)?;
    let (fields, addresses) = header.split_first_chunk::<12>().ok_or(DropReason::TruncatedL3)?;
    let (addresses, _) = addresses.split_first_chunk::<8>().ok_or(DropReason::TruncatedL3)?;
    if fields[0] >> 4 != 4 {
        return Err(DropReason::BadIpHeader);
    }
    Ok(Packet {
        addresses: Addresses::Ipv4(addresses),
        carries: carried(at, fields).unwrap_or_else(Carries::Malformed),
    })
}

#[inline(always)]
fn carried<'a>(at: Cursor<'a>, header: &[u8; 12]) -> Result<Carries<'a>, DropReason> {
    let header_length = usize::from(header[0] & 0x0f) * 4;
    if header_length < HEADER {
        return Err(DropReason::BadIpHeader);
    }
    if !at.holds(header_length) {
        return Err(DropReason::TruncatedL3);
    }
    let total_length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let packet = at.limit(total_length).ok_or(DropReason::BadIpLength)?;
    let payload = packet.skip(header_length).ok_or(DropReason::BadIpLength)?;

    let fragment = u16::from_be_bytes([header[6], header[7]]);
    if fragment & FRAGMENT_OFFSET != 0 {
        return Ok(Carries::LaterFragment);
    }
    let (protocol, payload) = behind_authentication(header[9], payload)?;
    Ok(transport::carried(payload, protocol, transport::ICMP, fragment & MORE_FRAGMENTS != 0))
}

#[inline(always)]
fn behind_authentication(mut protocol: u8, mut at: Cursor<'_>) -> Result<(u8, Cursor<'_>), DropReason> {
    let mut headers = 0;
    while protocol == transport::AUTHENTICATION {
        if headers == MAX_EXTENSIONS {
            return Err(DropReason::TooManyExtensions);
        }
        headers += 1;
        (protocol, at) = transport::behind_authentication(at)?;
    }
    Ok((protocol, at))
}
