//! From the frame to the controller's ring.

use aya_ebpf::maps::ring_buf::RingBufEntry;
use jpat_common::{
    knock::{FORM_BARE, KnockMeta, KnockRecord, MAX_PAYLOAD},
    reason::DropReason,
};
use jpat_ebpf::{frame::Cursor, parse::Packet, verdict::Verdict};

use crate::{clock, maps::KNOCKS};

/// Copied at a time.
const WORD: usize = 8;

/// Copies a datagram that was judged a knock into the ring, in one piece with where it came from.
#[inline(always)]
pub(crate) fn queue(packet: &Packet<'_>, ifindex: u32) -> Verdict {
    let Packet { addresses, segment: datagram, payload, .. } = packet;
    let length = payload.left();
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
    let mut payload = *payload;
    payload.join_ways();
    if copy(payload, &mut entry).is_none() {
        // The parser found this many bytes in the frame; only the verifier does not know.
        entry.discard(0);
        return Verdict::Drop(DropReason::KnockEmpty);
    }
    entry.submit(0);
    Verdict::Knock
}

/// Copies all that is left, a word at a time. What is left over of a payload longer than a word is the end of a last
/// word that overlaps the one before. Both loops have a constant bound.
#[inline(always)]
fn copy(mut from: Cursor<'_>, entry: &mut RingBufEntry<KnockRecord>) -> Option<()> {
    // SAFETY: a place inside the reservation; nothing is read through it.
    let payload = unsafe { (&raw mut (*entry.as_mut_ptr()).payload).cast::<u8>() };
    let length = from.left();
    if length > MAX_PAYLOAD {
        return None;
    }
    let mut at = 0;
    if length < WORD {
        while at < length {
            let &[byte] = from.take()?;
            // SAFETY: `at` is below WORD.
            unsafe { payload.add(at).write(byte) };
            at += 1;
        }
        return Some(());
    }
    let mut last = from;
    last.skip(length - WORD)?;
    last.join_ways();
    // SAFETY: length - WORD + WORD is at most MAX_PAYLOAD.
    unsafe { payload.add(length - WORD).cast::<[u8; WORD]>().write(*last.peek()?) };
    while at + WORD <= length {
        let word = from.take::<WORD>()?;
        // SAFETY: at + WORD is at most MAX_PAYLOAD.
        unsafe { payload.add(at).cast::<[u8; WORD]>().write(*word) };
        at += WORD;
    }
    Some(())
}
