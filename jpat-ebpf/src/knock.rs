//! From the frame to the controller's ring.

use aya_ebpf::{bindings::xdp_md, maps::ring_buf::RingBufEntry, programs::XdpContext};
use jpat_common::{
    addr::Addr,
    knock::{FORM_BARE, KnockMeta, KnockRecord, MAX_PAYLOAD},
    reason::DropReason,
};
use jpat_ebpf::{frame::Cursor, parse::{Addresses, Packet}, verdict::Verdict};

use crate::{clock, maps::KNOCKS};
const WORD: usize = 8;

#[inline(always)]
pub(crate) fn queue(context: &XdpContext, packet: &Packet<'_>) -> Verdict {
    let (network, is_v6) = match packet.addresses { Addresses::Unknown => (0, 0), Addresses::Ipv4(_) => (0, 0), Addresses::Ipv6(_) => (0,1) };
    if jpat_queue(context.ctx, network, is_v6, packet.payload.offset() as u32, packet.payload.left() as u32) == 0 {
        Verdict::Knock
    } else { Verdict::Drop(DropReason::KnockRingFull) }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn jpat_queue(context: *mut xdp_md, network: u32, is_v6: u32, payload: u32, length: u32) -> u32 {
    let context = XdpContext::new(context);
    let mut at = unsafe { Cursor::from_raw(context.data() as *const u8, context.data_end() as *const u8) };
    if payload > 0x3fff || at.skip(payload as usize).is_none() { return 1; }
    if length > 1232 || at.limit(length as usize).is_none() { return 1; }
    let Some(mut entry) = KNOCKS.reserve::<KnockRecord>(0) else {
        return 1;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is as large as the record and aligned to its 8 bytes; `meta` is its first field.
    unsafe {
        (&raw mut (*record).meta).write(KnockMeta {
            received_ns: clock::boot_ns(),
            ifindex: context.ingress_ifindex() as u32,
            length: length as u16,
            form: FORM_BARE,
            reserved: 0,
            source: [0; 16],
            destination: [0; 16],
            source_port: [0; 2],
            destination_port: [0;2],
            reserved2: [0; 4],
        });
    }
    if copy(at, &mut entry).is_none() {
        // The parser found this many bytes in the frame; only the verifier does not know.
        entry.discard(0);
        return 1;
    }
    entry.submit(0);
    0
}

/// Copies all that is left, words first. Both loops have a constant bound, and each step asks for the frame's end
/// again.
#[inline(always)]
fn copy(mut from: Cursor<'_>, entry: &mut RingBufEntry<KnockRecord>) -> Option<()> {
    // SAFETY: a place inside the reservation; nothing is read through it.
    let payload = unsafe { (&raw mut (*entry.as_mut_ptr()).payload).cast::<u8>() };
    let mut at = 0;
    while at + WORD <= MAX_PAYLOAD && from.left() >= WORD {
        let word = from.take::<WORD>()?;
        // SAFETY: at + WORD is at most MAX_PAYLOAD, and `at` a multiple of 8 in an aligned array.
        unsafe { payload.add(at).cast::<u64>().write(u64::from_ne_bytes(*word)) };
        at += WORD;
    }
    while at < MAX_PAYLOAD && from.left() > 0 {
        let &[byte] = from.take()?;
        // SAFETY: `at` is below MAX_PAYLOAD.
        unsafe { payload.add(at).write(byte) };
        at += 1;
    }
    Some(())
}
