//! Everything the host sends to somebody, seen on that somebody's own device: the judge of promise P1.

use std::{
    io::{ErrorKind, Read},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    netns::NetNs,
    network::{Family, Member},
    probe, wait,
};

/// Unprotected UDP echo port on the host: its answer proves that whatever was sent before has arrived.
pub const FENCE_PORT: u16 = 7;

/// `ETH_P_ALL`.
const EVERY_PROTOCOL: u16 = 3;

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
    frames: std::sync::mpsc::Receiver<Answer>,
}

/// One frame from the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Which of its addresses.
    pub host: IpAddr,
    /// IP protocol, or the first next header.
    pub protocol: u8,
    /// Source port, or ICMP type and code, as the first two bytes of the transport header.
    pub start: u16,
    /// The packet from the IP header on.
    pub packet: Vec<u8>,
}

impl Capture {
    /// Starts to listen in `ns`; sees all that comes after it returned.
    ///
    /// # Errors
    /// If a packet socket is not allowed.
    pub fn start(ns: &NetNs) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, frames) = std::sync::mpsc::channel();
        let socket = ns
            .run(|| {
                let protocol = Protocol::from(i32::from(EVERY_PROTOCOL.to_be()));
                Ok(Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?)
            })
            .context("open a packet socket")?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let stopped = Arc::clone(&stop);
        let thread = ns.thread("capture", move || {
            let mut buffer = vec![0; 65_536];
            let mut reader = &socket;
            while !stopped.load(Relaxed) {
                match reader.read(&mut buffer) {
                    Ok(length) => {
                        if let Some(answer) = from_host(&buffer[..length]) {
                            // Nobody listens any more: the capture was dropped.
                            let _unheard = seen.send(answer);
                        }
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(error) => return Err(error).context("read frames"),
                }
            }
            Ok(())
        })?;
        Ok(Self { stop, thread, frames })
    }

    /// Waits until all that the host sent so far over these families is in, and returns it without the fences
    /// themselves and without neighbour discovery (ARP is no IP packet anyway).
    ///
    /// # Errors
    /// If a fence is not answered, that is if the host harms unprotected traffic.
    pub fn finish(self, ns: &NetNs, families: &[Family]) -> Result<Vec<Answer>> {
        let mut answers = Vec::new();
        for family in families {
            let host = Member::Host.address(*family);
            let fence = SocketAddr::new(host, FENCE_PORT);
            wait::for_true("the unprotected echo", wait::PATIENCE, || Ok(probe::udp(ns, fence)? == probe::Port::Open))?;
            wait::for_true("the fence in the capture", wait::PATIENCE, || {
                for answer in self.frames.try_iter() {
                    if answer.is_fence() && answer.host == host {
                        return Ok(true);
                    }
                    if !answer.is_fence() && !answer.is_neighbour_discovery() {
                        answers.push(answer);
                    }
                }
                Ok(false)
            })?;
        }
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(answers)
    }

    /// As [`Self::finish`], and nothing may have come.
    ///
    /// # Errors
    /// With what came.
    pub fn expect_silence(self, ns: &NetNs, families: &[Family]) -> Result<()> {
        let answers = self.finish(ns, families)?;
        if !answers.is_empty() {
            bail!("the host answered with {} packets: {answers:02x?}", answers.len());
        }
        Ok(())
    }
}

impl Answer {
    const fn is_fence(&self) -> bool {
        self.protocol == 17 && self.start == FENCE_PORT
    }

    /// Types 133 to 137 of ICMPv6 (RFC 4861 §4) and multicast listener reports (143, RFC 3810).
    const fn is_neighbour_discovery(&self) -> bool {
        self.protocol == 58 && matches!(self.start >> 8, 133..=137 | 143)
    }
}

/// The packet, if it is IP from one of the host's addresses.
fn from_host(frame: &[u8]) -> Option<Answer> {
    let (ethertype, packet) = (frame.get(12..14)?, frame.get(14..)?);
    let (source, protocol, transport): (IpAddr, u8, usize) = match ethertype {
        [0x08, 0x00] => {
            let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            (source.into(), *packet.get(9)?, usize::from(packet.first()? & 15) * 4)
        }
        [0x86, 0xdd] => {
            let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
            (source.into(), *packet.get(6)?, 40)
        }
        _ => return None,
    };
    let is_host = Family::ALL.iter().any(|family| Member::Host.address(*family) == source);
    let start = packet.get(transport..transport + 2)?;
    let start = u16::from_be_bytes([start[0], start[1]]);
    is_host.then(|| Answer { host: source, protocol, start, packet: packet.to_vec() })
}
