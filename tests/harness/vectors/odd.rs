//! What is not a plain segment in a plain packet: each evasion, each fault, each border.

mod fragments;
mod knocks;
mod lower;
mod places;

pub(super) use fragments::fragments;
pub(super) use knocks::knocks;
pub(super) use lower::{headers, link_layer};
pub(super) use places::{destinations, tunnels};

use crate::{
    packet::{ETHER_IPV4, ETHER_IPV6, SYN, TCP, ethernet, ipv4, ipv6, tcp},
    world::{HOST4, HOST6, STRANGER, WEB_PORT},
};

/// An IPv4 frame from the stranger to the host.
fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(ETHER_IPV4, &ipv4(STRANGER.v4, HOST4, protocol, 0, &[], payload))
}

/// An IPv6 frame from the stranger to the host.
fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(ETHER_IPV6, &ipv6(STRANGER.v6, HOST6, next, payload))
}

/// A SYN to the protected port.
fn syn() -> Vec<u8> {
    tcp(WEB_PORT, SYN, &[])
}

/// The frame with some bytes replaced.
fn patched(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// The stranger's SYN in IPv4.
fn syn4() -> Vec<u8> {
    v4(TCP, &syn())
}

/// The stranger's SYN in IPv6.
fn syn6() -> Vec<u8> {
    v6(TCP, &syn())
}
