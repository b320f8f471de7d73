//! Recipes: each cell of the matrix by its number, and such as chance gives.

use std::net::IpAddr;

use jpat_tests::packet::{tcp, udp};

use super::recipe::{LINKS, LLC, Link, Network, PIECES, PPP, Piece, Recipe, TYPES};
use crate::oracle::{
    dice::Dice,
    model::tables::Transport,
    stage::{DESTINATIONS, FIRST_PORT, FLOW_STATES, FREE_PORT, KNOCK_PORT, PORTS, SENDERS, address},
};

/// Extension headers.
const HEADERS: [u8; 8] = [0, 43, 44, 51, 60, 135, 139, 140];
/// Protocols without ports, with some that carry packets.
const PROTOCOLS: [u8; 20] = [132, 1, 58, 50, 51, 47, 4, 41, 55, 94, 97, 108, 115, 137, 143, 2, 59, 103, 33, 0];
/// UDP destination ports beside those of services: knocks, tunnels, none of them.
const UDP_PORTS: [u16; 14] = [KNOCK_PORT, FREE_PORT, 1701, 2152, 4500, 4790, 6080, 6081, 6635, 8472, 53, 67, 68, 546];

/// IPv4 with 0 to 10 words of options or with AH; IPv6 with 0 to 8 headers of each kind, and mixed.
const NETWORKS: usize = 11 + 8 + 1 + 8 * 8 + 8;
/// 64 combinations of TCP flags, protocols, UDP ports, and source ports that others trust.
const UPPERS: usize = 64 + PROTOCOLS.len() + UDP_PORTS.len() + 4;

/// How many cells the matrix has.
pub(crate) const CELLS: u64 = (LINKS.len() * NETWORKS * PIECES.len() * UPPERS * SENDERS.len()) as u64;

/// The recipe of one cell; `dice` decide what is no axis of the matrix.
pub(crate) fn cell(number: u64, dice: &mut Dice) -> Recipe {
    let mut rest = usize::try_from(number % CELLS).unwrap_or(0);
    let mut axis = |length: usize| {
        let at = rest % length;
        rest /= length;
        at
    };
    let (upper, sender, piece, network, link) =
        (axis(UPPERS), axis(SENDERS.len()), axis(PIECES.len()), axis(NETWORKS), axis(LINKS.len()));
    let (is_v6, options, headers) = match network {
        0..11 => (false, network, Vec::new()),
        11..19 => (false, 0, vec![51; network - 10]),
        19 => (true, 0, Vec::new()),
        20..84 => (true, 0, vec![HEADERS[(network - 20) / 8]; (network - 20) % 8 + 1]),
        _ => (true, 0, (0..network - 83).map(|_| dice.pick(&HEADERS)).collect()),
    };
    let (protocol, upper) = match upper {
        0..64 => {
            let port = if dice.percent(70) { listed(Transport::Tcp, dice) } else { tcp_port(dice) };
            (6, from_port(tcp(port, upper as u8, &payload(dice)), source_port(dice)))
        }
        64..84 => (PROTOCOLS[upper - 64], other(dice)),
        84..98 => (17, from_port(udp(UDP_PORTS[upper - 84], &payload(dice)), source_port(dice))),
        _ => {
            let port = [53, 67, 547, 123][upper - 98];
            let datagram = udp(listed(Transport::Udp, dice), &payload(dice));
            (17, from_port(datagram, port))
        }
    };
    let destination = if dice.percent(70) { 0 } else { dice.below(DESTINATIONS.len()) };
    let network = Network { options, headers, ..network_of(sender, destination, is_v6) };
    Recipe { link: LINKS[link], network, piece: PIECES[piece], protocol, upper }
}

/// A recipe that is mostly sound, for most is seen behind a sound header.
pub(crate) fn any(dice: &mut Dice) -> Recipe {
    let link = match dice.below(100) {
        0..75 => dice.pick(&LINKS[..6]),
        75..85 => dice.pick(&LINKS),
        85..90 => Link::Ppp(Some(if dice.percent(80) { dice.pick(&PPP) } else { dice.number() as u16 })),
        90..95 => Link::Llc(dice.pick(&[None, None, Some(3), Some(0x05dd), Some(0x05ff)]), dice.pick(&LLC)),
        _ => Link::Type(if dice.percent(80) { dice.pick(&TYPES) } else { dice.number() as u16 }),
    };
    let piece = if dice.percent(75) { Piece::Whole } else { dice.pick(&PIECES) };
    let is_v6 = dice.percent(50);
    let options = if dice.percent(80) { 0 } else { dice.below(11) };
    let headers = match dice.below(10) {
        0..7 => Vec::new(),
        _ if is_v6 => (0..dice.below(9)).map(|_| dice.pick(&HEADERS)).collect(),
        _ => vec![51; dice.below(9)],
    };
    let (protocol, upper) = segment(dice);
    let destination = if dice.percent(60) { 0 } else { dice.below(DESTINATIONS.len()) };
    let network = Network { options, headers, ..network_of(dice.below(SENDERS.len()), destination, is_v6) };
    Recipe { link, network, piece, protocol, upper }
}

