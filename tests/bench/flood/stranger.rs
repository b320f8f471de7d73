//! Who has no key: the kernel sends frames out of the far device, each from another address of 10.0.0.0/8.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result};
use aws_lc_rs::rand;
use aya::{TestRunAttrs, TestRunOptions, programs::TestRun};
use jpat_tests::packet::{ETHER_IPV4, UDP, ethernet, ipv4, udp};
use jpat_userspace::clock;

use super::FLOOD_CPU;
use crate::{
    controller::{Controller, KNOCK_PORT},
    datapath::{
        stay_on,
        subject::{Program, Subject},
    },
    wire::{CLIENT, HOST, Wire},
};

/// Frames of one call, all with the same payload.
const CALL: u32 = 32_768;
/// Frames that the kernel hands to the device at once.
const BATCH: u32 = 32;
const LENGTH: usize = 800;

pub(super) struct Stranger<'a> {
    pub(super) subject: &'a Subject,
    pub(super) wire: &'a Wire,
}

impl Stranger<'_> {
    /// Random bytes, and knocks that are good up to the tag.
    pub(super) fn garbage(&self, controller: &Controller<'_>, sent: &AtomicU64, stop: &AtomicBool) -> Result<()> {
        let target = controller.knocker.target();
        let hint = jpat_userspace::knock::sealed::hint(&target.public);
        let mut number = 0;
        self.send(sent, stop, || {
            let mut payload = vec![0; LENGTH];
            rand::fill(&mut payload).context("random bytes")?;
            number += 1;
            if number % 2 == 0 {
                let time_ms = clock::now().unix.0 / 1_000_000;
                let fixed = jpat_userspace::knock::header::fixed(target.knock_key.id, hint, time_ms);
                payload[..fixed.len()].copy_from_slice(&fixed);
            }
            Ok(payload)
        })
    }

    /// The same bytes again and again.
    pub(super) fn replays(&self, captured: &[u8], sent: &AtomicU64, stop: &AtomicBool) -> Result<()> {
        self.send(sent, stop, || Ok(captured.to_owned()))
    }

    fn send(&self, sent: &AtomicU64, stop: &AtomicBool, payload: impl FnMut() -> Result<Vec<u8>> + Send) -> Result<()> {
        self.wire.far.run(|| {
            stay_on(FLOOD_CPU)?;
            let mut payload = payload;
            let program = self.subject.program(Program::Transmit)?;
            let device = u16::try_from(nix::net::if_::if_nametoindex("eth0")?).context("the index of eth0")?;
            while !stop.load(Relaxed) {
                let frame = frame(device, &payload()?);
                let options = TestRunOptions {
                    data_in: Some(&frame),
                    repeat: CALL,
                    attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                    ..TestRunOptions::new()
                };
                program.test_run(options)?;
                sent.fetch_add(u64::from(CALL), Relaxed);
            }
            Ok(())
        })
    }
}

/// The source MAC tells the program where to.
fn frame(device: u16, payload: &[u8]) -> Vec<u8> {
    let packet = ipv4(CLIENT.octets(), HOST.octets(), UDP, 0, &[], &udp(KNOCK_PORT, payload));
    let mut frame = ethernet(ETHER_IPV4, &packet);
    frame[6..8].copy_from_slice(&device.to_le_bytes());
    frame[8..12].fill(0);
    frame
}
