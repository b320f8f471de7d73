//! The rules a second time, written from the design and not from the program: what they say of a frame must be what the
//! program does with it. `mod.rs`, so that the group of kernel tests can include it by its path.
//!
//! `JPAT_ORACLE_SEED`, `JPAT_ORACLE_PACKETS` and `JPAT_ORACLE_FIRST` (a batch) choose what is run.

mod dice;
mod evasion;
mod generate;
mod model;
mod program;
mod run;
mod stage;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;

/// Packets of a run that nobody asked for more of.
const PACKETS: u64 = 60_000;
/// How many packets each reason must have had in such a run.
const LEAST: u64 = 20;
/// The seed of such a run.
const SEED: u64 = 3;

/// The trials of this directory.
pub(crate) fn trials() -> Vec<Trial> {
    let oracle = Trial::test("p2_oracle_model_and_program_agree_on_every_packet", || {
        agree().map_err(|error| format!("{error:#}").into())
    });
    evasion::trials().into_iter().chain([oracle]).collect()
}

fn agree() -> Result<()> {
    let seed = setting("JPAT_ORACLE_SEED")?.unwrap_or(SEED);
    let packets = setting("JPAT_ORACLE_PACKETS")?;
    let first = setting("JPAT_ORACLE_FIRST")?.unwrap_or(0);
    let report = run::run(seed, first, packets.unwrap_or(PACKETS))?;
    println!(
        "oracle: seed {seed}, {} packets in {} batches, {} disagreements",
        report.frames,
        report.batches,
        report.disagreements.len()
    );
    for (name, count) in &report.traits {
        println!("  {count:>9} {name}");
    }
    for (rule, count) in &report.rules {
        println!("  {count:>9} by the rule: {rule}");
    }
    for (reason, count) in &report.reasons {
        println!("  {count:>9} {reason}");
    }
    ensure!(report.disagreements.is_empty(), "{}", report.disagreements.join("\n"));
    if report.frames >= PACKETS {
        let rare = report.rare(LEAST);
        ensure!(rare.is_empty(), "reasons with fewer than {LEAST} packets: {}", rare.join(", "));
    }
    Ok(())
}

fn setting(name: &str) -> Result<Option<u64>> {
    let Ok(text) = std::env::var(name) else { return Ok(None) };
    text.parse().map(Some).with_context(|| format!("{name} is no number: {text}"))
}
