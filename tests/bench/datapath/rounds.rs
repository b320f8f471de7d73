//! Measuring: every row once a round.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use aya::{TestRunAttrs, TestRunOptions, programs::TestRun};

use super::{
    Options,
    plan::{Mode, Plan, Row},
    subject::{Program, Subject},
};

/// `NAPI_POLL_WEIGHT`, the kernel's own default for live frames.
const BATCH: u32 = 64;

/// Most calls in one measurement of a row that has to empty the ring in between.
const MOST_CALLS: u32 = 16;

/// Nanoseconds per packet by row and mode, one for each round.
#[derive(Default)]
pub(crate) struct Figures(BTreeMap<(String, Mode), Vec<f64>>);

impl Figures {
    /// One row's figures, in the order of the rounds; empty where the row has none in this mode.
    pub(crate) fn of(&self, row: &str, mode: Mode) -> &[f64] {
        self.0.get(&(row.to_owned(), mode)).map_or(&[], Vec::as_slice)
    }
}

pub(crate) fn measure(plan: &Plan<'_>, options: &Options) -> Result<Figures> {
    for row in &plan.rows {
        check(row).with_context(|| row.name.clone())?;
    }
    let mut figures = Figures::default();
    for _round in 0..options.rounds {
        for row in &plan.rows {
            for &mode in row.modes {
                let ns = one(row, mode, options).with_context(|| row.name.clone())?;
                figures.0.entry((row.name.clone(), mode)).or_default().push(ns);
            }
        }
    }
    Ok(figures)
}

/// Whether the program does with the frame what the row says.
fn check(row: &Row<'_>) -> Result<()> {
    row.subject.drain()?;
    row.subject.stop_the_clock()?;
    let options = TestRunOptions { data_in: Some(&row.frame), ..TestRunOptions::new() };
    let action = row.subject.program(row.program)?.test_run(options)?.return_value;
    ensure!(action == row.action, "the program returns {action}, not {}", row.action);
    Ok(())
}

fn one(row: &Row<'_>, mode: Mode, options: &Options) -> Result<f64> {
    row.host.run(|| {
        super::stay_on(options.cpu)?;
        row.subject.stop_the_clock()?;
        if !row.each.is_empty() {
            row.subject.drain()?;
            row.subject.forget()?;
            let sum = row.each.iter().try_fold(0.0, |sum, frame| {
                let ns = test_run(row.subject, row.program, frame, mode, 1)?;
                anyhow::Ok(sum + ns)
            })?;
            return Ok(sum / row.each.len() as f64);
        }
        if row.ring == 0 {
            return run(row, mode, options.packets);
        }
        let calls = options.packets.div_ceil(row.ring).min(MOST_CALLS);
        let mut sum = 0.0;
        for _call in 0..calls {
            row.subject.drain()?;
            sum += run(row, mode, row.ring)?;
        }
        let queued = row.subject.drain()?;
        ensure!(queued == row.ring as usize, "{queued} of {} knocks in the ring", row.ring);
        Ok(sum / f64::from(calls))
    })
}

/// Puts frames into the receive path of this thread's namespace.
pub(crate) fn send_up(subject: &Subject, frame: &[u8], packets: u32) -> Result<()> {
    test_run(subject, Program::BarePass, frame, Mode::Live, packets).map(drop)
}

fn run(row: &Row<'_>, mode: Mode, packets: u32) -> Result<f64> {
    test_run(row.subject, row.program, &row.frame, mode, packets).with_context(|| format!("{mode:?} test run"))
}

fn test_run(subject: &Subject, program: Program, frame: &[u8], mode: Mode, packets: u32) -> Result<f64> {
    let context = context(frame)?;
    let attrs = match mode {
        Mode::Plain => TestRunAttrs::new(),
        Mode::Live => TestRunAttrs::new().xdp_live_frames(BATCH),
    };
    let options = TestRunOptions {
        data_in: Some(frame),
        ctx_in: Some(&context),
        repeat: packets,
        attrs,
        ..TestRunOptions::new()
    };
    let result = subject.program(program)?.test_run(options)?;
    Ok(result.duration.as_secs_f64() * 1e9)
}

/// `struct xdp_md` (`include/uapi/linux/bpf.h`): the frame came in on `eth0`.
fn context(frame: &[u8]) -> Result<Vec<u8>> {
    let ifindex = nix::net::if_::if_nametoindex("eth0").context("find eth0")?;
    Ok([0, u32::try_from(frame.len())?, 0, ifindex, 0, 0].map(u32::to_ne_bytes).concat())
}
