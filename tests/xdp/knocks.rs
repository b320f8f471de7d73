//! What comes out of the ring is what was sent, and a full ring is said to be one.

use anyhow::{Context, Result, ensure};
use jpat_common::{
    addr,
    knock::{FORM_BARE, KnockMeta, KnockRecord, MAX_PAYLOAD},
    map_name,
    reason::{DropReason, counter_index},
    sealed::BARE_BUDGET,
};
use jpat_ebpf::{
    frame::Cursor,
    parse::parse,
    verdict::{Verdict, XDP_DROP},
};
use jpat_tests::{
    packet::{CLIENT_PORT, ETHER_IPV4, UDP, ethernet, ipv4, udp},
    vectors,
    world::{HOST4, KNOCK_PORT, STRANGER},
};

use crate::{
    Case,
    kernel::{self, Kernel},
};

pub(crate) const CASES: &[Case] =
    &[("every_knock_comes_out_of_the_ring_as_it_was_sent", as_sent), ("a_full_ring_is_its_own_reason", full_ring)];

/// Interface of a test run: the loopback device.
const IFINDEX: u32 = 1;

pub(crate) fn meta(record: &[u8]) -> Result<KnockMeta> {
    fn at<const N: usize>(record: &[u8], offset: usize) -> Result<[u8; N]> {
        Ok(record.get(offset..offset + N).context("short record")?.try_into()?)
    }
    macro_rules! field {
        ($field:ident) => {
            at(record, std::mem::offset_of!(KnockMeta, $field))?
        };
    }
    Ok(KnockMeta {
        received_ns: u64::from_ne_bytes(field!(received_ns)),
        ifindex: u32::from_ne_bytes(field!(ifindex)),
        length: u16::from_ne_bytes(field!(length)),
        form: u8::from_ne_bytes(field!(form)),
        reserved: u8::from_ne_bytes(field!(reserved)),
        source: field!(source),
        destination: field!(destination),
        source_port: field!(source_port),
        destination_port: field!(destination_port),
        group: u32::from_ne_bytes(field!(group)),
    })
}

fn as_sent() -> Result<()> {
    let mut kernel = Kernel::load(&kernel::world()?)?;
    let mut knocks = 0;
    for vector in vectors::all().iter().filter(|vector| vector.expected.verdict == Verdict::Knock) {
        let before_ns = kernel::boot_ns()?;
        ensure!(kernel.run(&vector.frame)? == XDP_DROP, "{}: went on to the stack", vector.name);
        let after_ns = kernel::boot_ns()?;
        let records = kernel.knocks()?;
        ensure!(records.len() == 1, "{}: {} records", vector.name, records.len());
        let record = &records[0];
        ensure!(record.len() == size_of::<KnockRecord>(), "{}: {} bytes", vector.name, record.len());

        let packet = parse(Cursor::over(&vector.frame));
        let meta = meta(record)?;
        ensure!((before_ns..=after_ns).contains(&meta.received_ns), "{}: received at another time", vector.name);
        let expected = KnockMeta {
            received_ns: meta.received_ns,
            ifindex: IFINDEX,
            length: u16::try_from(packet.payload.left())?,
            form: FORM_BARE,
            reserved: 0,
            source: packet.addresses.source(),
            destination: packet.addresses.destination(),
            source_port: CLIENT_PORT.to_be_bytes(),
            destination_port: KNOCK_PORT.to_be_bytes(),
            group: BARE_BUDGET,
        };
        ensure!(meta == expected, "{}: {meta:?}, not {expected:?}", vector.name);
        let payload = &record[size_of::<KnockMeta>()..][..usize::from(meta.length)];
        let mut rest = packet.payload;
        for (at, byte) in payload.iter().enumerate() {
            ensure!(rest.take() == Some(&[*byte]), "{}: byte {at} is {byte:#x}", vector.name);
        }
        knocks += 1;
    }
    ensure!(knocks > 50, "only {knocks} knocks among the vectors");
    Ok(())
}

fn full_ring() -> Result<()> {
    let world = kernel::world()?;
    let mut kernel = Kernel::load(&world)?;
    let frame = |number: u32| {
        let payload = [b"e".as_slice(), &number.to_be_bytes(), &[b'k'; MAX_PAYLOAD - 5]].concat();
        ethernet(ETHER_IPV4, &ipv4(STRANGER.v4, HOST4, UDP, 0, &[], &udp(KNOCK_PORT, &payload)))
    };
    let queued = counter_index(0, DropReason::KnockQueued.number());
    let full = counter_index(0, DropReason::KnockBareRingFull.number());
    let mut sent = 0;
    while kernel.counter(full)? == 0 {
        ensure!(kernel.run(&frame(sent))? == XDP_DROP, "knock {sent} went on to the stack");
        sent += 1;
        ensure!(sent < 10_000, "the ring of {} never fills", map_name::BARE_KNOCKS);
    }
    let kept = u64::from(sent - 1);
    ensure!(kernel.counter(queued)? == kept, "{sent} sent, {} counted as queued", kernel.counter(queued)?);
    let records = kernel.knocks()?;
    ensure!(records.len() as u64 == kept, "{} in the ring, {kept} counted", records.len());
    for (number, record) in (0_u32..).zip(&records) {
        ensure!(meta(record)?.source == addr::from_v4(STRANGER.v4), "record {number}: another source");
        ensure!(
            record[size_of::<KnockMeta>() + 1..].starts_with(&number.to_be_bytes()),
            "record {number}: another's bytes"
        );
    }
    println!("the ring holds {kept} knocks of {MAX_PAYLOAD} bytes");
    ensure!(kernel.run(&frame(sent))? == XDP_DROP && kernel.knocks()?.len() == 1, "an emptied ring takes knocks again");
    Ok(())
}
