//! One search, and what libFuzzer says about it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

use anyhow::{Context, Result, bail};

use super::{Tool, checked_in, own};
use crate::{cargo, output};

/// As `jpat_fuzz::MAX_INPUT`.
const MAX_INPUT: &str = "-max_len=4096";
/// Inputs that are checked in, as the test `corpora` allows.
const MAX_FILES: usize = 300;
/// Seconds for one input, and megabytes; more is a finding.
const BOUNDS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=2048"];

/// What a search reached.
#[derive(Default, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) inputs: u64,
    pub(super) per_second: u64,
    pub(super) edges: u64,
    pub(super) features: u64,
    /// Inputs and bytes, as libFuzzer prints them.
    pub(super) corpus: String,
    /// Where the input lies that broke something.
    pub(super) artefact: Option<String>,
}

/// Searches for a while, beginning with all that is known.
pub(super) fn search(tool: &Tool, target: &str, seconds: u64) -> Result<Found> {
    let artefacts = own("artefacts", target)?;
    let mut command = tool.command("run");
    command.arg(target).arg(own("corpus", target)?).arg(checked_in("corpus", target)?);
    command.arg(checked_in("regressions", target)?).arg(own("seeds", target)?).arg("--");
    command.args([MAX_INPUT, "-print_final_stats=1", &format!("-max_total_time={seconds}")]).args(BOUNDS);
    command.arg(format!("-artifact_prefix={}/", artefacts.display()));
    output::step(cargo::show(&command));
    let mut child = command.stderr(Stdio::piped()).spawn().context("cannot start cargo-fuzz")?;
    let stderr = child.stderr.take().context("a piped standard error is there")?;
    let mut found = Found::default();
    for line in BufReader::new(stderr).split(b'\n') {
        let line = line.context("cannot read what libFuzzer says")?;
        let line = String::from_utf8_lossy(&line);
        if found.read(&line) {
            output::step(&line);
        }
    }
    let status = child.wait().context("cannot wait for cargo-fuzz")?;
    if !status.success() && found.artefact.is_none() {
        bail!("the search of `{target}` ended with {status} and kept no input");
    }
    Ok(found)
}

/// Replaces the checked-in corpus by few inputs that reach every edge that is reached; where those are too many, by the ones that
/// reach most.
pub(super) fn minimise(tool: &Tool, target: &str) -> Result<()> {
    let (corpus, merged, cover) = (checked_in("corpus", target)?, own("merged", target)?, own("minimised", target)?);
    // The second way finds fewer inputs, in a time that grows with the square of what it is given.
    merge(tool, target, "-merge=1", &merged, &[&corpus, &own("corpus", target)?, &own("seeds", target)?])?;
    merge(tool, target, "-set_cover_merge=1", &cover, &[&merged])?;
    let mut inputs = Vec::new();
    for entry in fs::read_dir(&cover).with_context(|| format!("cannot read {}", cover.display()))? {
        let entry = entry.with_context(|| format!("cannot read {}", cover.display()))?;
        // Those that reach most are written first.
        inputs
            .push((entry.metadata().and_then(|input| input.modified()).context("an input has no time")?, entry.path()));
    }
    inputs.sort();
    let kept = &inputs[..inputs.len().min(MAX_FILES)];
    empty(&corpus)?;
    for (_, input) in kept {
        fs::copy(input, corpus.join(input.file_name().unwrap_or_default())).context("cannot copy an input")?;
    }
    output::step(format_args!("{target}: {} inputs of {} in {}", kept.len(), inputs.len(), corpus.display()));
    Ok(())
}

fn merge(tool: &Tool, target: &str, how: &str, into: &Path, from: &[&Path]) -> Result<()> {
    empty(into)?;
    let mut command = tool.command("run");
    command.arg(target).arg(into).args(from).arg("--");
    // Edges alone: with how often each is passed, it would be thousands of inputs.
    cargo::succeed(command.args([how, "-use_counters=0", MAX_INPUT]).args(BOUNDS))
}

fn empty(directory: &Path) -> Result<()> {
    fs::remove_dir_all(directory).with_context(|| format!("cannot empty {}", directory.display()))?;
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))
}

impl Found {
    /// Reads a line; whether a person wants to see it.
    fn read(&mut self, line: &str) -> bool {
        let number = |text: &str| text.trim().parse().unwrap_or_default();
        if let Some((name, value)) = line.strip_prefix("stat::").and_then(|stat| stat.split_once(':')) {
            match name {
                "number_of_executed_units" => self.inputs = number(value),
                "average_exec_per_sec" => self.per_second = number(value),
                _ => {}
            }
            return false;
        }
        if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.artefact = Some(path.trim().to_owned());
        }
        if !line.starts_with('#') {
            // A dictionary that it recommends is nothing for people.
            return !line.is_empty() && !line.starts_with('"');
        }
        let words: Vec<_> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            match pair[0] {
                "cov:" => self.edges = number(pair[1]),
                "ft:" => self.features = number(pair[1]),
                "corp:" => pair[1].clone_into(&mut self.corpus),
                _ => {}
            }
        }
        words.get(1).is_some_and(|event| matches!(*event, "INITED" | "pulse" | "DONE"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_read_from_what_libfuzzer_says() {
        let mut found = Found::default();
        let shown = [
            "INFO: Seed: 1",
            "#1000\tINITED cov: 10 ft: 20 corp: 3/100b exec/s: 5 rss: 50Mb",
            "#2000\tNEW    cov: 11 ft: 22 corp: 4/9Kb lim: 4096 exec/s: 5 rss: 50Mb L: 4/4 MS: 1 ChangeBit-",
            "#4000\tDONE   cov: 12 ft: 24 corp: 5/10Kb lim: 4096 exec/s: 5 rss: 50Mb",
            "stat::number_of_executed_units: 4000",
            "stat::average_exec_per_sec:     66",
            "\"\\006\" # Uses: 14",
            "",
        ]
        .map(|line| found.read(line));
        assert_eq!(shown, [true, true, false, true, false, false, false, false]);
        let corpus = "5/10Kb".to_owned();
        assert_eq!(found, Found { inputs: 4000, per_second: 66, edges: 12, features: 24, corpus, artefact: None });
        assert!(found.read("artifact_prefix='/a/'; Test unit written to /a/crash-1"));
        assert_eq!(found.artefact.as_deref(), Some("/a/crash-1"));
    }
}
