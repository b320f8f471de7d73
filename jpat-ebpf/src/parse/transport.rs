//! The transport header, and AH, which both IP versions have in front of it.

use jpat_common::{reason::DropReason, settings::Protocol};

use super::{Carries, Packet, Segment};
use crate::frame::Cursor;

pub(super) const ICMP: u8 = 1;
pub(super) const ICMPV6: u8 = 58;
pub(super) const AUTHENTICATION: u8 = 51;
const TCP: u8 = 6;
const UDP: u8 = 17;

const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// Protocols that carry other packets: IPv4, IPv6, GRE, ESP, MOBILE, the old IP-in-IP, EtherIP, IPComp, L2TP, MPLS,
/// Ethernet.
const TUNNELS: [u8; 11] = [4, 41, 47, 50, 55, 94, 97, 108, 115, 137, 143];

/// Reads the header of `protocol` behind the IP headers, where `icmp` is the version's own ICMP. Goes on to a datagram's
/// payload.
#[inline(always)]
pub(super) fn parse(packet: &mut Packet<'_>, protocol: u8, icmp: u8, is_first_fragment: bool) -> Carries {
    let at = &mut packet.payload;
    at.join_ways();
    let segment = match protocol {
        TCP => tcp(at, is_first_fragment),
        UDP => udp(at, is_first_fragment),
        _ if protocol == icmp => return Carries::Icmp,
        _ if TUNNELS.contains(&protocol) => return Carries::Tunnel,
        _ => return Carries::Other,
    };
    match segment {
        Some(segment) => {
            packet.segment = segment;
            Carries::Segment
        }
        None if is_first_fragment => Carries::Malformed(DropReason::TinyFragment),
        None => Carries::Malformed(DropReason::TruncatedL4),
    }
}

#[inline(always)]
fn tcp(at: &Cursor<'_>, is_first_fragment: bool) -> Option<Segment> {
    let header = at.peek::<TCP_HEADER>()?;
    let length = usize::from(header[12] >> 4) * 4;
    Some(Segment {
        protocol: Protocol::Tcp,
        source_port: [header[0], header[1]],
        port: [header[2], header[3]],
        flags: header[13],
        is_first_fragment,
        fault: (length < TCP_HEADER || length > at.left()).then_some(DropReason::BadTcpHeader),
    })
}

#[inline(always)]
fn udp(at: &mut Cursor<'_>, is_first_fragment: bool) -> Option<Segment> {
    let header = at.take::<UDP_HEADER>()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let fits = length >= UDP_HEADER && at.limit(length - UDP_HEADER).is_some();
    Some(Segment {
        protocol: Protocol::Udp,
        source_port: [header[0], header[1]],
        port: [header[2], header[3]],
        flags: 0,
        is_first_fragment,
        fault: (!fits).then_some(DropReason::BadUdpLength),
    })
}

/// Goes behind an authentication header (RFC 4302 §2), whose length counts 4-byte words less two, to the protocol it
/// names.
#[inline(always)]
pub(super) fn skip_authentication(at: &mut Cursor<'_>) -> Result<u8, DropReason> {
    let &[next, words] = at.peek().ok_or(DropReason::TruncatedExtension)?;
    at.skip((usize::from(words) + 2) * 4).ok_or(DropReason::TruncatedExtension)?;
    Ok(next)
}
