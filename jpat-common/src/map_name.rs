//! Names of every map and program in the object; the kernel keeps 15 bytes of them.

/// The XDP program for devices with an Ethernet header.
pub const PROGRAM: &str = "jpat";

/// LRU hash, [`GrantKey`](crate::grant::GrantKey) to [`GrantValue`](crate::grant::GrantValue).
pub const GRANTS: &str = "GRANTS";
/// Array of one [`Settings`](crate::settings::Settings).
pub const SETTINGS: &str = "SETTINGS";
/// Array: [`port_index`](crate::settings::port_index) to `u32` service id, 0 for unprotected.
pub const PORTS: &str = "PORTS";
/// Array: [`service_index`](crate::settings::service_index) to [`ServiceRule`](crate::settings::ServiceRule).
pub const SERVICES: &str = "SERVICES";
/// LPM trie over 16-byte addresses: destinations whose packets are judged; the `u32` value is unused.
pub const DESTINATIONS: &str = "DESTINATIONS";
/// LPM trie over 16-byte addresses: sources that are always allowed; the `u32` value is unused.
pub const ALWAYS_ALLOW: &str = "ALWAYS_ALLOW";
/// Ring buffer of [`KnockRecord`](crate::knock::KnockRecord). Never pinned: each program has its own.
pub const KNOCKS: &str = "KNOCKS";
/// Per-CPU array: [`counter_index`](crate::reason::counter_index) to `u64` packets.
pub const COUNTERS: &str = "COUNTERS";

/// The maps that outlive a controller, in the order in which they are opened.
pub const PINNED: [&str; 7] = [GRANTS, SETTINGS, PORTS, SERVICES, DESTINATIONS, ALWAYS_ALLOW, COUNTERS];
