//! RFC 9293 and RFC 768, and every other protocol by its number.

use jpat_common::reason::DropReason;

use super::{Inside, Tcp, Udp, network::Version, number};

/// Protocols in which packets lie: IPIP, 6in4, GRE, ESP, minimal encapsulation, the older IPIP, EtherIP, IPComp, L2TP,
/// MPLS, Ethernet (IANA, "Assigned Internet Protocol Numbers").
const TUNNELS: [u8; 11] = [4, 41, 47, 50, 55, 94, 97, 108, 115, 137, 143];

/// What `rest` is as a `kind`; of a first fragment, the whole header must be in it, of TCP its fixed part (as Linux has it
/// in `ipv6frag_thdr_truncated`).
pub(super) fn inside(version: Version, kind: u8, rest: &[u8], first: bool) -> Result<Inside, DropReason> {
    match (version, kind) {
        (_, 6) => tcp(rest).map(Inside::Tcp),
        (_, 17) => udp(rest).map(Inside::Udp),
        (Version::Four, 1) | (Version::Six, 58) => Some(Inside::Icmp),
        _ if TUNNELS.contains(&kind) => Some(Inside::Tunnel(kind)),
        _ => Some(Inside::Other(kind)),
    }
    .ok_or(if first { DropReason::TinyFragment } else { DropReason::TruncatedL4 })
}

fn tcp(bytes: &[u8]) -> Option<Tcp> {
    let header = bytes.first_chunk::<20>()?;
    Some(Tcp {
        from: number(header, 0)?,
        to: number(header, 2)?,
        flags: header[13],
        header: usize::from(header[12] >> 4) * 4,
        length: bytes.len(),
    })
}

fn udp(bytes: &[u8]) -> Option<Udp> {
    let (header, behind) = bytes.split_first_chunk::<8>()?;
    Some(Udp {
        from: number(header, 0)?,
        to: number(header, 2)?,
        stated: usize::from(number(header, 4)?),
        behind: behind.to_vec(),
    })
}
