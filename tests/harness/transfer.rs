//! A transfer that goes on until it is stopped: blocks to an echo service and back, every byte checked, and for each block
//! the boot time that was read before it was sent. A block that came back proves that the host took it later than that.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use jpat_userspace::clock::BootTime;

use crate::{netns::NetNs, probe, wait};

/// Bytes of a block of a stream; a datagram of a transfer has [`DATAGRAM`].
const BLOCK: usize = 8_192;
const DATAGRAM: usize = 512;
/// A block that is away for longer is not lost yet, but the owner gets to say stop.
const LOOK_UP: Duration = Duration::from_millis(20);

/// A running transfer.
#[derive(Debug)]
pub struct Transfer {
    stop: Arc<AtomicBool>,
    progress: Arc<Progress>,
    thread: JoinHandle<Result<()>>,
}

#[derive(Debug, Default)]
struct Progress {
    blocks: AtomicU64,
    sent_ns: AtomicU64,
}

/// How far a transfer came.
#[derive(Clone, Copy, Debug)]
pub struct Echoed {
    /// Blocks that came back, all of them whole, right and in order.
    pub blocks: u64,
    /// When the last of them was sent.
    pub sent: BootTime,
}

enum Line {
    Stream(TcpStream),
    Datagrams(UdpSocket),
}

impl Transfer {
    /// Starts one over a TCP connection.
    ///
    /// # Errors
    /// If the handshake is not answered.
    pub fn tcp(ns: &NetNs, to: SocketAddr) -> Result<Self> {
        Self::over(ns, Line::Stream(probe::connect(ns, to)?), BLOCK)
    }

    /// Starts one over one UDP socket; a datagram that is lost ends the progress.
    ///
    /// # Errors
    /// If there is no route.
    pub fn udp(ns: &NetNs, to: SocketAddr) -> Result<Self> {
        Self::over(ns, Line::Datagrams(ns.run(|| probe::udp_socket(to))?), DATAGRAM)
    }

    fn over(ns: &NetNs, mut line: Line, size: usize) -> Result<Self> {
        line.set_patience()?;
        let (stop, progress) = (Arc::new(AtomicBool::new(false)), Arc::new(Progress::default()));
        let (stopped, told) = (Arc::clone(&stop), Arc::clone(&progress));
        let thread = ns.thread("transfer", move || {
            for number in 0.. {
                if stopped.load(Relaxed) {
                    break;
                }
                let (sent, block) = (wait::now(), block(number, size));
                line.send(&block)?;
                let Some(echo) = line.receive(size, &stopped)? else { return Ok(()) };
                ensure!(echo == block, "block {number} came back as another one");
                told.sent_ns.store(sent.0, SeqCst);
                told.blocks.store(number + 1, SeqCst);
            }
            Ok(())
        })?;
        Ok(Self { stop, progress, thread })
    }

    /// How far it is.
    #[must_use]
    pub fn echoed(&self) -> Echoed {
        let blocks = self.progress.blocks.load(SeqCst);
        Echoed { blocks, sent: BootTime(self.progress.sent_ns.load(SeqCst)) }
    }

    /// Waits until a block that was sent after `moment` has come back.
    ///
    /// # Errors
    /// If none does.
    pub fn wait_past(&self, moment: BootTime) -> Result<()> {
        wait::for_true("the transfer to go on", wait::PATIENCE, || {
            ensure!(!self.thread.is_finished(), "the transfer broke");
            Ok(self.echoed().sent > moment)
        })
    }

    /// Stops it; how far it came.
    ///
    /// # Errors
    /// If the connection broke, or a byte was not as it was sent.
    pub fn finish(self) -> Result<Echoed> {
        self.stop.store(true, Relaxed);
        let echoed = Arc::clone(&self.progress);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).context("a transfer")?;
        Ok(Echoed { blocks: echoed.blocks.load(SeqCst), sent: BootTime(echoed.sent_ns.load(SeqCst)) })
    }
}

impl Line {
    fn set_patience(&self) -> Result<()> {
        match self {
            Self::Stream(stream) => stream.set_read_timeout(Some(LOOK_UP))?,
            Self::Datagrams(socket) => socket.set_read_timeout(Some(LOOK_UP))?,
        }
        Ok(())
    }

    fn send(&mut self, block: &[u8]) -> Result<()> {
        match self {
            Self::Stream(stream) => stream.write_all(block)?,
            Self::Datagrams(socket) => ensure!(socket.send(block)? == block.len(), "a datagram was cut"),
        }
        Ok(())
    }

    /// A block; `None` when it has not come until the stop.
    fn receive(&mut self, size: usize, stop: &AtomicBool) -> Result<Option<Vec<u8>>> {
        let (mut bytes, mut filled) = (vec![0; size], 0);
        while filled < size {
            let read = match self {
                Self::Stream(stream) => stream.read(&mut bytes[filled..]),
                Self::Datagrams(socket) => socket.recv(&mut bytes),
            };
            match read {
                Ok(0) => anyhow::bail!("the connection was closed"),
                Ok(length) => filled += length,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error.into()),
            }
            if filled < size && stop.load(Relaxed) {
                return Ok(None);
            }
        }
        Ok(Some(bytes))
    }
}

/// The block of this number: no two are alike, and no byte range of one is found at another place of it.
fn block(number: u64, size: usize) -> Vec<u8> {
    let words = (0..size as u64 / 8).map(|at| (number << 20 | at).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    words.flatten().collect()
}
