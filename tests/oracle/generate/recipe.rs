//! What a frame is made of, and the bytes that this gives.

use std::net::IpAddr;

use jpat_tests::packet::{ethernet, ipv4, ipv6, tagged};

use crate::oracle::{dice::Dice, model::dissect::Start};

/// What lies between the MAC addresses and IP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    /// So many of these TPIDs, from the inside.
    Tags(&'static [u16]),
    Mpls,
    /// A PPPoE session with this PPP protocol number, or the packet's own.
    Ppp(Option<u16>),
    /// An LLC header behind a length, or behind the packet's own.
    Llc(Option<u16>, &'static [u8]),
    /// Another EtherType.
    Type(u16),
}

/// SNAP with the EtherType of IPv4.
const SNAP: &[u8] = &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
/// LLC headers of all kinds.
pub(crate) const LLC: [&[u8]; 16] = [
    SNAP,
    &[0xaa, 0xaa, 3, 0, 0, 0xf8, 0x86, 0xdd],
    &[0xaa, 0xaa, 3, 0, 0, 0, 0x81, 0],
    &[0xaa, 0xaa, 3, 0, 0, 0, 0x88, 0x64],
    &[0xaa, 0xaa, 3, 0, 0, 0, 0x88, 0x47],
    &[0xaa, 0xaa, 3, 0, 0, 0, 8, 6],
    &[0xaa, 0xaa, 3, 0, 0, 0, 0, 60],
    &[0xaa, 0xaa, 3, 0, 0, 0x0c, 8, 0],
    &[0xaa, 0xab, 0xf3, 0, 0, 0, 8, 0],
    &[0xab, 0xaa, 3, 0, 0, 0, 8, 0],
    &[6, 6, 3],
    &[6, 0, 3],
    &[0x42, 6, 3],
    &[0x42, 0x42, 3],
    &[0xe0, 0xe0, 3],
    &[0xff, 0xff],
];
/// PPP protocol numbers, some of them compressed into their first byte.
pub(crate) const PPP: [u16; 14] =
    [0x0021, 0x0057, 0x003d, 0x00fd, 0x0281, 0x8021, 0x8057, 0xc021, 0xc223, 0x2145, 0x5760, 0xfd90, 0xc145, 0x7fff];
/// EtherTypes on both sides of every border, and others.
pub(crate) const TYPES: [u16; 28] = [
    0, 1, 60, 0x05dc, 0x05dd, 0x05ff, 0x0600, 0x0806, 0x8847, 0x8848, 0x88e5, 0x88e7, 0x892f, 0x88fb, 0x894f, 0x22f3,
    0x4305, 0x6558, 0x880b, 0x8926, 0x893f, 0xed3e, 0x88cc, 0x8863, 0x8864, 0x9200, 0x88a9, 0xffff,
];

/// Every link layer of the matrix.
pub(crate) const LINKS: [Link; 14] = [
    Link::Tags(&[]),
    Link::Tags(&[0x8100]),
    Link::Tags(&[0x88a8]),
    Link::Tags(&[0x8100, 0x88a8]),
    Link::Tags(&[0x8100, 0x9100]),
    Link::Tags(&[0x8100, 0x8100]),
    Link::Tags(&[0x8100, 0x8100, 0x88a8]),
    Link::Tags(&[0x8100, 0x8100, 0x8100, 0x88a8]),
    Link::Mpls,
    Link::Ppp(None),
    Link::Llc(None, SNAP),
    Link::Llc(None, &[6, 6, 3]),
    Link::Type(0x88e5),
    Link::Type(0x0806),
];

/// An IP header and what follows it up to the transport header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Network {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// Words of options in IPv4.
    pub(crate) options: usize,
    /// Kinds of the extension headers, without fragment headers that [`Piece`] adds.
    pub(crate) headers: Vec<u8>,
}

/// Which part of a packet it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    Whole,
    First,
    Middle,
    Last,
    /// A fragment header that says "all of it"; in IPv4 "do not fragment".
    Atomic,
    /// The first few bytes.
    Tiny,
    /// A later piece that starts inside the transport header.
    Overlap,
    /// Two fragment headers; in IPv4 the reserved flag.
    Double,
}

/// Every piece of the matrix.
pub(crate) const PIECES: [Piece; 8] =
    [Piece::Whole, Piece::First, Piece::Middle, Piece::Last, Piece::Atomic, Piece::Tiny, Piece::Overlap, Piece::Double];

/// A frame before it is put together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Recipe {
    pub(crate) link: Link,
    pub(crate) network: Network,
    pub(crate) piece: Piece,
    pub(crate) protocol: u8,
    pub(crate) upper: Vec<u8>,
}

/// A frame, and where its headers begin in it.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) bytes: Vec<u8>,
    pub(crate) network: usize,
    pub(crate) upper: usize,
}

