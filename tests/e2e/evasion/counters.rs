//! What the program counted, against what it should have.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use jpat_common::reason::{DropReason, PassReason};
use jpat_ebpf::verdict::Verdict;
use jpat_tests::wait;

use crate::stage::Stage;

/// Packets by reason.
pub(crate) type Counted = BTreeMap<&'static str, f64>;

/// The reasons that the rest of the world moves as well, the client's stack with its answer to a forged connection
/// included: only too few of them are a fault.
const SHARED: [&str; 5] = ["not_ip", "icmp", "unprotected_port", "other_protocol", "flow"];

/// Packets counted so far.
pub(crate) fn read(stage: &Stage) -> Result<Counted> {
    let metrics = stage.metrics()?;
    let reasons = PassReason::ALL.iter().map(|reason| reason.as_str());
    let reasons = reasons.chain(DropReason::ALL.iter().map(|reason| reason.as_str()));
    Ok(reasons.map(|reason| (reason, metrics.packets(reason))).collect())
}

/// The reason that a verdict is counted under.
pub(crate) const fn label(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass(reason) => reason.as_str(),
        Verdict::Drop(reason) => reason.as_str(),
        Verdict::Knock => DropReason::KnockQueued.as_str(),
    }
}

/// Waits until exactly `expected` has been added to `before`; `merged` may give several reasons one name.
pub(crate) fn expect(
    stage: &Stage,
    before: &Counted,
    expected: &BTreeMap<&str, f64>,
    patience: Duration,
    merged: impl Fn(&'static str) -> &'static str,
) -> Result<()> {
    let mut found = Counted::new();
    wait::for_true("the counters", patience, || {
        found.clear();
        for (reason, count) in read(stage)? {
            let change = count - before.get(reason).copied().unwrap_or_default();
            *found.entry(merged(reason)).or_default() += change;
        }
        Ok(found.iter().all(|(reason, count)| {
            let expected = expected.get(reason).copied().unwrap_or_default();
            if SHARED.contains(reason) { *count >= expected } else { *count == expected }
        }))
    })
    .with_context(|| {
        found.retain(|_, count| *count != 0.0);
        format!("counted {found:?}, not {expected:?}")
    })
}
