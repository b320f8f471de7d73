//! Names of every map and program in the object; the kernel keeps 15 bytes of them.

/// The XDP program for devices with an Ethernet header.
pub const PROGRAM: &str = "jpat";
/// The same for frames of several buffers (`BPF_F_XDP_HAS_FRAGS`, kernel 5.18).
pub const PROGRAM_FRAGS: &str = "jpat_frags";
/// The XDP program for devices whose frames begin with the IP header.
pub const PROGRAM_L3: &str = "jpat_l3";

/// LRU hash, [`GrantKey`](crate::grant::GrantKey) to [`GrantValue`](crate::grant::GrantValue).
pub const GRANTS: &str = "GRANTS";
/// Array of [`Row`](crate::hints::Row): a bit for the keys that can be in [`GRANTS`], by their [hint](crate::hints).
pub const GRANT_HINTS: &str = "GRANT_HINTS";
/// Array of one [`Settings`](crate::settings::Settings).
pub const SETTINGS: &str = "SETTINGS";
/// Array: [`port_row`](crate::settings::port_row) to [`PortRow`](crate::settings::PortRow).
pub const PORTS: &str = "PORTS";
/// Array: [`service_index`](crate::settings::service_index) to [`ServiceRule`](crate::settings::ServiceRule).
pub const SERVICES: &str = "SERVICES";
/// Array of [`Bucket`](crate::hosts::Bucket): destinations whose packets are judged.
pub const HOSTS: &str = "HOSTS";
/// LPM trie over 16-byte addresses: destinations whose packets are judged, where they are prefixes, or found no room in
/// [`HOSTS`]; the `u32` value is unused.
pub const DESTINATIONS: &str = "DESTINATIONS";
/// LPM trie over 16-byte addresses: sources that are always allowed; the `u32` value is unused.
pub const ALWAYS_ALLOW: &str = "ALWAYS_ALLOW";
/// Hash, [`FlowKey`](crate::flow::FlowKey) to [`FlowValue`](crate::flow::FlowValue).
pub const FLOWS: &str = "FLOWS";
/// Hash, [`GrantKey`](crate::grant::GrantKey) to `u64`: flows that were ever opened under it. The program counts.
pub const FLOWS_OPENED: &str = "FLOWS_OPENED";
/// Hash, [`GrantKey`](crate::grant::GrantKey) to `u64`: how many of the opened flows are gone. The controller counts.
pub const FLOWS_CLOSED: &str = "FLOWS_CLOSED";
/// Per-CPU array of one `[u64; 2]`: a jiffy, and the boot time that was read in it, nanoseconds. Never pinned.
pub const CLOCK: &str = "CLOCK";
/// Ring buffer of [`KnockRecord`](crate::knock::KnockRecord): sealed knocks. Never pinned: each program has its own.
pub const KNOCKS: &str = "KNOCKS";
/// The same for bare knocks, so that they cannot crowd out sealed ones.
pub const BARE_KNOCKS: &str = "BARE_KNOCKS";
/// Per-CPU array of one [`KnockMeta`](crate::knock::KnockMeta): what is known of the knock at hand. Never pinned.
pub const KNOCK_META: &str = "KNOCK_META";
/// Hash, id of a knock key in network order to [`KnockKey`](crate::sealed::KnockKey). Never pinned: it holds secrets.
pub const KNOCK_KEYS: &str = "KNOCK_KEYS";
/// Array of [`Budget`](crate::sealed::Budget). Never pinned.
pub const BUDGETS: &str = "BUDGETS";
/// Array of one `u64`: what is to be added to `CLOCK_BOOTTIME` to have `CLOCK_REALTIME`, nanoseconds; 0 while nobody
/// wrote it. Never pinned.
pub const WALL_CLOCK: &str = "WALL_CLOCK";
/// LRU hash, tag of a sealed knock to the boot time at which the ring took it, nanoseconds.
pub const TAGS: &str = "TAGS";
/// Per-CPU array: [`counter_index`](crate::reason::counter_index) to `u64` packets.
pub const COUNTERS: &str = "COUNTERS";

/// The maps that outlive a controller, in the order in which they are opened.
pub const PINNED: [&str; 13] = [
    GRANTS,
    GRANT_HINTS,
    FLOWS,
    FLOWS_OPENED,
    FLOWS_CLOSED,
    SETTINGS,
    PORTS,
    SERVICES,
    HOSTS,
    DESTINATIONS,
    ALWAYS_ALLOW,
    COUNTERS,
    TAGS,
];
