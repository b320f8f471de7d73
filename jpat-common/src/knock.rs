//! The record that carries one datagram from the XDP program to the controller.

use crate::addr::Addr;

/// Most bytes of UDP payload a knock may have: the IPv6 minimum MTU of 1280 less IPv6 and UDP headers (RFC 8200 §5).
pub const MAX_PAYLOAD: usize = 1232;

/// Bytes of the ring of sealed knocks: some three thousand.
pub const SEALED_RING: u32 = 1 << 22;
/// Bytes of the ring of bare knocks: some two hundred.
pub const BARE_RING: u32 = 1 << 18;

/// The sender used the naked JWS as the datagram.
pub const FORM_BARE: u8 = 1;
/// The datagram is a [sealed](crate::sealed) knock whose tag verified.
pub const FORM_SEALED: u8 = 2;

/// What is known of a knock besides its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct KnockMeta {
    /// When the program saw it, nanoseconds of `CLOCK_BOOTTIME`.
    pub received_ns: u64,
    /// Index of the interface it came in on.
    pub ifindex: u32,
    /// Bytes of payload that are valid in the record.
    pub length: u16,
    /// Kind of knock ([`FORM_BARE`], [`FORM_SEALED`]).
    pub form: u8,
    /// Zero.
    pub reserved: u8,
    /// Source address.
    pub source: Addr,
    /// Destination address.
    pub destination: Addr,
    /// UDP source port, network order.
    pub source_port: [u8; 2],
    /// UDP destination port, network order.
    pub destination_port: [u8; 2],
    /// Index of the budget that it was counted under ([`crate::sealed::BUDGETS`]).
    pub group: u32,
}

/// A ring record: fixed size, because a reservation's size must be known to the verifier.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct KnockRecord {
    /// Where from, when, how long.
    pub meta: KnockMeta,
    /// UDP payload; bytes from `meta.length` on are undefined.
    pub payload: [u8; MAX_PAYLOAD],
}

crate::pod!(KnockMeta, KnockRecord);

const _: () = {
    assert!(size_of::<KnockMeta>() == 56 && align_of::<KnockMeta>() == 8);
    assert!(size_of::<KnockRecord>() == 56 + MAX_PAYLOAD && MAX_PAYLOAD.is_multiple_of(8));
    assert!(core::mem::offset_of!(KnockRecord, payload) == 56);
};
