//! A second reading of frames, independent of the parser and more lenient than any stack: it opens encapsulations
//! without end and forgives every length, to find the segment that somebody could deliver.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A segment that somebody could deliver.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) is_udp: bool,
    pub(crate) port: u16,
    pub(crate) is_fragment: bool,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// What could be delivered of an Ethernet frame on its own.
pub(crate) fn delivery(frame: &[u8]) -> Option<Delivery> {
    ether_type(frame.get(12..)?)
}

fn ether_type(bytes: &[u8]) -> Option<Delivery> {
    let behind = bytes.get(2..)?;
    match u16_at(bytes, 0)? {
        0x0800 | 0x86dd => ip(behind),
        0x8100 | 0x88a8 | 0x9100 => ether_type(behind.get(2..)?),
        0x8847 | 0x8848 => {
            let bottom = behind.chunks_exact(4).position(|label| label[2] & 1 == 1)?;
            ip(behind.get((bottom + 1) * 4..)?)
        }
        0x8864 => matches!(u16_at(behind, 6)?, 0x0021 | 0x0057).then(|| ip(behind.get(8..)?))?,
        length if length <= 1500 && [0, 0xf8].iter().any(|code| behind.starts_with(&[0xaa, 0xaa, 3, 0, 0, *code])) => {
            ether_type(behind.get(6..)?)
        }
        length if length <= 1500 && behind.starts_with(&[6, 6]) => ip(behind.get(3..)?),
        _ => None,
    }
}

fn ip(packet: &[u8]) -> Option<Delivery> {
    match packet.first()? >> 4 {
        4 => ipv4(packet),
        6 => ipv6(packet),
        _ => None,
    }
}

fn ipv4(packet: &[u8]) -> Option<Delivery> {
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?).into());
    let (source, destination) = (address(12)?, address(16)?);
    let field = u16_at(packet, 6)?;
    if field & 0x1fff != 0 {
        return None;
    }
    let (mut protocol, mut at) = (packet[9], usize::from(packet[0] & 15) * 4);
    while protocol == 51 {
        protocol = *packet.get(at)?;
        at += (usize::from(*packet.get(at + 1)?) + 2) * 4;
    }
    segment(source, destination, protocol, packet.get(at..)?, field & 0x2000 != 0)
}

fn ipv6(packet: &[u8]) -> Option<Delivery> {
    let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?).into());
    let (source, destination) = (address(8)?, address(24)?);
    let (mut next, mut at, mut is_fragment) = (packet[6], 40, false);
    loop {
        let length = |unit: usize, more: usize| Some((usize::from(*packet.get(at + 1)?) + more) * unit);
        let size = match next {
            0 | 43 | 60 | 135 | 139 | 140 => length(8, 1)?,
            51 => length(4, 2)?,
            44 => {
                let field = u16_at(packet, at + 2)?;
                if field >> 3 != 0 {
                    return None;
                }
                is_fragment |= field & 1 == 1;
                8
            }
            _ => return segment(source, destination, next, packet.get(at..)?, is_fragment),
        };
        next = *packet.get(at)?;
        at += size;
    }
}

fn segment(source: IpAddr, destination: IpAddr, protocol: u8, bytes: &[u8], is_fragment: bool) -> Option<Delivery> {
    let is_udp = match protocol {
        6 => false,
        17 => true,
        _ => return None,
    };
    Some(Delivery { source, destination, is_udp, port: u16_at(bytes, 2)?, is_fragment })
}
