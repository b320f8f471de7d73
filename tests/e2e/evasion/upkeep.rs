//! What must go on beside all that: neighbours find each other, and path MTU discovery works for granted connections.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    capture::FENCE_PORT,
    crafted::{Ends, Ipv4, Ipv6, icmp},
    network::{Family, Member},
    packet::{ETHER_IPV4, ETHER_IPV6, ICMP, ICMPV6, TCP},
    probe::{self, Port},
    wait::{self, PATIENCE},
    wire::{Tap, Wire},
};
use libtest_mimic::Trial;
use serde_json::json;

use crate::{
    config::{Config, DB, db, web},
    stage::{Stage, address},
    trial,
};

const ROUTER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfe);
/// The path's MTU as the router tells it; the least that IPv6 allows.
const PATH_MTU: u16 = 1_280;
/// Enough for several full segments.
const QUESTION: usize = 6_000;

pub(super) fn trials() -> Vec<Trial> {
    let config = || Config { services: vec![web("60s"), db("60s")], ..Config::default() };
    let mut trials = vec![trial::on("p2_neighbours_find_each_other_beside_the_program", config, neighbours)];
    for family in Family::ALL {
        let name = format!("p2_path_mtu_discovery_of_a_granted_connection_works_{}", family.as_str().to_lowercase());
        trials.push(trial::on(name, config, move |stage| path_mtu(stage, family)));
    }
    trials
}

fn neighbours(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    for _ in 0..3 {
        for member in [Member::Host, Member::Stranger] {
            stage.net.of(member).ip("neigh flush dev eth0")?;
        }
        for family in Family::ALL {
            // The first packet may wait for its neighbour longer than a probe does.
            wait::for_true("a neighbour", PATIENCE, || {
                Ok(probe::udp(&stage.net.stranger, address(family, FENCE_PORT))? == Port::Open)
            })?;
        }
    }
    Ok(())
}

/// A router says that the host's segments are too big, quoting what the host would send next.
fn path_mtu(stage: &mut Stage, family: Family) -> Result<()> {
    // What the device would cut into segments is seen as one frame.
    stage.net.host.ip("link set eth0 gso_max_segs 1")?;
    stage.start(&[])?;
    let token = stage.key.token(&stage.claims_with(json!({ "roles": ["dba"] })))?;
    stage.knock(Member::Client, family, &token, "granted")?;
    let mut stream = probe::connect(&stage.net.client, address(family, DB))?;
    let tap = Tap::open(&stage.net.client)?;
    probe::exchange(&mut stream, QUESTION)?;
    let before = segments(&tap, family)?;
    let largest = before.iter().map(Vec::len).max().context("no segments")?;
    ensure!(largest > usize::from(PATH_MTU), "without a router's word segments have {largest} bytes");

    let quoted = next_segment(before.last().context("no segments")?, family);
    let wire = Wire::open(&stage.net.client, "eth0")?;
    wire.send(&too_big(before.last().context("no segments")?, family, &quoted))?;
    wait::for_true("smaller segments", PATIENCE, || {
        probe::exchange(&mut stream, QUESTION)?;
        let after = segments(&tap, family)?;
        Ok(after.iter().map(Vec::len).max().context("no segments")? <= usize::from(PATH_MTU))
    })
}

/// The IP packets of the connection that the host sent, from the IP header on.
fn segments(tap: &Tap, family: Family) -> Result<Vec<Vec<u8>>> {
    let (ether_type, protocol, header) = shape(family);
    let is_segment = |frame: &Vec<u8>| {
        frame.get(12..14) == Some(&ether_type.to_be_bytes()[..])
            && frame.get(14 + protocol) == Some(&TCP)
            && frame.get(14 + header..16 + header) == Some(&DB.to_be_bytes()[..])
    };
    Ok(tap.drain()?.into_iter().filter(is_segment).map(|frame| frame[14..].to_vec()).collect())
}

/// EtherType, place of the protocol, length of the IP header.
const fn shape(family: Family) -> (u16, usize, usize) {
    match family {
        Family::V4 => (ETHER_IPV4, 9, 20),
        Family::V6 => (ETHER_IPV6, 6, 40),
    }
}

/// The beginning of what the host sends after `last`: a router's quotation must lie in the window.
fn next_segment(last: &[u8], family: Family) -> Vec<u8> {
    let (_, _, header) = shape(family);
    let number = |at: usize| u32::from_be_bytes([last[at], last[at + 1], last[at + 2], last[at + 3]]);
    let length = match family {
        Family::V4 => usize::from(u16::from_be_bytes([last[2], last[3]])),
        Family::V6 => usize::from(u16::from_be_bytes([last[4], last[5]])) + header,
    };
    let data = length - header - usize::from(last[header + 12] >> 4) * 4;
    let next = number(header + 4).wrapping_add(data as u32);
    let mut quoted = last[..header + 20].to_vec();
    quoted[header + 4..header + 8].copy_from_slice(&next.to_be_bytes());
    quoted
}

/// Fragmentation needed (RFC 1191), or packet too big (RFC 4443 §3.2).
fn too_big(last: &[u8], family: Family, quoted: &[u8]) -> Vec<u8> {
    let [high, low] = PATH_MTU.to_be_bytes();
    let packet = match family {
        Family::V4 => {
            let destination = Ipv4Addr::new(last[12], last[13], last[14], last[15]);
            let header = Ipv4 { source: ROUTER4, destination, ttl: 64, id: 1, fragment: 0, options: Vec::new() };
            header.packet(ICMP, &icmp(3, 4, [0, 0, high, low], quoted))
        }
        Family::V6 => {
            let IpAddr::V6(destination) = Member::Host.address(family) else { return Vec::new() };
            let ends = Ends { source: ROUTER6.into(), destination: destination.into(), source_port: 0, port: 0 };
            let header = Ipv6 { source: ROUTER6, destination, hop_limit: 64, label: 0 };
            header.packet(ICMPV6, &ends.icmp6(2, 0, [0, 0, high, low], quoted))
        }
    };
    // To everybody on the switch, the host among them.
    let (ether_type, ..) = shape(family);
    [&[0xff; 6][..], &[2, 0x4a, 0x52, 0, 0, 1], &ether_type.to_be_bytes(), &packet].concat()
}
