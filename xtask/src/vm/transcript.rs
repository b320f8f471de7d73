//! What a guest says on its second serial port, and what it should have said.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::{group::Planned, kernel::Kernel, report::Results};
use crate::{output, tally::Tally};

const CONTROL: &str = "@@jpat ";
const OUTPUT: &str = "@@out ";
/// What a test prints of a program that the verifier took: `verifier: NAME COUNT`.
const COUNT: &str = "verifier: ";

/// Everything heard so far.
pub(super) struct Transcript<'a> {
    kernel: Kernel,
    plan: &'a [Planned],
    runs: Vec<Heard>,
    current: Option<usize>,
    release: Option<String>,
    counts: BTreeMap<String, u64>,
    faults: Vec<String>,
    is_done: bool,
}

/// What was heard of one run.
#[derive(Default)]
struct Heard {
    tally: Tally,
    missing: BTreeSet<String>,
    lines: Vec<String>,
    status: Option<String>,
}

impl<'a> Transcript<'a> {
    /// Of a guest whose runs have to have outcomes of the `expected` tests.
    pub(super) fn new(kernel: Kernel, plan: &'a [Planned], expected: Vec<BTreeSet<String>>) -> Self {
        let runs = expected.into_iter().map(|missing| Heard { missing, ..Heard::default() }).collect();
        let (release, counts, faults) = (None, BTreeMap::new(), Vec::new());
        Self { kernel, plan, runs, current: None, release, counts, faults, is_done: false }
    }

    /// Takes one line in.
    pub(super) fn read(&mut self, line: &str) {
        if let Some(control) = line.strip_prefix(CONTROL) {
            return self.control(control);
        }
        let Some(heard) = self.current.and_then(|number| self.runs.get_mut(number)) else { return };
        if let Some(printed) = line.strip_prefix(OUTPUT) {
            if let Some((name, count)) = printed.strip_prefix(COUNT).and_then(|rest| rest.split_once(' '))
                && let Ok(count) = count.parse()
            {
                self.counts.insert(name.to_owned(), count);
            }
            heard.lines.push(printed.to_owned());
            return;
        }
        if let Some((name, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
            && !outcome.is_empty()
        {
            heard.missing.remove(name.trim_end());
        }
        heard.tally.read(line);
        heard.lines.push(line.to_owned());
    }

    fn control(&mut self, control: &str) {
        match control.split_once(' ').unwrap_or((control, "")) {
            ("release", release) => self.release = Some(release.to_owned()),
            ("begin", number) => self.current = number.parse().ok(),
            ("end", rest) => {
                if let Some((number, status)) = rest.split_once(' ')
                    && let Some(heard) = number.parse().ok().and_then(|number: usize| self.runs.get_mut(number))
                {
                    heard.status = Some(status.to_owned());
                }
            }
            ("fault", what) => self.faults.push(what.to_owned()),
            ("done", _) => self.is_done = true,
            (other, _) => self.faults.push(format!("the guest says `{other}`")),
        }
    }

    /// What came of it, after the guest went away. `outcome` is whether that was in time; `console` is quoted where the
    /// guest never got to its end.
    pub(super) fn finish(mut self, outcome: Result<()>, console: &str) -> Results {
        let mut whole = Tally::default();
        match &self.release {
            Some(release) if self.kernel.is_release(release) => {}
            Some(release) => whole.fail(format!("booted {release}")),
            None => whole.fail("the guest did not come up".to_owned()),
        }
        if let Err(error) = outcome {
            whole.fail(format!("{error:#}"));
        } else if !self.is_done {
            whole.fail("the guest ended before it was done".to_owned());
        }
        for fault in &self.faults {
            whole.fail(fault.clone());
        }
        if !self.is_done {
            let lines: Vec<_> = console.lines().collect();
            output::line(format_args!("--- {}: the console's last lines", self.kernel.name()));
            lines[lines.len().saturating_sub(30)..].iter().for_each(output::line);
        }
        let mut runs = self.runs.drain(..);
        let mut groups = Vec::new();
        for planned in self.plan {
            let mut sum = Tally::default();
            for heard in runs.by_ref().take(planned.runs.len()) {
                sum.add(heard.conclude(self.kernel.name(), planned.name));
            }
            groups.push(sum);
        }
        drop(runs);
        Results { release: self.release, whole, groups, counts: self.counts }
    }
}

impl Heard {
    /// The tally with everything that was silently not run as failures. Shows what was printed where something failed.
    fn conclude(mut self, kernel: &str, group: &str) -> Tally {
        for name in &self.missing {
            self.tally.fail(format!("{name}: has no outcome"));
        }
        match self.status.as_deref() {
            None => self.tally.fail("did not end".to_owned()),
            Some("0") => {}
            Some(status) if self.tally.failed() == 0 => self.tally.fail(format!("ended with status {status}")),
            Some(_) => {}
        }
        if self.tally.failed() > 0 {
            output::line(format_args!("--- {kernel} {group}"));
            self.lines.iter().for_each(output::line);
            output::line("---");
        }
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::group::{self, Group},
        *,
    };

    fn results(lines: &[&str]) -> Results {
        let plan = group::plan(vec![Group::Load], Vec::new());
        let expected = vec![BTreeSet::from(["load_a".to_owned(), "load_b".to_owned()])];
        let mut transcript = Transcript::new(Kernel::V6_1, &plan, expected);
        lines.iter().for_each(|line| transcript.read(line));
        transcript.finish(Ok(()), "")
    }

    const BOOTED: &str = "@@jpat release 6.1.0-50-cloud-amd64";
    const RESULT: &str =
        "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 1.00s";

    #[test]
    fn a_run_with_every_outcome_passes() {
        let all = ["@@jpat begin 0", "test load_a ... ok", "test load_b ... ok", RESULT, "@@jpat end 0 0"];
        let done = ["@@out verifier: jpat 35000", "@@jpat done"];
        let results = results(&[&[BOOTED], all.as_slice(), &done].concat());
        assert_eq!((results.whole.failed(), results.groups[0].failed()), (0, 0));
        assert_eq!(results.counts.get("jpat"), Some(&35_000));
    }

    #[test]
    fn what_is_silently_not_run_has_failed() {
        let one = ["@@jpat begin 0", "test load_a ... ok", RESULT, "@@jpat end 0 0", "@@jpat done"];
        assert_eq!(results(&[&[BOOTED], one.as_slice()].concat()).groups[0].failed(), 1, "a test without an outcome");
        assert_eq!(results(&[BOOTED, "@@jpat done"]).groups[0].failed(), 3, "two tests, and no end");
        assert_eq!(results(&[BOOTED]).whole.failed(), 1, "ended early");
        assert_eq!(results(&["@@jpat release 6.12.1", "@@jpat done"]).whole.failed(), 1, "another kernel");
        assert_eq!(results(&[]).whole.failed(), 2, "nothing at all");
        let fault = ["@@jpat fault insmod veth.ko: no", "@@jpat done"];
        assert_eq!(results(&[&[BOOTED], fault.as_slice()].concat()).whole.failed(), 1, "a module");
    }

    #[test]
    fn a_status_without_a_failed_test_is_a_failure() {
        let killed = ["@@jpat begin 0", "test load_a ... ok", "test load_b ... ok", "@@jpat end 0 137", "@@jpat done"];
        assert_eq!(results(&[&[BOOTED], killed.as_slice()].concat()).groups[0].failed(), 1);
    }
}
