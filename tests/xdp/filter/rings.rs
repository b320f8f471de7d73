//! What gets into which ring, and that neither form crowds out the other.

use anyhow::{Context, Result, ensure};
use jpat_common::{
    addr,
    knock::{FORM_BARE, FORM_SEALED, KnockMeta, KnockRecord, MAX_PAYLOAD},
    map_name,
    reason::{DropReason, counter_index},
    sealed::BARE_BUDGET,
};
use jpat_ebpf::verdict::{Verdict, XDP_DROP};
use jpat_tests::{
    knocks::{GUESTS, STAFF, TagKey, tag_of},
    packet::CLIENT_PORT,
    world::{HOST4, HOST6, KNOCK_PORT, STRANGER},
};

use super::{Stage, Way, drop, fresh};
use crate::{Case, kernel, knocks::meta};

pub(super) const CASES: &[Case] = &[
    ("p6_a_tag_is_remembered_when_the_ring_took_it_and_not_before", remembered),
    ("p5_bare_knocks_do_not_crowd_out_sealed_ones", || crowd(map_name::BARE_KNOCKS)),
    ("p5_sealed_knocks_do_not_crowd_out_bare_ones", || crowd(map_name::KNOCKS)),
];

/// Takes the one record out of the ring of its form, and looks at everything in it.
pub(super) fn expect_record(stage: &mut Stage, way: Way, group: u32, payload: &[u8]) -> Result<()> {
    let (form, ring, other) = if group == BARE_BUDGET {
        (FORM_BARE, map_name::BARE_KNOCKS, map_name::KNOCKS)
    } else {
        (FORM_SEALED, map_name::KNOCKS, map_name::BARE_KNOCKS)
    };
    let now_ns = kernel::boot_ns()?;
    let records = stage.kernel.records(ring)?;
    ensure!(records.len() == 1, "{way:?}: {} records in {ring}", records.len());
    ensure!(stage.kernel.records(other)?.is_empty(), "{way:?}: something in {other}");
    let record = records.first().context("no record")?;
    ensure!(record.len() == size_of::<KnockRecord>(), "{way:?}: a record of {} bytes", record.len());
    let found = meta(record)?;
    ensure!((1..=1_000_000_000).contains(&(now_ns - found.received_ns)), "{way:?}: received at another time");
    let (source, destination) =
        if way.is_v6() { (STRANGER.v6, HOST6) } else { (addr::from_v4(STRANGER.v4), addr::from_v4(HOST4)) };
    let expected = KnockMeta {
        received_ns: found.received_ns,
        // A test run is on the loopback device.
        ifindex: 1,
        length: u16::try_from(payload.len())?,
        form,
        reserved: 0,
        source,
        destination,
        source_port: CLIENT_PORT.to_be_bytes(),
        destination_port: KNOCK_PORT.to_be_bytes(),
        group,
    };
    ensure!(found == expected, "{way:?}: {found:?}, not {expected:?}");
    ensure!(record[size_of::<KnockMeta>()..][..payload.len()] == *payload, "{way:?}: other bytes");
    Ok(())
}

/// Sends knocks of this form until its ring is full; how many it took, and the one that it did not.
fn fill(stage: &mut Stage, key: Option<TagKey>) -> Result<(usize, Vec<u8>)> {
    let full = if key.is_some() { DropReason::KnockRingFull } else { DropReason::KnockBareRingFull };
    let full = counter_index(0, full.number());
    let before = stage.kernel.counter(full)?;
    for sent in 0..10_000 {
        let payload = match key {
            Some(key) => fresh(key, MAX_PAYLOAD)?.bytes(),
            None => [b'e'; MAX_PAYLOAD].to_vec(),
        };
        let action = stage.kernel.run_program(stage.program, &Way::V4.carry(&payload, stage.program))?;
        ensure!(action == XDP_DROP, "knock {sent}: action {action}");
        if stage.kernel.counter(full)? > before {
            return Ok((sent, payload));
        }
    }
    anyhow::bail!("the ring never fills")
}

fn remembered() -> Result<()> {
    let mut stage = Stage::new(map_name::PROGRAM)?;
    let (taken, refused) = fill(&mut stage, Some(STAFF))?;
    let tag = tag_of(&refused).context("a tag")?;
    let tags = stage.kernel.tags()?;
    ensure!(tags.len() == taken && !tags.contains(&tag), "{} tags of {taken} knocks that were taken", tags.len());
    stage.send(Way::V4, &refused, drop(DropReason::KnockRingFull), "again, while the ring is full")?;
    ensure!(stage.kernel.records(map_name::KNOCKS)?.len() == taken, "another number of records");
    stage.send(Way::V4, &refused, Verdict::Knock, "again, when there is room")?;
    ensure!(stage.kernel.tags()?.contains(&tag), "it was taken, and is not remembered");
    stage.send(Way::V6, &refused, drop(DropReason::KnockTagSeen), "once more, by another way")?;
    let mut forged = fresh(STAFF, 160)?.bytes();
    forged[100] ^= 1;
    let before = stage.kernel.tags()?;
    stage.send(Way::V4, &forged, drop(DropReason::KnockBadTag), "a bad tag")?;
    stage.send(Way::V4, &forged, drop(DropReason::KnockBadTag), "a bad tag again")?;
    ensure!(stage.kernel.tags()? == before, "a bad tag is remembered");
    Ok(())
}

/// One ring is full, and the other takes what it can hold as if nothing were.
fn crowd(full: &str) -> Result<()> {
    let mut stage = Stage::new(map_name::PROGRAM)?;
    let (first, second) = if full == map_name::KNOCKS { (Some(STAFF), None) } else { (None, Some(GUESTS)) };
    let (alone, _) = fill(&mut Stage::new(map_name::PROGRAM)?, second)?;
    let (crowded, _) = fill(&mut stage, first)?;
    let (beside, _) = fill(&mut stage, second)?;
    ensure!(beside == alone, "{beside} knocks beside a full ring, {alone} beside an empty one");
    let counts = [map_name::KNOCKS, map_name::BARE_KNOCKS].map(|ring| stage.kernel.records(ring).map(|all| all.len()));
    let counts = counts.into_iter().collect::<Result<Vec<_>>>()?;
    let expected = if full == map_name::KNOCKS { vec![crowded, beside] } else { vec![beside, crowded] };
    ensure!(counts == expected, "{counts:?} records, not {expected:?}");
    println!("sealed and bare knocks of {MAX_PAYLOAD} bytes in their rings: {counts:?}");
    Ok(())
}
