//! Frames against the program in the kernel and against the model: action, counter, flow and knock of each, and all
//! tables after every batch.

mod compare;
mod report;
mod shrink;

use std::{collections::BTreeMap, thread::sleep, time::Duration};

use anyhow::{Result, ensure};
use jpat_common::reason::counter_index;

use super::{
    dice::Dice,
    generate,
    model::{
        self, Fate, Knock,
        dissect::{Carries, Frame, Inside},
        tables::{Flow, FlowId, Transport},
    },
    program::{Loaded, encode::flow_value},
    stage::{OLDEST_NS, SECOND, SERVICES, Stage},
};
use crate::kernel::{boot_ns, has_frags};
use compare::{exit, is_same, moved};
pub(crate) use report::Report;
use shrink::shrunk;

/// Frames between two changes of configuration and state.
pub(crate) const BATCH: usize = 2_000;
/// A batch that takes longer ends early, for its times lie a few seconds from their limits.
const BATCH_NS: u64 = 2 * SECOND;
/// A packet that was not done by then says nothing, and its batch is tried again.
const LATE_NS: u64 = 3 * SECOND + SECOND / 2;
/// How often.
const ATTEMPTS: usize = 20;
/// Knocks that the empty rings take, that of bare ones and that of sealed ones: a record of 1288 bytes has a header of 8, and one byte stays free
/// (`__bpf_ringbuf_reserve` in kernel/bpf/ringbuf.c).
const RING_ROOM: [usize; 2] = [(RINGS[0] as usize - 1) / (1_288 + 8), (RINGS[1] as usize - 1) / (1_288 + 8)];
/// Bytes of both here: so few that batches fill them.
pub(crate) const RINGS: [u32; 2] = [1 << 18, 1 << 20];
/// Disagreements after which a run ends.
const ENOUGH: usize = 10;

/// One packet of a batch, as it is judged.
struct Try<'a> {
    seed: u64,
    batch: u64,
    number: usize,
    bytes: &'a [u8],
    /// Until when it says something.
    late_ns: u64,
}

/// Runs at least `packets` packets in the batches of `seed` from `first` on.
pub(crate) fn run(seed: u64, first: u64, packets: u64) -> Result<Report> {
    let mut loaded = Loaded::load()?;
    let mut report = Report::default();
    // Or flows that are as old as some here would be older than the machine.
    sleep(Duration::from_nanos(OLDEST_NS.saturating_sub(boot_ns()?)));
    for batch in first.. {
        let mut attempt = 0;
        while !self::batch(&mut loaded, seed, batch, &mut report)? {
            attempt += 1;
            ensure!(attempt < ATTEMPTS, "batch {batch} is late each time");
        }
        if report.frames >= packets || report.disagreements.len() >= ENOUGH {
            break;
        }
    }
    Ok(report)
}

/// One batch; whether it was quick enough to say something.
fn batch(loaded: &mut Loaded, seed: u64, batch: u64, report: &mut Report) -> Result<bool> {
    let mut dice = Dice::new(seed, batch);
    let start_ns = boot_ns()?;
    let mut stage = Stage::draw(&mut dice, start_ns, has_frags()?, RING_ROOM);
    loaded.set(&stage)?;
    let frames = generate::frames(&mut dice, &stage, seed.wrapping_add(batch.wrapping_mul(BATCH as u64)), BATCH);
    let mut services = vec![0];
    services.extend(SERVICES);
    let mut counters = loaded.counters(&services)?;
    let mut seen = Report { batches: 1, ..Report::default() };
    let mut knocks = Vec::new();
    for (number, bytes) in frames.iter().enumerate() {
        if boot_ns()? > start_ns + BATCH_NS {
            break;
        }
        seen.frames += 1;
        let at = Try { seed, batch, number, bytes, late_ns: start_ns + LATE_NS };
        if !one(loaded, &mut stage, &at, &mut counters, &mut knocks, &mut seen)? {
            return Ok(false);
        }
        // What comes behind a disagreement says nothing, for the tables may differ.
        if !seen.disagreements.is_empty() {
            break;
        }
    }
    seen.traits = stage.traits().map(|name| (name, seen.frames)).into();
    if seen.disagreements.is_empty() {
        let place = format!("after batch {batch} of seed {seed}");
        if loaded.counters(&services)? != counters {
            seen.disagreements.push(format!("{place}: a counter moved that should not"));
        }
        seen.disagreements.extend(compare::state(loaded, &stage)?.map(|what| format!("{place}: {what}")));
        seen.disagreements.extend(compare::knocks(loaded, &knocks)?.map(|what| format!("{place}: {what}")));
    }
    report.add(seen);
    Ok(true)
}

