//! IEEE 802.3 and 802.1Q, and what can stand between them and IP.

use super::{Carries, Frame, network, number};

/// Customer and service tags (IEEE 802.1Q §9.6), and the number that was used before service tags had one.
const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const PPPOE_SESSION: u16 = 0x8864;

/// EtherTypes behind which a whole packet or frame lies.
const WRAPPERS: [(u16, &str); 14] = [
    (0x8847, "MPLS (RFC 5332)"),
    (0x8848, "MPLS, upstream labels (RFC 5332)"),
    (0x6558, "transparent Ethernet bridging (RFC 1701)"),
    (0x88e5, "MACsec (IEEE 802.1AE)"),
    (0x88e7, "provider backbone bridging (IEEE 802.1ah)"),
    (0x892f, "HSR (IEC 62439-3)"),
    (0x88fb, "PRP (IEC 62439-3)"),
    (0x894f, "NSH (RFC 8300)"),
    (0x22f3, "TRILL (RFC 6325)"),
    (0x4305, "batman-adv"),
    (0x880b, "PPP (RFC 7042 Appendix B)"),
    (0x8926, "VN-Tag"),
    (0x893f, "E-TAG (IEEE 802.1BR)"),
    (0xed3e, "IFE (RFC 8013)"),
];

/// Lowest EtherType (IEEE 802.3 §3.2.6); a smaller number is a length, to Linux those above 1500 too
/// (`eth_proto_is_802_3`).
const LOWEST_TYPE: u16 = 0x0600;

pub(super) fn frame(bytes: &[u8]) -> Frame {
    let mut tags = Vec::new();
    let mut at = 12;
    let carries = loop {
        let Some(kind) = number(bytes, at) else { break Carries::Cut };
        at += 2;
        if !TAGS.contains(&kind) {
            break behind(kind, &bytes[at..]);
        }
        if tags.len() == 2 {
            break Carries::ThirdTag;
        }
        tags.push(kind);
        at += 2;
    };
    Frame { tags, carries }
}

fn behind(kind: u16, bytes: &[u8]) -> Carries {
    match kind {
        IPV4 => network::v4(bytes),
        IPV6 => network::v6(bytes),
        PPPOE_SESSION => session(bytes),
        _ if kind < LOWEST_TYPE => logical_link(kind, bytes),
        _ => wrapper(kind).map_or(Carries::NotIp(kind), Carries::Wrapper),
    }
}

fn wrapper(kind: u16) -> Option<&'static str> {
    WRAPPERS.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

/// RFC 2516: six bytes, then PPP. RFC 1661 §2: protocols from 0x8000 on are control protocols; an odd first byte is a
/// compressed number, and those carry data.
fn session(bytes: &[u8]) -> Carries {
    let Some(protocol) = number(bytes, 6) else { return Carries::Cut };
    let is_compressed = protocol & 0x0100 != 0;
    if protocol >= 0x8000 && !is_compressed { Carries::NotIp(PPPOE_SESSION) } else { Carries::Wrapper("PPPoE") }
}

/// IEEE 802.2: LLC, where 0x06 is IP on either side (RFC 948) and 0xaa is SNAP, whose type is an EtherType if its organisation is zero
/// (RFC 1042) or 0x0000f8 (IEEE 802.1H).
fn logical_link(length: u16, bytes: &[u8]) -> Carries {
    let Some([to, from]) = bytes.first_chunk::<2>() else { return Carries::Cut };
    match (to, from) {
        (0x06, _) | (_, 0x06) => Carries::Wrapper("IP in LLC"),
        (0xaa, _) => match (bytes.get(3..6), number(bytes, 6)) {
            (Some([0, 0, 0 | 0xf8]), Some(kind)) => {
                let could_carry =
                    TAGS.contains(&kind) || [IPV4, IPV6, PPPOE_SESSION].contains(&kind) || wrapper(kind).is_some();
                if could_carry { Carries::Wrapper("SNAP") } else { Carries::NotIp(length) }
            }
            (Some(_), Some(_)) => Carries::NotIp(length),
            _ => Carries::Cut,
        },
        _ => Carries::NotIp(length),
    }
}
