//! From the frame to the controller's ring.

use aya_ebpf::maps::ring_buf::RingBufEntry;
use jpat_common::{
    knock::{FORM_BARE, KnockMeta, KnockRecord, MAX_PAYLOAD},
    reason::DropReason,
};
use jpat_ebpf::{
    frame::Cursor,
    parse::{Carries, Packet, Parsed},
    verdict::Verdict,
};

use crate::{clock, maps::KNOCKS};

/// Copied at a time.
const WORD: usize = 8;

/// Copies a datagram that was judged a knock into the ring, in one piece with where it came from.
#[inline(always)]
pub(crate) fn queue(parsed: &Parsed<'_>, ifindex: u32) -> Verdict {
    let Parsed::Ip(Packet { addresses, carries: Carries::Segment(datagram) }) = parsed else {
        return Verdict::Drop(DropReason::KnockEmpty);
    };
    let length = datagram.payload.left();
    if length > MAX_PAYLOAD {
        return Verdict::Drop(DropReason::KnockTooLong);
    }
    let Some(mut entry) = KNOCKS.reserve::<KnockRecord>(0) else {
        return Verdict::Drop(DropReason::KnockRingFull);
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is as large as the record and aligned to its 8 bytes; `meta` is its first field.
    unsafe {
        (&raw mut (*record).meta).write(KnockMeta {
            received_ns: clock::boot_ns(),
            ifindex,
            length: length as u16,
            form: FORM_BARE,
            reserved: 0,
            source: addresses.source(),
            destination: addresses.destination(),
            source_port: datagram.source_port,
            destination_port: datagram.port,
            reserved2: [0; 4],
        });
    }
    if copy(datagram.payload, length, &mut entry).is_none() {
        // The parser found this many bytes in the frame; only the verifier does not know.
        entry.discard(0);
        return Verdict::Drop(DropReason::KnockEmpty);
    }
    entry.submit(0);
    Verdict::Knock
}

/// Copies `length` bytes, words first. Both loops have a constant bound, and each step asks for the frame's end again.
#[inline(always)]
fn copy(mut from: Cursor<'_>, length: usize, entry: &mut RingBufEntry<KnockRecord>) -> Option<()> {
    // SAFETY: a place inside the reservation; nothing is read through it.
    let payload = unsafe { (&raw mut (*entry.as_mut_ptr()).payload).cast::<u8>() };
    let mut at = 0;
    while at + WORD <= length && at + WORD <= MAX_PAYLOAD {
        let (word, rest) = from.take::<WORD>()?;
        // SAFETY: at + WORD is at most MAX_PAYLOAD, and `at` a multiple of 8 in an aligned array.
        unsafe { payload.add(at).cast::<u64>().write(u64::from_ne_bytes(*word)) };
        from = rest;
        at += WORD;
    }
    while at < length && at < MAX_PAYLOAD {
        let (&[byte], rest) = from.take::<1>()?;
        // SAFETY: `at` is below MAX_PAYLOAD.
        unsafe { payload.add(at).write(byte) };
        from = rest;
        at += 1;
    }
    Some(())
}
