//! Who has the knock key of another group: every datagram opens, and its token's signature is wrong.

use std::{
    io::IoSlice,
    net::{SocketAddrV4, UdpSocket},
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use anyhow::{Context, Result};
use jpat_tests::{forge::Key, knocker::Wish};
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg},
};

use super::FLOOD_CPU;
use crate::{
    controller::{Controller, KNOCK_PORT},
    datapath::stay_on,
    wire::{HOST, Wire, source},
};

/// More than its budget lets in, a second: no tag needs to come twice, although all come again and again.
const PER_SECOND: u64 = 1_200;
/// Datagrams of one system call.
const BATCH: usize = 64;
const SOURCES: u32 = 256;

pub(super) struct Insider {
    datagrams: Vec<Vec<u8>>,
}

impl Insider {
    /// Seals enough for so many seconds.
    pub(super) fn prepare(controller: &Controller<'_>, seconds: u64) -> Result<Self> {
        let forged = Key::es256("k1")?;
        let seal = |number| {
            let token = forged.token(&controller.claims(&format!("forged-{number}")))?;
            Ok(controller.insider.seal(&token, Wish::default())?.datagram)
        };
        let datagrams = (0..(seconds + 2) * PER_SECOND).map(seal).collect::<Result<_>>()?;
        Ok(Self { datagrams })
    }

    /// Sends them in turn, from many addresses.
    pub(super) fn send(&self, wire: &Wire, sent: &AtomicU64, stop: &AtomicBool) -> Result<()> {
        wire.far.run(|| {
            stay_on(FLOOD_CPU)?;
            let sockets =
                (1..=SOURCES).map(|number| UdpSocket::bind((source(number), 0))).collect::<Result<Vec<_>, _>>()?;
            let to = Some(SockaddrIn::from(SocketAddrV4::new(HOST, KNOCK_PORT)));
            let addresses = [to; BATCH];
            let mut headers = MultiHeaders::preallocate(BATCH, None);
            let batches: Vec<_> = self.datagrams.chunks_exact(BATCH).collect();
            for (socket, batch) in sockets.iter().cycle().zip(batches.iter().cycle()) {
                if stop.load(Relaxed) {
                    break;
                }
                let slices: Vec<_> = batch.iter().map(|datagram| [IoSlice::new(datagram)]).collect();
                let result = sendmmsg(socket.as_raw_fd(), &mut headers, &slices, addresses, [], MsgFlags::empty());
                match result {
                    Ok(results) => {
                        sent.fetch_add(results.count() as u64, Relaxed);
                    }
                    Err(Errno::ENOBUFS | Errno::EAGAIN) => {}
                    Err(error) => return Err(error).context("sendmmsg"),
                }
            }
            Ok(())
        })
    }
}
