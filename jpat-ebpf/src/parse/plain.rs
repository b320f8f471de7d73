//! The shape of nearly every packet, read in one go: no tag, no IPv4 option or extension header, whole, TCP or UDP, and
//! with lengths that fit. It says what the long way says of such a packet, and nothing of any other.

use jpat_common::{addr, settings::Protocol};

use super::{Addresses, Carries, Packet, Segment};
use crate::frame::Cursor;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const TCP: usize = 20;
const UDP: usize = 8;

const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

/// Reads a frame of that shape.
#[inline(always)]
pub(super) fn parse<'a>(frame: &Cursor<'a>) -> Option<Packet<'a>> {
    // The shortest: IPv4 and UDP.
    let &[_, _, _, _, _, _, _, _, _, _, _, _, type0, type1, version, ..] = frame.peek::<{ ETHERNET + IPV4 + UDP }>()?;
    match ([type0, type1], version) {
        ([0x08, 0x00], 0x45) => ipv4(frame),
        ([0x86, 0xdd], 0x60..=0x6f) => ipv6(frame),
        _ => None,
    }
}

#[inline(always)]
fn ipv4<'a>(frame: &Cursor<'a>) -> Option<Packet<'a>> {
    let header = frame.peek::<{ ETHERNET + IPV4 }>()?;
    let header: &[u8; IPV4] = header.last_chunk()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    // More fragments, or an offset.
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 || length < IPV4 {
        return None;
    }
    let addresses = Addresses::Ipv4(header.last_chunk()?);
    transport::<{ ETHERNET + IPV4 + TCP }, { ETHERNET + IPV4 + UDP }>(frame, addresses, header[9], length - IPV4)
}

#[inline(always)]
fn ipv6<'a>(frame: &Cursor<'a>) -> Option<Packet<'a>> {
    let header = frame.peek::<{ ETHERNET + IPV6 }>()?;
    let header: &[u8; IPV6] = header.last_chunk()?;
    let addresses = Addresses::Ipv6(header.last_chunk()?);
    if addr::is_v4(&addresses.source()) || addr::is_v4(&addresses.destination()) {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    transport::<{ ETHERNET + IPV6 + TCP }, { ETHERNET + IPV6 + UDP }>(frame, addresses, header[6], length)
}

/// Reads the transport header, which ends at `TCP_END` or `UDP_END` bytes of the frame. `length` is that of header and
/// payload.
#[inline(always)]
fn transport<'a, const TCP_END: usize, const UDP_END: usize>(
    frame: &Cursor<'a>,
    addresses: Addresses<'a>,
    protocol: u8,
    length: usize,
) -> Option<Packet<'a>> {
    let mut payload = *frame;
    payload.skip(UDP_END - UDP)?;
    payload.limit(length)?;
    let segment = match protocol {
        PROTOCOL_TCP => {
            let header: &[u8; TCP] = frame.peek::<TCP_END>()?.last_chunk()?;
            let header_length = usize::from(header[12] >> 4) * 4;
            if length < TCP || header_length < TCP || header_length > length {
                return None;
            }
            Segment {
                protocol: Protocol::Tcp,
                source_port: [header[0], header[1]],
                port: [header[2], header[3]],
                flags: header[13],
                is_first_fragment: false,
                fault: None,
            }
        }
        PROTOCOL_UDP => {
            let header: &[u8; UDP] = frame.peek::<UDP_END>()?.last_chunk()?;
            let datagram = usize::from(u16::from_be_bytes([header[4], header[5]]));
            if datagram < UDP || datagram > length {
                return None;
            }
            payload.skip(UDP)?;
            payload.limit(datagram - UDP)?;
            Segment {
                protocol: Protocol::Udp,
                source_port: [header[0], header[1]],
                port: [header[2], header[3]],
                flags: 0,
                is_first_fragment: false,
                fault: None,
            }
        }
        _ => return None,
    };
    Some(Packet { addresses, carries: Carries::Segment, segment, payload })
}
