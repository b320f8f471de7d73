//! From the frame to the controller's ring.

use aya_ebpf::{bindings::xdp_md, maps::ring_buf::RingBufEntry, programs::XdpContext};
use jpat_common::{
    knock::{KnockMeta, KnockRecord, MAX_PAYLOAD},
    reason::DropReason,
};
use jpat_ebpf::{
    filter::{Admitted, filter},
    frame::{Cursor, MAX_START},
    parse::Packet,
};

use crate::{
    clock,
    maps::{self, BARE_KNOCKS, KNOCK_META, KNOCKS, KernelTables},
};

/// Copied at a time.
const WORD: usize = 8;

/// Hands a datagram that was judged a knock to its ring, if the filter admits it, and counts as what it says.
#[inline(always)]
pub(crate) fn queue(context: &XdpContext, packet: &Packet<'_>, ifindex: u32) -> u32 {
    let Packet { addresses, segment: datagram, payload, .. } = packet;
    let Some(meta) = KNOCK_META.get_ptr_mut(0) else { return DropReason::KnockRingFull.number() };
    // SAFETY: the pointer is to this CPU's own element, and XDP programs do not interrupt each other on a CPU.
    unsafe {
        meta.write(KnockMeta {
            received_ns: clock::boot_ns(),
            ifindex,
            length: payload.left() as u16,
            form: 0,
            reserved: 0,
            source: addresses.source(),
            destination: addresses.destination(),
            source_port: datagram.source_port,
            destination_port: datagram.port,
            group: 0,
        });
    }
    judge_knock(context.ctx, payload.offset() as u32)
}

/// Judges the payload that begins at an offset of the frame, described in this CPU's [`KNOCK_META`], and says what it
/// counts as. A function of its own kind: the verifier walks it once, and not once for each way that leads to it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge_knock(context: *mut xdp_md, offset: u32) -> u32 {
    match admit(&XdpContext::new(context), offset as usize) {
        Ok(()) => DropReason::KnockQueued.number(),
        Err(reason) => reason.number(),
    }
}

#[inline(always)]
fn admit(context: &XdpContext, offset: usize) -> Result<(), DropReason> {
    let Some(meta) = KNOCK_META.get_ptr_mut(0) else { return Err(DropReason::KnockRingFull) };
    // SAFETY: as in `queue`, which wrote it.
    let mut meta = unsafe { meta.read() };
    let length = usize::from(meta.length);
    // SAFETY: the kernel lends the frame between these two pointers for this run, and nothing here writes to it.
    let frame = unsafe {
        Cursor::from_raw(context.data() as *const u8, context.data_end() as *const u8, MAX_START + MAX_PAYLOAD)
    };
    let payload = frame.walk(offset, length);
    let admitted = filter(payload, meta.received_ns, &KernelTables)?;
    let (ring, full) = match admitted {
        Admitted::Bare => (&BARE_KNOCKS, DropReason::KnockBareRingFull),
        Admitted::Sealed { .. } => (&KNOCKS, DropReason::KnockRingFull),
    };
    let Some(mut entry) = ring.reserve::<KnockRecord>(0) else { return Err(full) };
    (meta.form, meta.group) = (admitted.form(), admitted.group());
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation is as large as the record and aligned to its 8 bytes; `meta` is its first field.
    unsafe { (&raw mut (*record).meta).write(meta) };
    if copy(frame.walk(offset, length), &mut entry).is_none() {
        // The parser found this many bytes in the frame; only the verifier does not know.
        entry.discard(0);
        return Err(DropReason::KnockTooLong);
    }
    entry.submit(0);
    if let Admitted::Sealed { tag, .. } = admitted {
        maps::remember(&tag, meta.received_ns);
    }
    Ok(())
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
