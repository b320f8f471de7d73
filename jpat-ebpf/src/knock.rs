//! From the frame to the controller's ring.

use aya_ebpf::{maps::ring_buf::RingBufEntry, programs::XdpContext};
use jpat_common::{
    knock::{KnockMeta, KnockRecord, MAX_PAYLOAD},
    reason::DropReason,
};
use jpat_ebpf::{
    filter::{Admitted, filter},
    frame::Cursor,
    parse::Packet,
    verdict::Verdict,
};

use crate::{
    clock,
    maps::{self, BARE_KNOCKS, KNOCKS, KernelTables},
};

/// Copied at a time.
const WORD: usize = 8;

/// Copies a datagram that was judged a knock into its ring, in one piece with where it came from, if the filter admits it.
#[inline(always)]
pub(crate) fn queue(packet: &Packet<'_>, context: &XdpContext) -> Verdict {
    let now_ns = clock::boot_ns();
    // Copied, for pointers into the frame would be four ways through all that follows.
    let (source, destination) = (packet.addresses.source(), packet.addresses.destination());
    let Packet { segment: datagram, .. } = packet;
    // SAFETY: the bounds of the frame do not change during a run.
    let mut payload =
        unsafe { packet.payload.read_again(context.data() as *const u8, context.data_end() as *const u8) };
    let admitted = match filter(payload, now_ns, &KernelTables) {
        Ok(admitted) => admitted,
        Err(reason) => return Verdict::Drop(reason),
    };
    let (ring, full) = match admitted {
        Admitted::Bare => (&BARE_KNOCKS, DropReason::KnockBareRingFull),
        Admitted::Sealed { .. } => (&KNOCKS, DropReason::KnockRingFull),
    };
    let Some(mut entry) = ring.reserve::<KnockRecord>(0) else {
        return Verdict::Drop(full);
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is as large as the record and aligned to its 8 bytes; `meta` is its first field.
    unsafe {
        (&raw mut (*record).meta).write(KnockMeta {
            received_ns: now_ns,
            ifindex: context.ingress_ifindex() as u32,
            length: payload.left() as u16,
            form: admitted.form(),
            reserved: 0,
            source,
            destination,
            source_port: datagram.source_port,
            destination_port: datagram.port,
            group: admitted.group(),
        });
    }
    payload.join_ways();
    if copy(payload, &mut entry).is_none() {
        // The parser found this many bytes in the frame; only the verifier does not know.
        entry.discard(0);
        return Verdict::Drop(DropReason::KnockTooLong);
    }
    entry.submit(0);
    if let Admitted::Sealed { tag, .. } = admitted {
        maps::remember(&tag, now_ns);
    }
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