/// One recipe after the other of what a client and a service say to each other, and of what they never would.
pub(crate) fn conversation(dice: &mut Dice) -> Vec<Recipe> {
    let (transport, port, _) = dice.pick(&PORTS);
    let from = source_port(dice);
    let (sender, is_v6) = (dice.pick(&[0, 0, 0, 1, 2, 3, 5, 6, 7, 8]), dice.percent(50));
    let network = network_of(sender, 0, is_v6);
    let turns = 2 + dice.below(12);
    (0..turns)
        .map(|_| {
            let (protocol, segment) = match transport {
                Transport::Udp => (17, udp(port, &payload(dice))),
                Transport::Tcp => {
                    let usual = [0x02, 0x10, 0x10, 0x18, 0x11, 0x14, 0x04, 0x12, 0x01, 0xc2, 0x52];
                    let flags = if dice.percent(85) { dice.pick(&usual) } else { dice.byte() };
                    (6, tcp(port, flags, &payload(dice)))
                }
            };
            let upper = from_port(segment, from);
            Recipe { link: LINKS[0], network: network.clone(), piece: Piece::Whole, protocol, upper }
        })
        .collect()
}

/// A datagram for the knock port that may be anything but for another; mostly with this payload.
pub(crate) fn any_knock(dice: &mut Dice, knock: Vec<u8>) -> Recipe {
    let mut recipe = any(dice);
    (recipe.link, recipe.protocol) = (dice.pick(&LINKS[..6]), 17);
    recipe.upper = from_port(udp(KNOCK_PORT, &knock), source_port(dice));
    if dice.percent(75) {
        recipe.piece = Piece::Whole;
        let sender = dice.below(8);
        recipe.network = Network {
            headers: recipe.network.headers,
            options: recipe.network.options,
            ..network_of(sender, 0, recipe.network.source.is_ipv6())
        };
    } else if dice.percent(30) {
        recipe.upper = udp(KNOCK_PORT, &vec![dice.byte(); 1_229 + dice.below(20)]);
    } else if dice.percent(50) {
        let length = dice.pick(&[0_u16, 7, 8, 9, 30, 1_240, 1_241, 65_535]);
        recipe.upper[4..6].copy_from_slice(&length.to_be_bytes());
    }
    recipe
}

/// A sound datagram with this payload for the knock port.
pub(crate) fn knock(dice: &mut Dice, payload: Vec<u8>) -> Recipe {
    let upper = from_port(udp(KNOCK_PORT, &payload), source_port(dice));
    let network = network_of(dice.below(8), 0, dice.percent(50));
    Recipe { link: LINKS[0], network, piece: Piece::Whole, protocol: 17, upper }
}

/// A segment or datagram that fits into one frame of up to about `most` bytes.
pub(crate) fn jumbo(dice: &mut Dice, most: usize) -> Recipe {
    let mut recipe = any(dice);
    let length = 1_500 + dice.below(most - 2_000);
    recipe.upper.resize(length, 0xaa);
    if recipe.protocol == 17 {
        recipe.upper[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    }
    recipe
}

fn network_of(sender: usize, destination: usize, is_v6: bool) -> Network {
    let (from, to) = (SENDERS[sender], DESTINATIONS[destination]);
    let (source, destination): (IpAddr, IpAddr) =
        if is_v6 { (address(from.1), address(to.1)) } else { (address(from.0), address(to.0)) };
    Network { source, destination, options: 0, headers: Vec::new() }
}

fn segment(dice: &mut Dice) -> (u8, Vec<u8>) {
    match dice.below(10) {
        0..5 => {
            let segment = tcp(tcp_port(dice), dice.byte(), &payload(dice));
            (6, from_port(segment, source_port(dice)))
        }
        5..9 => {
            let port = if dice.percent(50) { listed(Transport::Udp, dice) } else { dice.pick(&UDP_PORTS) };
            (17, from_port(udp(port, &payload(dice)), source_port(dice)))
        }
        _ => (if dice.percent(60) { dice.pick(&PROTOCOLS) } else { dice.byte() }, other(dice)),
    }
}

fn tcp_port(dice: &mut Dice) -> u16 {
    match dice.below(10) {
        0..8 => listed(Transport::Tcp, dice),
        8 => FREE_PORT,
        _ => dice.pick(&[8442, 8444, 23, 0, 65_535, 1337]),
    }
}

fn listed(transport: Transport, dice: &mut Dice) -> u16 {
    loop {
        let (of, port, _) = dice.pick(&PORTS);
        if of == transport {
            break port;
        }
    }
}

fn source_port(dice: &mut Dice) -> u16 {
    match dice.below(20) {
        0..13 => FIRST_PORT + dice.below(usize::from(FLOW_STATES)) as u16,
        13..16 => dice.pick(&[53, 67, 68, 22, 0]),
        _ => 50_000 + dice.below(64) as u16,
    }
}

fn from_port(mut segment: Vec<u8>, port: u16) -> Vec<u8> {
    segment[..2].copy_from_slice(&port.to_be_bytes());
    segment
}

fn payload(dice: &mut Dice) -> Vec<u8> {
    let length = match dice.below(20) {
        0..4 => 0,
        4..17 => dice.below(40),
        17 => dice.pick(&[1_231, 1_232, 1_233, 1_234]),
        _ => dice.below(1_400),
    };
    (0..length).map(|_| dice.byte()).collect()
}

/// What a protocol without ports carries: something that looks like a segment.
fn other(dice: &mut Dice) -> Vec<u8> {
    let length = dice.below(40);
    let mut bytes = tcp(listed(Transport::Tcp, dice), dice.byte(), &[0; 40]);
    bytes.truncate(length);
    bytes
}