/// One packet; whether it was in time.
fn one(
    loaded: &mut Loaded,
    stage: &mut Stage,
    at: &Try<'_>,
    counters: &mut BTreeMap<u32, u64>,
    knocks: &mut Vec<Knock>,
    seen: &mut Report,
) -> Result<bool> {
    let before_ns = boot_ns()?;
    let frame = model::dissect::dissect(at.bytes, stage.program.start());
    let id = flow_id(&frame);
    let before = id.and_then(|id| stage.tables.flows.get(&id).copied());
    let (frame, ruling) = model::judge(&mut stage.tables, at.bytes, stage.program.start(), before_ns);
    let (slot, action) = exit(&ruling.fate, stage.tables.audits);
    let index = counter_index(ruling.service, slot);
    let done = loaded.run(stage.program, at.bytes)?;
    let now_ns = boot_ns()?;
    if now_ns > at.late_ns {
        return Ok(false);
    }

    let counted = counters.entry(index).or_default();
    *counted += 1;
    let is_counted = loaded.counter(index)? == *counted;
    if done != action || !is_counted {
        let moved = moved(loaded, counters, index)?;
        let bytes = shrunk(loaded, stage, at.bytes, id.zip(Some(before)), index)?;
        seen.disagreements.push(format!(
            "{}\n  model: action {action}, {ruling:?}\n  program: action {done}, counted {moved}\n  it is: {frame:?}\n  \
             flow before: {before:?}\n  smallest: {}",
            at.place(),
            hex(&bytes)
        ));
        return Ok(true);
    }
    if let Some(id) = id {
        let expected = stage.tables.flows.get(&id).copied();
        let found = loaded.flow(&id)?;
        match (expected, found) {
            (Some(expected), Some(found)) if is_same(&flow_value(&expected), &found, before_ns, now_ns) => {
                // From here on to the nanosecond.
                let flow = Flow { opened_ns: found.opened_ns, seen_ns: found.seen_ns, ..expected };
                stage.tables.flows.insert(id, flow);
            }
            (None, None) => {}
            _ => {
                seen.disagreements.push(format!(
                    "{}\n  flow of the model: {expected:?}\n  of the program: {found:?}\n  before: {before:?} at \
                     {before_ns}\n  ruling: {ruling:?}\n  it is: {frame:?}",
                    at.place()
                ));
            }
        }
    }
    *seen.reasons.entry(report::reason(&ruling)).or_default() += 1;
    *seen.rules.entry(ruling.rule).or_default() += 1;
    if let Fate::Knock(knock) = ruling.fate {
        knocks.push(knock);
    }
    Ok(true)
}

impl Try<'_> {
    fn place(&self) -> String {
        let Self { seed, batch, number, bytes, .. } = self;
        format!(
            "packet {number} of batch {batch} of seed {seed} (again: JPAT_ORACLE_SEED={seed} JPAT_ORACLE_FIRST={batch} \
             JPAT_ORACLE_PACKETS={BATCH})\n  frame: {}",
            hex(bytes)
        )
    }
}

fn flow_id(frame: &Frame) -> Option<FlowId> {
    let Carries::Packet(packet) = &frame.carries else { return None };
    let (transport, from, to) = match packet.inside.as_ref().ok()? {
        Inside::Tcp(tcp) => (Transport::Tcp, tcp.from, tcp.to),
        Inside::Udp(udp) => (Transport::Udp, udp.from, udp.to),
        Inside::LaterFragment | Inside::Icmp | Inside::Tunnel(_) | Inside::Other(_) => return None,
    };
    Some(FlowId { transport, source: (packet.source, from), destination: (packet.destination, to) })
}

fn hex(bytes: &[u8]) -> String {
    let shown: String = bytes.iter().take(400).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > 400 { format!("{shown}… ({} bytes)", bytes.len()) } else { shown }
}
