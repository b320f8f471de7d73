//! Flows: connections that were opened under a grant. The map comes with the program that keeps them; the layout
//! is fixed here so that pins of this ABI version can carry it.

use crate::{addr::Addr, grant::ServiceId};

/// Key of the flow map: one direction of one connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct FlowKey {
    source: Addr,
    destination: Addr,
    source_port: [u8; 2],
    destination_port: [u8; 2],
    protocol: u8,
    reserved: [u8; 3],
}

impl FlowKey {
    /// The flow from `source` to `destination`; ports in network order, `protocol` an IANA number.
    #[must_use]
    pub const fn new(
        source: Addr,
        source_port: [u8; 2],
        destination: Addr,
        destination_port: [u8; 2],
        protocol: u8,
    ) -> Self {
        Self { source, destination, source_port, destination_port, protocol, reserved: [0; 3] }
    }
}

/// Value of the flow map. All times are nanoseconds of `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct FlowValue {
    opened_ns: u64,
    seen_ns: u64,
    service: ServiceId,
    generation: u32,
    state: u32,
    flags: u32,
}

impl FlowValue {
    /// A flow of `service` opened now, in the embryonic state.
    #[must_use]
    pub const fn new(now_ns: u64, service: ServiceId, generation: u32) -> Self {
        Self { opened_ns: now_ns, seen_ns: now_ns, service, generation, state: 0, flags: 0 }
    }
}

crate::pod!(FlowKey, FlowValue);

const _: () = {
    assert!(size_of::<FlowKey>() == 40 && align_of::<FlowKey>() == 1);
    assert!(size_of::<FlowValue>() == 32 && align_of::<FlowValue>() == 8);
};
