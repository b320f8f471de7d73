//! What a run has seen.

use std::collections::BTreeMap;

use jpat_common::reason::{DropReason, PassReason};

use crate::oracle::model::{Fate, Ruling};

/// What a run has seen.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) frames: u64,
    pub(crate) batches: u64,
    /// Packets by reason, as the model has it.
    pub(crate) reasons: BTreeMap<&'static str, u64>,
    /// Packets by configuration.
    pub(crate) traits: BTreeMap<&'static str, u64>,
    /// Packets by the rule of the model that decided.
    pub(crate) rules: BTreeMap<&'static str, u64>,
    pub(crate) disagreements: Vec<String>,
}

impl Report {
    /// Adds what a batch has seen.
    pub(super) fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.batches += other.batches;
        for (mine, others) in
            [(&mut self.reasons, other.reasons), (&mut self.rules, other.rules), (&mut self.traits, other.traits)]
        {
            for (name, count) in others {
                *mine.entry(name).or_default() += count;
            }
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

/// The name under which a ruling is counted.
pub(super) fn reason(ruling: &Ruling) -> &'static str {
    match &ruling.fate {
        Fate::Pass(reason) => label("pass", reason.as_str()),
        Fate::Drop(reason) => reason.as_str(),
        Fate::Knock(_) => DropReason::KnockQueued.as_str(),
    }
}
