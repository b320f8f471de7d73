//! A stranger who tries protected ports all the time, by SYN and by datagram, and takes note of every answer.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Result;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{netns::NetNs, probe};

/// Between two packets of each kind.
const INTERVAL: Duration = Duration::from_millis(1);
/// Handshakes that are open at a time; the oldest is looked at and given up.
const PENDING: usize = 32;

/// Attempts under way.
#[derive(Debug)]
pub struct Stranger {
    stop: Arc<AtomicBool>,
    tried: Arc<Mutex<Tried>>,
    threads: Vec<JoinHandle<Result<()>>>,
}

/// What came of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tried {
    /// SYNs sent.
    pub syns: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Answers of any kind: SYN-ACK, RST, echo, ICMP error.
    pub answers: u64,
}

impl Stranger {
    /// Starts trying these ports.
    ///
    /// # Errors
    /// If a thread cannot be made.
    pub fn start(ns: &NetNs, tcp: Vec<SocketAddr>, udp: Vec<SocketAddr>) -> Result<Self> {
        let (stop, tried) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
        let (stopped, told) = (Arc::clone(&stop), Arc::clone(&tried));
        let syns = ns.thread("syns", move || handshakes(&tcp, &stopped, &told))?;
        let (stopped, told) = (Arc::clone(&stop), Arc::clone(&tried));
        let datagrams = ns.thread("datagrams", move || datagrams(&udp, &stopped, &told))?;
        Ok(Self { stop, tried, threads: vec![syns, datagrams] })
    }

    /// How it stands.
    #[must_use]
    pub fn tried(&self) -> Tried {
        *lock(&self.tried)
    }

    /// Stops, and tells.
    ///
    /// # Errors
    /// If a socket failed.
    pub fn finish(self) -> Result<Tried> {
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(*lock(&self.tried))
    }
}

fn handshakes(to: &[SocketAddr], stop: &AtomicBool, tried: &Mutex<Tried>) -> Result<()> {
    let mut pending = VecDeque::new();
    for to in to.iter().cycle().take_while(|_| !stop.load(Relaxed)) {
        let socket = Socket::new(Domain::for_address(*to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        // In progress; what comes of it is asked later.
        let _in_progress = socket.connect(&(*to).into());
        lock(tried).syns += 1;
        pending.push_back(socket);
        if pending.len() > PENDING {
            look(pending.pop_front(), tried)?;
        }
        std::thread::sleep(INTERVAL);
    }
    pending.into_iter().try_for_each(|socket| look(Some(socket), tried))
}

fn look(socket: Option<Socket>, tried: &Mutex<Tried>) -> Result<()> {
    if let Some(socket) = socket {
        let is_answered = socket.take_error()?.is_some() || socket.peer_addr().is_ok();
        lock(tried).answers += u64::from(is_answered);
    }
    Ok(())
}

fn datagrams(to: &[SocketAddr], stop: &AtomicBool, tried: &Mutex<Tried>) -> Result<()> {
    let sockets = to.iter().map(|to| probe::udp_socket(*to)).collect::<Result<Vec<_>>>()?;
    for socket in &sockets {
        socket.set_nonblocking(true)?;
    }
    for socket in sockets.iter().cycle().take_while(|_| !stop.load(Relaxed)) {
        let sent = socket.send(b"leak?");
        // An ICMP error of a datagram before comes as an error of either call.
        let answered = is_refused(&sent)
            || match socket.recv(&mut [0; 16]) {
                Ok(_) => true,
                Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
            };
        let mut tried = lock(tried);
        tried.datagrams += 1;
        tried.answers += u64::from(answered);
        drop(tried);
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}

fn is_refused(sent: &std::io::Result<usize>) -> bool {
    sent.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

fn lock(tried: &Mutex<Tried>) -> std::sync::MutexGuard<'_, Tried> {
    tried.lock().unwrap_or_else(PoisonError::into_inner)
}
