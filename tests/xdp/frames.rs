//! The kernel's verdict on every frame is the host's, and every frame is counted once.

use anyhow::{Context, Result, ensure};
use jpat_common::reason::{DropReason, counter_index};
use jpat_ebpf::{frame::Cursor, parse::parse, verdict::Exit};
use jpat_tests::{
    vectors::{self, Vector},
    world::World,
};

use crate::{
    Case,
    kernel::{self, Kernel},
};

pub(crate) const CASES: &[Case] = &[
    ("p2_every_vector_leaves_as_on_the_host", every_vector),
    ("p2_every_truncation_leaves_as_on_the_host", every_truncation),
    ("p2_every_mutation_leaves_as_on_the_host", every_mutation),
];

/// The kernel takes no shorter frame for a test run.
const SHORTEST: usize = 14;

/// Runs one frame and compares action and counter with the host's decision.
struct Comparison {
    world: World,
    kernel: Kernel,
    frames: u64,
    wrong: Vec<String>,
}

impl Comparison {
    fn new() -> Result<Self> {
        let world = kernel::world()?;
        Ok(Self { kernel: Kernel::load(&world)?, world, frames: 0, wrong: Vec::new() })
    }

    fn compare(&mut self, vector: &Vector, frame: &[u8], what: &str) -> Result<()> {
        if frame.len() < SHORTEST {
            return Ok(());
        }
        let settings = vector.settings(&self.world.settings);
        if vector.flags != 0 {
            self.kernel.write_settings(&settings)?;
        }
        let decision = self.world.judge(&parse(Cursor::over(frame)), &settings);
        let Exit { slot, action } = decision.verdict.exit(&settings);
        let index = counter_index(decision.service, slot);
        let before = self.kernel.counter(index)?;
        let done = self.kernel.run(frame)?;
        let counted = self.kernel.counter(index)? - before;
        if done != action || counted != 1 {
            self.wrong.push(format!("{}{what}: action {done}, host {decision:?}, counted {counted}", vector.name));
        }
        if vector.flags != 0 {
            self.kernel.write_settings(&self.world.settings)?;
        }
        self.frames += 1;
        if slot == DropReason::KnockQueued.number() {
            self.kernel.knocks()?;
        }
        Ok(())
    }

    fn finish(self, name: &str) -> Result<()> {
        let Self { kernel, frames, wrong, .. } = self;
        ensure!(wrong.is_empty(), "{} of {frames} frames:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
        let counted = kernel.all_counters()?;
        ensure!(counted == frames, "{frames} frames, but the counters add up to {counted}");
        println!("{name}: {frames} frames");
        Ok(())
    }
}

fn every_vector() -> Result<()> {
    let mut comparison = Comparison::new()?;
    for vector in vectors::all() {
        comparison.compare(&vector, &vector.frame, "")?;
    }
    comparison.finish("vectors")
}

/// One vector of how many is truncated and mutated: `JPAT_EVERY`, which an emulated machine sets. All are, else.
fn one_of() -> Result<usize> {
    let Ok(text) = std::env::var("JPAT_EVERY") else { return Ok(1) };
    text.parse().with_context(|| format!("JPAT_EVERY={text}"))
}

fn every_truncation() -> Result<()> {
    let mut comparison = Comparison::new()?;
    for vector in vectors::all().into_iter().step_by(one_of()?) {
        // Inside a long payload every cut is like the next.
        for length in (SHORTEST..vector.frame.len()).filter(|length| *length < 200 || length % 97 == 0) {
            comparison.compare(&vector, &vector.frame[..length], &format!(" cut at {length}"))?;
        }
    }
    comparison.finish("truncations")
}

/// Three bytes of the headers of each vector replaced, twenty times over.
fn every_mutation() -> Result<()> {
    let mut comparison = Comparison::new()?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for vector in vectors::all().into_iter().step_by(one_of()?) {
        for round in 0..20 {
            let mut frame = vector.frame.clone();
            let headers = frame.len().min(120) - 12;
            let mut changes = String::new();
            for _ in 0..3 {
                let at = 12 + usize::try_from(random())? % headers;
                let byte = random().to_le_bytes()[0];
                frame[at] = byte;
                changes.push_str(&format!(" {at}={byte:#x}"));
            }
            comparison.compare(&vector, &frame, &format!(" mutation {round}:{changes}"))?;
        }
    }
    comparison.finish("mutations")
}
