//! What the controller tells the program: live settings, ports and services.
//!
//! Ports and services exist twice ("slots"). A reload writes the idle slot and then the settings, whose one slot
//! number switches all of it at once.

use crate::{
    addr::Addr,
    grant::{MAX_SERVICES, ServiceId},
};

/// Slots of the ports and services tables.
pub const SLOTS: u32 = 2;

/// Ports in a row of the ports table: wide, so that a slot is read and written in few calls.
pub const PORTS_PER_ROW: u32 = 4096;

/// Entries of the ports table.
pub const PORT_ROWS: u32 = SLOTS * 2 * 65_536 / PORTS_PER_ROW;

/// Entries of the services table.
pub const SERVICE_ENTRIES: u32 = SLOTS * MAX_SERVICES;

/// Entries of each prefix table.
pub const MAX_PREFIXES: u32 = 4096;

/// A protocol that has ports JPAT can protect.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Number of a port in the ports table, counted over all its rows; `port` in host order.
#[inline(always)]
#[must_use]
pub const fn port_index(slot: u32, protocol: Protocol, port: u16) -> u32 {
    let protocol = match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
    };
    ((slot & 1) << 17) | (protocol << 16) | port as u32
}

/// The row that holds a [`port_index`].
#[inline(always)]
#[must_use]
pub const fn port_row(index: u32) -> u32 {
    index / PORTS_PER_ROW
}

/// A row of the ports table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(8))]
pub struct PortRow {
    /// The service that lists each port; 0 for none.
    pub services: [u8; PORTS_PER_ROW as usize],
}

impl PortRow {
    /// A row of ports that no service lists.
    pub const EMPTY: Self = Self { services: [0; PORTS_PER_ROW as usize] };

    /// The service that lists the port at this [`port_index`], of which this is the row.
    #[inline(always)]
    #[must_use]
    pub const fn service(&self, index: u32) -> ServiceId {
        self.services[(index % PORTS_PER_ROW) as usize] as ServiceId
    }

    /// Writes the service of a port. A number that is not below [`MAX_SERVICES`] has none.
    pub const fn set(&mut self, index: u32, service: ServiceId) {
        self.services[(index % PORTS_PER_ROW) as usize] = if service < MAX_SERVICES { service as u8 } else { 0 };
    }
}

/// Index into the services table.
#[inline(always)]
#[must_use]
pub const fn service_index(slot: u32, service: u32) -> u32 {
    (slot & 1) * MAX_SERVICES + service
}

/// What would be dropped is dropped.
pub const MODE_ENFORCE: u32 = 1;
/// What would be dropped is counted as such and passes; knocks are still taken.
pub const MODE_AUDIT: u32 = 2;

/// Packets to any destination are judged; the destinations table is not consulted.
pub const FLAG_ANY_DESTINATION: u32 = 1 << 0;
/// The always-allow table has entries.
pub const FLAG_ALWAYS_ALLOW: u32 = 1 << 1;
/// Tunnels to judged destinations are dropped.
pub const FLAG_DROP_TUNNELS: u32 = 1 << 2;
/// The destinations table has entries. Without it the hosts table alone is asked.
pub const FLAG_PREFIX_DESTINATIONS: u32 = 1 << 3;
/// The table of hints is in use: no bit there means no grant in effect. Without the flag it says nothing.
pub const FLAG_GRANT_HINTS: u32 = 1 << 4;

/// TCP segments of this service are looked up among the flows.
pub const RULE_TCP_FLOWS: u32 = 1 << 0;
/// TCP connections of this service become flows, which outlive their grant.
pub const RULE_KEEP_TCP: u32 = 1 << 1;
/// UDP datagrams of this service are looked up among the flows, and become some.
pub const RULE_KEEP_UDP: u32 = 1 << 2;

/// Live settings, one value. The zero value is never live: the controller writes it before it attaches, and any
/// mode but [`MODE_AUDIT`] enforces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Settings {
    /// Longest time a grant may still have, nanoseconds; a longer one does not open.
    pub max_ttl_ns: u64,
    /// [`MODE_ENFORCE`] or [`MODE_AUDIT`].
    pub mode: u32,
    /// Slot of the ports and services tables that is in force.
    pub slot: u32,
    /// Live generation; grants of another one are revoked.
    pub generation: u32,
    /// `FLAG_*` bits.
    pub flags: u32,
    /// UDP port of knocks, network order.
    pub knock_port: [u8; 2],
    /// Zero.
    pub reserved: [u8; 2],
    /// Most flows that one grant may have.
    pub flows_per_grant: u32,
}

/// What the program knows of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ServiceRule {
    /// Mask over the mapped form for IPv4 sources (at least 96 bits).
    pub mask_v4: Addr,
    /// Mask for IPv6 sources.
    pub mask_v6: Addr,
    /// `RULE_*` bits.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// How long a flow may be silent, nanoseconds.
    pub flow_idle_ns: u64,
    /// How long a flow may last, nanoseconds.
    pub flow_max_ns: u64,
}

/// Key of the LPM tries after the kernel's own `prefixlen`: the 16-byte address.
pub type PrefixData = Addr;

crate::pod!(Settings, ServiceRule, PortRow);

const _: () = {
    assert!(size_of::<Settings>() == 32 && align_of::<Settings>() == 8);
    assert!(core::mem::offset_of!(Settings, flows_per_grant) == 28);
    assert!(size_of::<ServiceRule>() == 56 && align_of::<ServiceRule>() == 8);
    assert!(size_of::<PortRow>() == PORTS_PER_ROW as usize && MAX_SERVICES <= 1 << u8::BITS);
    assert!(port_row(port_index(1, Protocol::Udp, 65_535)) == PORT_ROWS - 1);
    assert!(service_index(1, MAX_SERVICES - 1) == SERVICE_ENTRIES - 1);
};
