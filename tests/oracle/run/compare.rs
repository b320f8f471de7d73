//! What the program did beside what the model says.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use jpat_common::{
    flow::FlowValue,
    knock::{FORM_BARE, FORM_SEALED, KnockMeta},
    reason::{AUDIT_OFFSET, DropReason, PassReason, SLOTS},
};
use jpat_ebpf::verdict::{XDP_DROP, XDP_PASS};

use super::BATCH_NS;
use crate::oracle::{
    model::{Fate, Knock, gate::Gate},
    program::{
        Loaded,
        encode::{flow_key, flow_value, grant_key, mapped},
    },
    stage::{SERVICES, Stage},
};

/// The program's clock is behind by a tick at most, and a tick may come late.
const TICK_NS: u64 = 100_000_000;

/// How a packet leaves: its counter's slot and the action. In audit mode everything goes on but what is for the knock port.
pub(super) fn exit(fate: &Fate, audits: bool) -> (u32, u32) {
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
    let mut services: Vec<_> = counters.keys().map(|index| index / SLOTS).collect();
    services.extend(SERVICES);
    services.push(0);
    services.sort_unstable();
    services.dedup();
    services
}

/// Which counters differ from what they should be.
pub(super) fn moved(loaded: &Loaded, counters: &BTreeMap<u32, u64>, index: u32) -> Result<String> {
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
    let names = moved.map(|(index, _)| format!("{} of service {}", name(index % SLOTS), index / SLOTS));
    Ok(names.collect::<Vec<_>>().join(", "))
}

/// Whether two flows are the same, where times that the packet set lie between its begin, less a tick, and its end.
pub(super) fn is_same(expected: &FlowValue, found: &FlowValue, before_ns: u64, now_ns: u64) -> bool {
    let time = |expected: u64, found: u64| {
        expected == found || (expected == before_ns && (before_ns - TICK_NS..=now_ns).contains(&found))
    };
    time(expected.opened_ns, found.opened_ns)
        && time(expected.seen_ns, found.seen_ns)
        && FlowValue { opened_ns: found.opened_ns, seen_ns: found.seen_ns, ..*expected } == *found
}

/// What is wrong with the tables after a batch.
pub(super) fn state(loaded: &Loaded, stage: &Stage) -> Result<Option<String>> {
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
    if opened != expected {
        return Ok(Some(format!("opened flows are counted as {opened:?}, not {expected:?}")));
    }
    gate(loaded, &stage.tables.gate)
}

/// What is wrong with what is remembered of knocks. What is taken up of a budget was so at the time of a knock in this
/// batch.
fn gate(loaded: &Loaded, expected: &Gate) -> Result<Option<String>> {
    let tags = loaded.tags()?;
    if tags != expected.seen {
        return Ok(Some(format!("tags {tags:x?} are remembered, not {:x?}", expected.seen)));
    }
    for (group, budget) in &expected.budgets {
        let (expected, found) = (budget.at_ns.saturating_add(budget.taken_ns), loaded.budget(*group)?);
        if found.abs_diff(expected) > BATCH_NS {
            return Ok(Some(format!("budget {group}: taken up until {found}, not {expected}")));
        }
    }
    Ok(None)
}

/// What is wrong with the records in the ring.
pub(super) fn knocks(loaded: &mut Loaded, expected: &[Knock]) -> Result<Option<String>> {
    for (number, knock) in expected.iter().enumerate() {
        let Some(record) = loaded.knock(knock.taken.is_sealed) else {
            return Ok(Some(format!("knock {number} of {} is not in the ring", expected.len())));
        };
        if let Err(error) = one_knock(&record, knock) {
            return Ok(Some(format!("knock {number}: {error:#}")));
        }
    }
    let more = loaded.knock(false).or_else(|| loaded.knock(true));
    Ok(more.map(|_| format!("more than {} knocks in the ring", expected.len())))
}

fn one_knock(record: &[u8], knock: &Knock) -> Result<()> {
    let field = |at: usize, length: usize| record.get(at..at + length).context("a short record");
    let length = u16::try_from(knock.payload.len())?;
    let (from, to) = (knock.source.1.to_be_bytes(), knock.destination.1.to_be_bytes());
    for (what, at, expected) in [
        ("length", std::mem::offset_of!(KnockMeta, length), length.to_ne_bytes().to_vec()),
        (
            "form",
            std::mem::offset_of!(KnockMeta, form),
            vec![if knock.taken.is_sealed { FORM_SEALED } else { FORM_BARE }],
        ),
        ("group", std::mem::offset_of!(KnockMeta, group), knock.taken.group.to_ne_bytes().to_vec()),
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
