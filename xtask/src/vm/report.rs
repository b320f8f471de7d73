//! The table: kernels by groups.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{group::Planned, kernel::Kernel};
use crate::{output, tally::Tally};

/// What came of one guest.
pub(super) struct Results {
    /// `uname -r`.
    pub(super) release: Option<String>,
    /// What concerns no group.
    pub(super) whole: Tally,
    /// In the order of the plan.
    pub(super) groups: Vec<Tally>,
    /// Instructions that the verifier walked, by program.
    pub(super) counts: BTreeMap<String, u64>,
}

impl Results {
    /// Of a guest that never started.
    pub(super) fn failed(why: &anyhow::Error, plan: &[Planned]) -> Self {
        let mut whole = Tally::default();
        whole.fail(format!("{why:#}"));
        let groups = plan.iter().map(|_| Tally::default()).collect();
        Self { release: None, whole, groups, counts: BTreeMap::new() }
    }
}

/// The results of all kernels.
pub(super) struct Report {
    groups: Vec<&'static str>,
    rows: Vec<(Kernel, Results, Duration)>,
}

impl Report {
    pub(super) fn new(plan: &[Planned]) -> Self {
        Self { groups: plan.iter().map(|planned| planned.name).collect(), rows: Vec::new() }
    }

    pub(super) fn add(&mut self, kernel: Kernel, results: Results, time: Duration) {
        self.rows.push((kernel, results, time));
    }

    /// Prints passed/failed/skipped of each kernel and group, what failed and was skipped by name, the verifier's counts,
    /// and the sum. Returns whether nothing failed.
    pub(super) fn print(&self) -> bool {
        let columns = |cells: &[String]| cells.iter().map(|cell| format!("{cell:>16}")).collect::<String>();
        let groups: Vec<_> = self.groups.iter().map(|name| (*name).to_owned()).collect();
        output::line("");
        output::line(format_args!("{:<28}{}{:>8}", "passed/failed/skipped", columns(&groups), "time"));
        for (kernel, results, time) in &self.rows {
            let cells: Vec<_> = results.groups.iter().map(Tally::cell).collect();
            let name = results.release.as_deref().unwrap_or(kernel.name());
            output::line(format_args!("{name:<28}{}{:>6.0} s", columns(&cells), time.as_secs_f64()));
        }
        self.print_counts();
        let mut sum = Tally::default();
        for (kernel, results, _) in &self.rows {
            let named = self.groups.iter().zip(&results.groups);
            for (name, tally) in
                [("guest", &results.whole)].into_iter().chain(named.map(|(name, tally)| (*name, tally)))
            {
                for note in tally.notes() {
                    output::line(format_args!("{} {name}: {note}", kernel.name()));
                }
                sum.add(tally.clone());
            }
        }
        output::line(&sum);
        sum.failed() == 0
    }

    fn print_counts(&self) {
        let programs: BTreeSet<_> = self.rows.iter().flat_map(|(_, results, _)| results.counts.keys()).collect();
        if programs.is_empty() {
            return;
        }
        output::line("");
        let header: String = programs.iter().map(|program| format!("{program:>16}")).collect();
        output::line(format_args!("{:<28}{header}", "instructions verified"));
        for (kernel, results, _) in &self.rows {
            let cell = |program: &&String| match results.counts.get(*program) {
                Some(count) => format!("{count:>16}"),
                None => format!("{:>16}", "-"),
            };
            let cells: String = programs.iter().map(cell).collect();
            output::line(format_args!("{:<28}{cells}", results.release.as_deref().unwrap_or(kernel.name())));
        }
    }
}
