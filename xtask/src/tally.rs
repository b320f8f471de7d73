//! What passed, failed and was skipped.

use std::{
    fmt::{self, Display, Formatter},
    time::Duration,
};

use crate::output;

/// The count of one group of checks.
#[derive(Default, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Why something failed or was skipped, where no test says so itself.
    notes: Vec<String>,
}

impl Tally {
    pub(crate) fn pass(&mut self) {
        self.passed += 1;
    }

    pub(crate) fn fail(&mut self, why: String) {
        self.failed += 1;
        self.notes.push(format!("failed: {why}"));
    }

    pub(crate) fn skip(&mut self, why: String) {
        self.skipped += 1;
        self.notes.push(format!("skipped: {why}"));
    }

    /// Counts what a line of a test binary says: `test result: ok. 12 passed; 0 failed; 1 ignored; …`; and notes
    /// `test NAME ... FAILED` and `test NAME ... ignored, WHY`.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some((name, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            let name = name.trim_end();
            if outcome == "FAILED" {
                self.notes.push(format!("failed: {name}"));
            } else if let Some(reason) = outcome.strip_prefix("ignored") {
                self.notes.push(format!("skipped: {name}{reason}"));
            }
        }
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let counts = result.split_once(". ").map_or(result, |(_, counts)| counts);
        for count in counts.split("; ") {
            let Some((number, of)) = count.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match of {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }

    pub(crate) fn ran(&self) -> u64 {
        self.passed + self.failed + self.skipped
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// What failed or was skipped, by name.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Passed, failed and skipped in one word, for a cell of a table.
    pub(crate) fn cell(&self) -> String {
        format!("{}/{}/{}", self.passed, self.failed, self.skipped)
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.notes.extend(other.notes);
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Prints a row for each group, the reasons, and the sum in one plain line. Returns whether nothing failed.
pub(crate) fn summary(groups: Vec<(&str, Tally, Duration)>) -> bool {
    output::line("");
    output::line(format_args!("{:<8} {:>7} {:>7} {:>8} {:>9}", "group", "passed", "failed", "skipped", "time"));
    let mut sum = Tally::default();
    for (name, tally, time) in &groups {
        let seconds = time.as_secs_f64();
        let Tally { passed, failed, skipped, .. } = tally;
        output::line(format_args!("{name:<8} {passed:>7} {failed:>7} {skipped:>8} {seconds:>7.1} s"));
    }
    for (name, tally, _) in groups {
        for note in &tally.notes {
            output::line(format_args!("{name}: {note}"));
        }
        sum.add(tally);
    }
    output::line(&sum);
    sum.failed == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        for line in lines {
            tally.read(line);
        }
        tally
    }

    #[test]
    fn result_lines_add_up() {
        let tally = read(&[
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.02s",
            "test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s",
        ]);
        assert_eq!((tally.passed, tally.failed, tally.skipped), (14, 4, 1));
        assert_eq!(tally.ran(), 19);
    }

    #[test]
    fn other_lines_count_nothing() {
        let tally = read(&["running 12 tests", "test parse::vlan ... ok", "12 passed; 1 failed", ""]);
        assert_eq!(tally, Tally::default());
    }

    #[test]
    fn failed_and_ignored_tests_are_named() {
        let tally =
            read(&["test kernel_5_10 ... ignored, needs QEMU", "test p1_silent   ... FAILED", "test short ... ok"]);
        assert_eq!(tally.notes, ["skipped: kernel_5_10, needs QEMU", "failed: p1_silent"]);
    }
}
