//! Frames against the program in the kernel and against the model: action, counter, flow and knock of each, and all
//! tables after every batch.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use jpat_common::{
    flow::FlowValue,
    knock::{FORM_BARE, KnockMeta},
    reason::{AUDIT_OFFSET, DropReason, PassReason, counter_index},
};
use jpat_ebpf::verdict::{XDP_DROP, XDP_PASS};

use super::{
    dice::Dice,
    generate,
    model::{
        self, Fate, Knock, Ruling,
        dissect::{Carries, Frame, Inside},
        tables::{Flow, FlowId, Transport},
    },
    program::{Loaded, flow_key, flow_value, grant_key, mapped},
    stage::{OLDEST_NS, SECOND, SERVICES, Stage},
};
use crate::kernel::{boot_ns, has_frags};

/// Frames between two changes of configuration and state.
pub(crate) const BATCH: usize = 2_000;
/// Within this the batch must be done, for its times lie that far from every limit.
const BATCH_NS: u64 = SECOND;
/// How often a batch is tried again that took longer.
const ATTEMPTS: usize = 20;
/// The program's clock is behind by a tick at most; a tick is 10 ms at the longest (`HZ=100`).
const TICK_NS: u64 = 10_000_000;
/// Knocks that the empty ring takes: a record of 1288 bytes has a header of 8, and one byte stays free
/// (`__bpf_ringbuf_reserve` in kernel/bpf/ringbuf.c).
const RING_ROOM: usize = ((1 << 20) - 1) / (1_288 + 8);
/// Disagreements after which a run ends.
const ENOUGH: usize = 10;

/// What a run has seen.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) frames: u64,
    pub(crate) batches: u64,
    /// Packets by reason, as the model has it.
    pub(crate) reasons: BTreeMap<&'static str, u64>,
    /// Packets by the rule of the model that decided.
    pub(crate) rules: BTreeMap<&'static str, u64>,
    pub(crate) disagreements: Vec<String>,
}

/// One packet of a batch, as it is judged.
struct Try<'a> {
    seed: u64,
    batch: u64,
    number: usize,
    bytes: &'a [u8],
}

/// Runs batches `first..first + count` of `seed`.
pub(crate) fn run(seed: u64, first: u64, count: u64) -> Result<Report> {
    let mut loaded = Loaded::load()?;
    let mut report = Report::default();
    ensure!(boot_ns()? > OLDEST_NS, "the machine has run for less than {} seconds", OLDEST_NS / SECOND);
    for batch in first..first + count {
        let mut attempt = 0;
        while !self::batch(&mut loaded, seed, batch, &mut report)? {
            attempt += 1;
            ensure!(attempt < ATTEMPTS, "batch {batch} never ends within {} ms", BATCH_NS / 1_000_000);
        }
        if report.disagreements.len() >= ENOUGH {
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
    let mut seen = Report { frames: frames.len() as u64, batches: 1, ..Report::default() };
    let mut knocks = Vec::new();
    for (number, bytes) in frames.iter().enumerate() {
        let at = Try { seed, batch, number, bytes };
        one(loaded, &mut stage, &at, &mut counters, &mut knocks, &mut seen)?;
        if seen.disagreements.len() >= ENOUGH {
            break;
        }
    }
    if boot_ns()? - start_ns > BATCH_NS {
        return Ok(false);
    }
    if seen.disagreements.is_empty() {
        let place = format!("after batch {batch} of seed {seed}");
        if loaded.counters(&services)? != counters {
            seen.disagreements.push(format!("{place}: a counter moved that should not"));
        }
        seen.disagreements.extend(compare_state(loaded, &stage)?.map(|what| format!("{place}: {what}")));
        seen.disagreements.extend(compare_knocks(loaded, &knocks)?.map(|what| format!("{place}: {what}")));
    }
    report.add(seen);
    Ok(true)
}

fn one(
    loaded: &mut Loaded,
    stage: &mut Stage,
    at: &Try<'_>,
    counters: &mut BTreeMap<u32, u64>,
    knocks: &mut Vec<Knock>,
    seen: &mut Report,
) -> Result<()> {
    let before_ns = boot_ns()?;
    let frame = model::dissect::dissect(at.bytes, stage.program.start());
    let id = flow_id(&frame);
    let before = id.and_then(|id| stage.tables.flows.get(&id).copied());
    let (frame, ruling) = model::judge(&mut stage.tables, at.bytes, stage.program.start(), before_ns);
    let (slot, action) = exit(&ruling.fate, stage.tables.audits);
    let index = counter_index(ruling.service, slot);
    let done = loaded.run(stage.program, at.bytes)?;
    let now_ns = boot_ns()?;

    let counted = counters.entry(index).or_default();
    *counted += 1;
    let is_counted = loaded.counter(index)? == *counted;
    if done != action || !is_counted {
        let moved = moved(loaded, counters, index)?;
        let bytes = shrunk(loaded, stage, at.bytes, id.zip(Some(before)), action)?;
        seen.disagreements.push(format!(
            "{}\n  model: action {action}, {ruling:?}\n  program: action {done}, counted {moved}\n  it is: {frame:?}\n  \
             flow before: {before:?}\n  smallest: {}",
            at.place(),
            hex(&bytes)
        ));
        *counters = loaded.counters(&services_of(counters))?;
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
                loaded.put_flow(&id, expected.as_ref())?;
            }
        }
    }
    *seen.reasons.entry(reason(&ruling)).or_default() += 1;
    *seen.rules.entry(ruling.rule).or_default() += 1;
    if let Fate::Knock(knock) = ruling.fate {
        knocks.push(knock);
    }
    Ok(())
}