impl Recipe {
    /// Puts it together; `dice` decide what the recipe leaves open, such as the lengths of extension headers.
    pub(crate) fn make(&self, start: Start, dice: &mut Dice) -> Made {
        let (packet, header) = match (self.network.source, self.network.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (field, upper) = self.cut_v4(dice);
                let (kind, payload) = chain(&self.network.headers, self.protocol, &upper, dice);
                let options = vec![dice.pick(&[0, 1, 1, 7]); self.network.options * 4];
                let packet = ipv4(source.octets(), destination.octets(), kind, field, &options, &payload);
                (packet, payload.len() - upper.len() + 20 + options.len())
            }
            (source, destination) => {
                let octets = |address| match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                    IpAddr::V6(v6) => v6.octets(),
                };
                let (kind, payload) = self.chain_v6(dice);
                let header = 40 + payload.len().saturating_sub(self.upper.len());
                (ipv6(octets(source), octets(destination), kind, &payload), header)
            }
        };
        match start {
            Start::Ip => Made { bytes: packet, network: 0, upper: header },
            Start::Ethernet => {
                let bytes = self.framed(&packet);
                let network = bytes.len() - packet.len();
                Made { bytes, network, upper: network + header }
            }
        }
    }

    fn cut_v4(&self, dice: &mut Dice) -> (u16, Vec<u8>) {
        let whole = self.upper.clone();
        let cut = |length: usize| whole[..length.min(whole.len())].to_vec();
        match self.piece {
            Piece::Whole => (0, whole),
            Piece::First => (0x2000, whole),
            Piece::Middle => (0x2000 | dice.pick(&[2, 3, 0x100, 0x1ffe]), whole),
            Piece::Last => (dice.pick(&[2, 3, 0x100, 0x1fff]), whole),
            Piece::Atomic => (0x4000, whole),
            Piece::Tiny => (0x2000, cut(dice.pick(&[0, 4, 7, 8, 16, 19, 20]))),
            Piece::Overlap => (dice.pick(&[1, 0x2001]), whole),
            Piece::Double => (0x8000, whole),
        }
    }

    fn chain_v6(&self, dice: &mut Dice) -> (u8, Vec<u8>) {
        let headers = &self.network.headers;
        // Before the fragment header and behind it.
        let (outer, inner) = headers.split_at(dice.below(headers.len() + 1));
        let fragment = |dice: &mut Dice, next: u8, offset: u16, more: bool, payload: &[u8]| {
            let field = (offset & !7) | u16::from(more) | (dice.pick(&[0, 0, 2, 6]));
            [&[next, dice.byte()], &field.to_be_bytes()[..], &[0, 0, 0, 9], payload].concat()
        };
        let (next, behind) = chain(inner, self.protocol, &self.upper, dice);
        let padded = |mut bytes: Vec<u8>| {
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            bytes
        };
        let payload = match self.piece {
            Piece::Whole => return chain(headers, self.protocol, &self.upper, dice),
            Piece::First => fragment(dice, next, 0, true, &behind),
            Piece::Middle => {
                let behind = if dice.percent(70) { padded(behind) } else { behind };
                fragment(dice, next, 64, true, &behind)
            }
            Piece::Last => {
                let offset = dice.pick(&[16, 64, 65_528, 65_520]);
                fragment(dice, next, offset, false, &behind)
            }
            Piece::Atomic => fragment(dice, next, 0, false, &behind),
            Piece::Tiny => {
                let length = behind.len().min(dice.pick(&[0, 4, 7, 8, 12, 16, 19, 20]));
                fragment(dice, next, 0, true, &behind[..length])
            }
            Piece::Overlap => fragment(dice, next, 8, false, &behind),
            Piece::Double => {
                let (first, second) = (dice.percent(50), dice.percent(50));
                let inside = fragment(dice, next, 0, second, &behind);
                fragment(dice, 44, 0, first, &inside)
            }
        };
        chain(outer, 44, &payload, dice)
    }

    fn framed(&self, packet: &[u8]) -> Vec<u8> {
        let is_v4 = packet.first().is_some_and(|first| first >> 4 == 4);
        let ether_type: u16 = if is_v4 { 0x0800 } else { 0x86dd };
        let behind = |header: &[u8]| [header, packet].concat();
        match self.link {
            Link::Tags(tags) => tags.iter().fold(ethernet(ether_type, packet), |frame, tpid| tagged(*tpid, 42, &frame)),
            Link::Mpls => ethernet(0x8847, &behind(&[0, 0, 0x11, 64])),
            Link::Ppp(number) => {
                let number = number.unwrap_or(if is_v4 { 0x21 } else { 0x57 }).to_be_bytes();
                ethernet(0x8864, &behind(&[&[0x11, 0, 0, 1, 0, 60], &number[..]].concat()))
            }
            Link::Llc(length, header) => {
                let own = (packet.len() + header.len()).min(1_500) as u16;
                ethernet(length.unwrap_or(own), &behind(header))
            }
            Link::Type(ether_type) => ethernet(ether_type, packet),
        }
    }
}

/// `upper` behind extension headers of `kinds`: the first one's number, and the bytes.
fn chain(kinds: &[u8], protocol: u8, upper: &[u8], dice: &mut Dice) -> (u8, Vec<u8>) {
    kinds.iter().rev().fold((protocol, upper.to_vec()), |(next, behind), kind| {
        let more = if dice.percent(80) { 0 } else { dice.below(5) };
        let mut header = match kind {
            44 => vec![next, 0, 0, 0, 0, 0, 0, 7],
            51 => vec![next, (4 + more) as u8],
            43 => vec![next, more as u8, if dice.percent(3) { 0 } else { dice.pick(&[1, 2, 3, 4, 253]) }, 0],
            _ => vec![next, more as u8, 1, 4],
        };
        let length = match kind {
            44 => 8,
            51 => (4 + more + 2) * 4,
            _ => (more + 1) * 8,
        };
        header.resize(length, 0);
        header.extend(behind);
        (*kind, header)
    })
}
