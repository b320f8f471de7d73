//! SYNs from random sources, at a rate.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use aya::{TestRunAttrs, TestRunOptions, programs::TestRun};
use jpat_tests::{
    netns::NetNs,
    packet::{ETHER_IPV4, SYN, TCP, ethernet, ipv4, tcp},
    world::{HOST4, WEB_PORT},
};

use super::FLOOD_CPU;
use crate::datapath::{
    stay_on,
    subject::{Program, Subject},
};

/// Frames of one call: some milliseconds.
const CALL: u32 = 100_000;
/// Frames that the kernel hands to the device at once.
const BATCH: u32 = 32;

/// A flood out of a device `eth0`.
pub(super) struct Flood<'a> {
    pub(super) subject: &'a Subject,
    pub(super) wire: &'a NetNs,
    /// Packets per second; 0 for none, [`u32::MAX`] for all that the machine can.
    pub(super) rate: u32,
}

impl Flood<'_> {
    /// Runs it as long as `work` takes.
    pub(super) fn during(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let flood = scope.spawn(|| self.wire.run(|| self.send_until(&stop)));
            let done = work();
            stop.store(true, Ordering::Relaxed);
            let flooded = flood.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            done.and(flooded.context("flood"))
        })
    }

    fn send_until(&self, stop: &AtomicBool) -> Result<()> {
        stay_on(FLOOD_CPU)?;
        let frame = self.frame()?;
        let options = || TestRunOptions {
            data_in: Some(&frame),
            repeat: CALL,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        };
        let program = self.subject.program(Program::Transmit)?;
        while !stop.load(Ordering::Relaxed) {
            program.test_run(options())?;
        }
        Ok(())
    }

    /// The source MAC tells the program where to and how often.
    fn frame(&self) -> Result<Vec<u8>> {
        let device = u16::try_from(nix::net::if_::if_nametoindex("eth0")?).context("the index of eth0")?;
        let interval = match self.rate {
            0 => u32::MAX,
            u32::MAX => 0,
            rate => 1_000_000_000 / rate,
        };
        let mut frame = ethernet(ETHER_IPV4, &ipv4([10, 0, 0, 1], HOST4, TCP, 0, &[], &tcp(WEB_PORT, SYN, &[])));
        frame[6..8].copy_from_slice(&device.to_le_bytes());
        frame[8..12].copy_from_slice(&interval.to_le_bytes());
        frame.resize(60, 0);
        Ok(frame)
    }
}