impl Try<'_> {
    fn place(&self) -> String {
        let Self { seed, batch, number, bytes } = self;
        format!(
            "packet {number} of batch {batch} of seed {seed} (again: JPAT_ORACLE_SEED={seed} JPAT_ORACLE_FIRST={batch} \
             JPAT_ORACLE_PACKETS={BATCH})\n  frame: {}",
            hex(bytes)
        )
    }
}

impl Report {
    fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.batches += other.batches;
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
        for (rule, count) in other.rules {
            *self.rules.entry(rule).or_default() += count;
        }
        self.disagreements.extend(other.disagreements);
    }

    /// Reasons that fewer than `least` packets had.
    pub(crate) fn rare(&self, least: u64) -> Vec<String> {
        let passes = PassReason::ALL.iter().map(|reason| ("pass", reason.as_str()));
        let drops = DropReason::ALL.iter().map(|reason| ("drop", reason.as_str()));
        passes
            .chain(drops)
            .filter_map(|(verdict, name)| {
                let count = self.reasons.get(label(verdict, name)).copied().unwrap_or(0);
                (count < least).then(|| format!("{verdict} {name}: {count}"))
            })
            .collect()
    }
}

/// `tunnel` passes and is dropped: each by its own name.
fn label(verdict: &str, name: &'static str) -> &'static str {
    if verdict == "pass" && name == PassReason::Tunnel.as_str() { "tunnel (pass)" } else { name }
}

fn reason(ruling: &Ruling) -> &'static str {
    match &ruling.fate {
        Fate::Pass(reason) => label("pass", reason.as_str()),
        Fate::Drop(reason) => reason.as_str(),
        Fate::Knock(_) => DropReason::KnockQueued.as_str(),
    }
}

/// How a packet leaves: its counter's slot and the action. In audit mode everything goes on but what is for the knock port.
fn exit(fate: &Fate, audits: bool) -> (u32, u32) {
    match fate {
        Fate::Pass(reason) => (reason.number(), XDP_PASS),
        Fate::Knock(_) => (DropReason::KnockQueued.number(), XDP_DROP),
        Fate::Drop(reason) if audits && !reason.as_str().starts_with("knock_") => {
            (reason.number() + AUDIT_OFFSET, XDP_PASS)
        }
        Fate::Drop(reason) => (reason.number(), XDP_DROP),
    }
}

fn services_of(counters: &BTreeMap<u32, u64>) -> Vec<u32> {
    let mut services: Vec<_> = counters.keys().map(|index| index / jpat_common::reason::SLOTS).collect();
    services.extend(SERVICES);
    services.push(0);
    services.sort_unstable();
    services.dedup();
    services
}

