//! Who is there: ports and services, addresses of the host, senders.

use crate::oracle::model::tables::Transport;

/// The knock port.
pub(crate) const KNOCK_PORT: u16 = 1337;
/// A port that nobody lists.
pub(crate) const FREE_PORT: u16 = 80;
/// Ports that services list.
pub(crate) const PORTS: [(Transport, u16, u32); 11] = [
    (Transport::Tcp, 8443, KEPT),
    (Transport::Udp, 8443, KEPT),
    (Transport::Tcp, 22, CUT),
    (Transport::Udp, 4789, CUT),
    (Transport::Tcp, 2323, ADOPTING),
    (Transport::Tcp, 5432, WIDE),
    (Transport::Udp, 5432, WIDE),
    (Transport::Udp, 5353, UDP_KEPT),
    (Transport::Tcp, 5353, UDP_KEPT),
    (Transport::Tcp, 9000, ODD_WIDTH),
    (Transport::Tcp, KNOCK_PORT, CUT),
];

/// Keeps sessions of both protocols.
pub(crate) const KEPT: u32 = 1;
/// Cuts them.
pub(crate) const CUT: u32 = 2;
/// Cuts them, but for those that stood before.
pub(crate) const ADOPTING: u32 = 3;
/// Keeps TCP, for networks.
pub(crate) const WIDE: u32 = 4;
/// Keeps UDP.
pub(crate) const UDP_KEPT: u32 = 5;
/// Keeps both, for prefixes that end inside a byte.
pub(crate) const ODD_WIDTH: u32 = 200;
/// Every service.
pub(crate) const SERVICES: [u32; 6] = [KEPT, CUT, ADOPTING, WIDE, UDP_KEPT, ODD_WIDTH];

/// First source port of the planted flows; one port for each state.
pub(crate) const FIRST_PORT: u16 = 40_000;
/// How many states there are, with "none" as the first.
pub(crate) const FLOW_STATES: u16 = 14;

/// The host's addresses: judged one by one, by a prefix, as groups, as the host itself, and others.
pub(crate) const DESTINATIONS: [(&str, &str); 16] = [
    ("192.0.2.1", "2001:db8::1"),
    ("192.0.2.1", "2001:db8::1"),
    ("192.0.2.1", "2001:db8::1"),
    ("192.0.2.1", "2001:db8::1"),
    ("192.0.2.200", "2001:db8:0:7::200"),
    ("192.0.2.255", "ff02::1"),
    ("198.51.100.5", "2001:db8:ff00:1::5"),
    ("198.51.100.127", "2001:db8:ffff:ffff::1"),
    ("198.51.100.128", "2001:db9::1"),
    ("255.255.255.255", "ff0e::fb"),
    ("224.0.0.251", "::"),
    ("127.0.0.1", "::1"),
    ("0.0.0.0", "::2"),
    ("203.0.113.200", "2001:db8::2"),
    ("223.255.255.255", "fe80::1"),
    ("192.0.2.1", "::ffff:192.0.2.1"),
];

/// Who sends, and the state of their grants.
pub(crate) const SENDERS: [(&str, &str, Standing); 18] = [
    ("203.0.113.5", "2001:db8:c005::5", Standing::Live),
    ("203.0.113.6", "2001:db8:c006::6", Standing::None),
    ("203.0.113.7", "2001:db8:c007::7", Standing::Ended),
    ("203.0.113.8", "2001:db8:c008::8", Standing::Revoked),
    ("203.0.113.9", "2001:db8:c009::9", Standing::TooLong),
    ("198.18.0.10", "2001:db8:c00a::a", Standing::OtherService),
    ("198.18.1.11", "2001:db8:c00b::b", Standing::Full),
    ("198.18.2.12", "2001:db8:c00c::c", Standing::LiveAndEnding),
    // Neighbours of the first by each width.
    ("203.0.113.4", "2001:db8:c005::4", Standing::None),
    ("203.0.112.5", "2001:db8:c005:0:1::5", Standing::None),
    ("203.1.113.5", "2001:db8:c005:ff::5", Standing::None),
    // Always allowed.
    ("100.64.3.1", "2001:db8:aaaa::1", Standing::None),
    ("100.64.4.1", "2001:db8:aaab::1", Standing::Live),
    // Sources that never get a grant, and one that looks like another's.
    ("192.0.2.1", "2001:db8::1", Standing::None),
    ("127.0.0.1", "::1", Standing::None),
    ("224.0.0.1", "ff02::1", Standing::None),
    ("169.254.9.9", "fe80::9", Standing::None),
    ("0.0.0.0", "::ffff:203.0.113.5", Standing::None),
];
/// The first so many of [`SENDERS`] are ordinary, and have flows.
pub(crate) const ORDINARY: usize = 8;

/// What grants a sender has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    None,
    Live,
    LiveAndEnding,
    Ended,
    Revoked,
    TooLong,
    /// Live for [`CUT`] alone.
    OtherService,
    /// Live, with as many flows as a grant may have.
    Full,
}
