//! What the XDP program and the controller share, and nothing else: map keys and values, the ring record,
//! counters' reasons, names.
//!
//! Byte order: whatever came from the wire (addresses, ports in [`knock::KnockRecord`]) is kept as big-endian
//! byte arrays and compares directly with packet bytes; IPv4 is stored IPv4-mapped (RFC 4291 §2.5.5.2). Other
//! integers never leave the host and are native-endian. No struct has padding; sizes and offsets are asserted.
#![no_std]

pub mod addr;
pub mod flow;
pub mod grant;
pub mod hints;
pub mod hosts;
pub mod knock;
pub mod map_name;
pub mod reason;
pub mod sealed;
pub mod settings;

/// Version of every layout in this crate. It names the pin directory (`abi3`): a controller never uses maps of
/// another version, and migrates what an older one left.
pub const ABI_VERSION: u32 = 3;

/// Implements aya's plain-data marker where a controller asked for it.
macro_rules! pod {
    ($($t:ty),+ $(,)?) => {$(
        #[cfg(all(target_os = "linux", feature = "aya"))]
        // SAFETY: `repr(C)`, made of integers and byte arrays only, size asserted equal to the sum of its fields.
        unsafe impl aya::Pod for $t {}
    )+};
}
pub(crate) use pod;