/// Which counters differ from what they should be.
fn moved(loaded: &Loaded, counters: &BTreeMap<u32, u64>, index: u32) -> Result<String> {
    let mut expected = counters.clone();
    expected.entry(index).and_modify(|count| *count -= 1);
    let found = loaded.counters(&services_of(counters))?;
    let name = |slot: u32| {
        let (slot, audit) = if slot >= 96 { (slot - AUDIT_OFFSET, " (audit)") } else { (slot, "") };
        let pass = PassReason::ALL.iter().find(|reason| reason.number() == slot).map(|reason| reason.as_str());
        let drop = DropReason::ALL.iter().find(|reason| reason.number() == slot).map(|reason| reason.as_str());
        format!("{}{audit}", pass.or(drop).unwrap_or("?"))
    };
    let moved = found.iter().filter(|(index, count)| expected.get(index).copied().unwrap_or(0) != **count);
    let names = moved.map(|(index, _)| {
        format!("{} of service {}", name(index % jpat_common::reason::SLOTS), index / jpat_common::reason::SLOTS)
    });
    Ok(names.collect::<Vec<_>>().join(", "))
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

/// Whether two flows are the same, where times that the packet set lie between its begin, less a tick, and its end.
fn is_same(expected: &FlowValue, found: &FlowValue, before_ns: u64, now_ns: u64) -> bool {
    let time = |expected: u64, found: u64| {
        expected == found || (expected == before_ns && (before_ns - TICK_NS..=now_ns).contains(&found))
    };
    time(expected.opened_ns, found.opened_ns)
        && time(expected.seen_ns, found.seen_ns)
        && FlowValue { opened_ns: found.opened_ns, seen_ns: found.seen_ns, ..*expected } == *found
}

fn compare_state(loaded: &Loaded, stage: &Stage) -> Result<Option<String>> {
    let (flows, opened) = loaded.state()?;
    let expected: BTreeMap<_, _> =
        stage.tables.flows.iter().map(|(id, flow)| (flow_key(id), flow_value(flow))).collect();
    if flows != expected {
        let wrong = flows.iter().filter(|(key, value)| expected.get(key) != Some(value)).count();
        let missing = expected.keys().filter(|key| !flows.contains_key(key)).count();
        return Ok(Some(format!("{wrong} flows are not as in the model, {missing} are missing")));
    }
    // A grant whose count was asked for stands there with 0.
    let opened: BTreeMap<_, _> = opened.into_iter().filter(|(_, count)| *count != 0).collect();
    let expected: BTreeMap<_, _> = stage.tables.opened.iter().map(|(id, count)| (grant_key(id), *count)).collect();
    Ok((opened != expected).then(|| format!("opened flows are counted as {opened:?}, not {expected:?}")))
}

fn compare_knocks(loaded: &mut Loaded, expected: &[Knock]) -> Result<Option<String>> {
    for (number, knock) in expected.iter().enumerate() {
        let Some(record) = loaded.knock() else {
            return Ok(Some(format!("knock {number} of {} is not in the ring", expected.len())));
        };
        if let Err(error) = compare_knock(&record, knock) {
            return Ok(Some(format!("knock {number}: {error:#}")));
        }
    }
    Ok(loaded.knock().map(|_| format!("more than {} knocks in the ring", expected.len())))
}

fn compare_knock(record: &[u8], knock: &Knock) -> Result<()> {
    let field = |at: usize, length: usize| record.get(at..at + length).context("a short record");
    let length = u16::try_from(knock.payload.len())?;
    let (from, to) = (knock.source.1.to_be_bytes(), knock.destination.1.to_be_bytes());
    for (what, at, expected) in [
        ("length", std::mem::offset_of!(KnockMeta, length), length.to_ne_bytes().to_vec()),
        ("form", std::mem::offset_of!(KnockMeta, form), vec![FORM_BARE]),
        ("source", std::mem::offset_of!(KnockMeta, source), mapped(knock.source.0).to_vec()),
        ("destination", std::mem::offset_of!(KnockMeta, destination), mapped(knock.destination.0).to_vec()),
        ("source port", std::mem::offset_of!(KnockMeta, source_port), from.to_vec()),
        ("destination port", std::mem::offset_of!(KnockMeta, destination_port), to.to_vec()),
        ("payload", size_of::<KnockMeta>(), knock.payload.clone()),
    ] {
        let found = field(at, expected.len())?;
        if found != expected {
            bail!("{what} {found:x?}, not {expected:x?}");
        }
    }
    Ok(())
}

/// The shortest and emptiest frame that was found on which model and program still take different actions, or the frame
/// itself.
fn shrunk(
    loaded: &mut Loaded,
    stage: &Stage,
    bytes: &[u8],
    flow: Option<(FlowId, Option<Flow>)>,
    action: u32,
) -> Result<Vec<u8>> {
    let mut best = bytes.to_vec();
    let mut differs = |candidate: &[u8]| -> Result<bool> {
        let mut tables = stage.tables.clone();
        if let Some((id, before)) = flow {
            loaded.put_flow(&id, before.as_ref())?;
            match before {
                Some(before) => drop(tables.flows.insert(id, before)),
                None => drop(tables.flows.remove(&id)),
            }
        }
        let (_, ruling) = model::judge(&mut tables, candidate, stage.program.start(), boot_ns()?);
        let expected = exit(&ruling.fate, tables.audits).1;
        Ok(expected == action && loaded.run(stage.program, candidate)? != expected)
    };
    if !differs(&best)? {
        return Ok(best);
    }
    while best.len() > 14 && differs(&best[..best.len() - 1])? {
        best.pop();
    }
    for at in 12..best.len().min(200) {
        let mut candidate = best.clone();
        candidate[at] = 0;
        if candidate != best && differs(&candidate)? {
            best = candidate;
        }
    }
    Ok(best)
}

fn hex(bytes: &[u8]) -> String {
    let shown: String = bytes.iter().take(400).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > 400 { format!("{shown}… ({} bytes)", bytes.len()) } else { shown }
}
