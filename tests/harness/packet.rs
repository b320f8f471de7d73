//! Builders of frames, from the inside out: a segment, an IP packet around it, a frame around that.

/// IP protocol and next-header numbers (IANA).
pub const HOP_BY_HOP: u8 = 0;
/// ICMP.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// IPv6 routing header.
pub const ROUTING: u8 = 43;
/// IPv6 fragment header.
pub const FRAGMENT: u8 = 44;
/// Authentication header.
pub const AUTHENTICATION: u8 = 51;
/// ICMPv6.
pub const ICMPV6: u8 = 58;
/// IPv6 destination options.
pub const DESTINATION_OPTIONS: u8 = 60;
/// Mobility header.
pub const MOBILITY: u8 = 135;
/// Host Identity Protocol.
pub const HIP: u8 = 139;
/// Shim6.
pub const SHIM6: u8 = 140;

/// EtherType of IPv4.
pub const ETHER_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHER_IPV6: u16 = 0x86dd;

/// TCP flags.
pub const SYN: u8 = 0x02;
/// TCP flags.
pub const ACK: u8 = 0x10;
/// A client's port in every segment.
pub const CLIENT_PORT: u16 = 40_000;

/// A TCP segment without options; `flags` as on the wire.
pub fn tcp(port: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = [CLIENT_PORT.to_be_bytes(), port.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    segment
}

/// A UDP datagram without a checksum.
pub fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 8).unwrap_or(u16::MAX);
    let mut datagram = [CLIENT_PORT, port, length, 0].map(u16::to_be_bytes).concat();
    datagram.extend(payload);
    datagram
}

/// An IPv4 packet; `fragment` holds flags and offset as on the wire, `options` are padded to 4 bytes.
pub fn ipv4(
    source: [u8; 4],
    destination: [u8; 4],
    protocol: u8,
    fragment: u16,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut options = options.to_vec();
    options.resize(options.len().next_multiple_of(4), 0);
    let length = 20 + options.len();
    let mut packet = vec![0x40 | (length / 4) as u8, 0];
    packet.extend(((length + payload.len()) as u16).to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend(options);
    let checksum = checksum(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(payload);
    packet
}

/// The Internet checksum (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv6 packet.
pub fn ipv6(source: [u8; 16], destination: [u8; 16], next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend(payload);
    packet
}

/// What `kind` and `payload` become with the extension headers of `kinds` in front: the first header's number, and the
/// bytes. Each has the smallest form of its kind; fragment headers are atomic.
pub fn extended(kinds: &[u8], kind: u8, payload: &[u8]) -> (u8, Vec<u8>) {
    kinds.iter().rev().fold((kind, payload.to_vec()), |(next, behind), &header| {
        let mut bytes = match header {
            // 24 bytes: (4 + 2) words.
            AUTHENTICATION => [[next, 4].as_slice(), &[0; 22]].concat(),
            FRAGMENT => vec![next, 0, 0, 0, 0, 0, 0, 7],
            // Type 2, nothing left.
            ROUTING => [[next, 2, 2, 0].as_slice(), &[0; 20]].concat(),
            // A padding option of 4 bytes.
            _ => vec![next, 0, 1, 4, 0, 0, 0, 0],
        };
        bytes.extend(behind);
        (header, bytes)
    })
}

/// An IPv6 fragment header in front of `payload`; `offset` in bytes.
pub fn fragment(next: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![next, 0];
    bytes.extend((offset & !7 | u16::from(more)).to_be_bytes());
    bytes.extend([0, 0, 0, 9]);
    bytes.extend(payload);
    bytes
}

/// An Ethernet frame.
pub fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The frame with one more VLAN tag outside.
pub fn tagged(tpid: u16, vlan: u16, frame: &[u8]) -> Vec<u8> {
    let tag = [tpid.to_be_bytes(), vlan.to_be_bytes()].concat();
    [&frame[..12], &tag, &frame[12..]].concat()
}
