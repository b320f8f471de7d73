//! What lies in front of an IP header: Ethernet, VLAN tags and other encapsulations, or nothing.

use jpat_common::reason::DropReason;

use crate::frame::Cursor;

const MAC_ADDRESSES: usize = 12;
const MAX_TAGS: usize = 2;
/// From here on the field is an EtherType (IEEE 802.3 §3.2.6). Below, an LLC header follows; Linux takes that also for
/// 1501 to 1535, which the standard leaves undefined (`eth_proto_is_802_3`).
const MIN_TYPE: u16 = 0x0600;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// IEEE 802.1Q.
const C_TAG: u16 = 0x8100;
/// IEEE 802.1ad.
const S_TAG: u16 = 0x88a8;
/// Used for the outer tag before 802.1ad.
const OLD_S_TAG: u16 = 0x9100;
const PPPOE_SESSION: u16 = 0x8864;

/// EtherTypes below which a device of the host may find IP: MPLS (unicast, multicast), batman-adv, MACsec, the I-TAG
/// of provider backbone bridges, HSR, PRP, NSH, TRILL, Ethernet in Ethernet, PPP, VN-Tag, E-TAG, and IFE.
const ENCAPSULATIONS: [u16; 14] =
    [0x8847, 0x8848, 0x4305, 0x88e5, 0x88e7, 0x892f, 0x88fb, 0x894f, 0x22f3, 0x6558, 0x880b, 0x8926, 0x893f, 0xed3e];

/// PPP protocol numbers from here on are control protocols (RFC 1661 §2); below lies network layer traffic.
const PPP_CONTROL: u16 = 0x8000;
/// Set in the first byte of a number that is compressed to it (RFC 1661 §6.5); its other byte is 0.
const PPP_COMPRESSED: u16 = 0x0100;

/// LLC service access points for SNAP and for IP (RFC 1042).
const LSAP_SNAP: u8 = 0xaa;
const LSAP_IP: u8 = 0x06;

/// What an Ethernet frame carries.
pub(super) enum Network {
    Ipv4,
    Ipv6,
    Other,
}

/// Goes to the network layer below up to two VLAN tags.
#[inline(always)]
pub(super) fn network_layer(at: &mut Cursor<'_>) -> Result<Network, DropReason> {
    at.skip(MAC_ADDRESSES).ok_or(DropReason::TruncatedL2)?;
    let mut ether_type;
    let mut tags = 0;
    loop {
        ether_type = u16::from_be_bytes(*at.take().ok_or(DropReason::TruncatedL2)?);
        if !is_tag(ether_type) {
            break;
        }
        if tags == MAX_TAGS {
            return Err(DropReason::TooManyTags);
        }
        tags += 1;
        at.skip(2).ok_or(DropReason::TruncatedL2)?;
    }
    match ether_type {
        IPV4 => Ok(Network::Ipv4),
        IPV6 => Ok(Network::Ipv6),
        _ if could_carry_ip(ether_type, at)? => Err(DropReason::L2Encapsulation),
        _ => Ok(Network::Other),
    }
}

/// Tells the network layer by the IP version, where there is no other header.
#[inline(always)]
pub(super) fn version(at: &Cursor<'_>) -> Result<Network, DropReason> {
    let &[first] = at.peek().ok_or(DropReason::TruncatedL3)?;
    match first >> 4 {
        4 => Ok(Network::Ipv4),
        6 => Ok(Network::Ipv6),
        _ => Err(DropReason::BadIpHeader),
    }
}

#[inline(always)]
const fn is_tag(ether_type: u16) -> bool {
    matches!(ether_type, C_TAG | S_TAG | OLD_S_TAG)
}

#[inline(always)]
fn could_carry_ip(ether_type: u16, at: &Cursor<'_>) -> Result<bool, DropReason> {
    if ether_type == PPPOE_SESSION {
        // RFC 2516 §4: version, type, code, session, length; then the PPP protocol number.
        let header = at.peek::<8>().ok_or(DropReason::TruncatedL2)?;
        let number = u16::from_be_bytes([header[6], header[7]]);
        return Ok(number < PPP_CONTROL || number & PPP_COMPRESSED != 0);
    }
    if ether_type < MIN_TYPE {
        return llc_could_carry_ip(at);
    }
    Ok(ENCAPSULATIONS.contains(&ether_type))
}

#[inline(always)]
fn llc_could_carry_ip(at: &Cursor<'_>) -> Result<bool, DropReason> {
    let Some(&[destination, source]) = at.peek::<2>() else {
        return Err(DropReason::TruncatedL2);
    };
    if destination == LSAP_IP || source == LSAP_IP {
        return Ok(true);
    }
    if destination != LSAP_SNAP {
        return Ok(false);
    }
    let header = at.peek::<8>().ok_or(DropReason::TruncatedL2)?;
    // Only these two organisation codes are followed by an EtherType (RFC 1042, IEEE 802.1H).
    if !matches!([header[3], header[4], header[5]], [0, 0, 0 | 0xf8]) {
        return Ok(false);
    }
    let inner = u16::from_be_bytes([header[6], header[7]]);
    Ok(matches!(inner, IPV4 | IPV6 | PPPOE_SESSION) || is_tag(inner) || ENCAPSULATIONS.contains(&inner))
}
