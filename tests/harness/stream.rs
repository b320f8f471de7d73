//! What a granted client sends all the time, and what of it arrives: numbered datagrams, and a TCP transfer that comes
//! back as an echo.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use jpat_userspace::clock::BootTime;
use socket2::{Domain, Socket, Type};

use crate::{
    netns::NetNs,
    probe,
    wait::{self, PATIENCE},
};

/// Between two datagrams.
const INTERVAL: Duration = Duration::from_micros(500);
/// So much that the receiver never drops.
const BUFFER: usize = 64 << 20;
/// Bytes of the transfer at a time, and how often.
const CHUNK: usize = 1024;
const CHUNK_INTERVAL: Duration = Duration::from_micros(500);

/// Who sends what to whom.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// A UDP port of the host that nothing listens on yet.
    pub udp: SocketAddr,
    /// A TCP port that echoes.
    pub tcp: SocketAddr,
}

/// Traffic under way.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    ear: Arc<Ear>,
    threads: Vec<JoinHandle<Result<()>>>,
    moved: Arc<AtomicU64>,
    retransmitted_before: u64,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// Datagrams that were sent.
    pub datagrams: u64,
    /// Those that did not arrive.
    pub lost: u64,
    /// Datagrams of somebody else that arrived.
    pub foreign: u64,
    /// Longest time between two that arrived, and between two that were sent.
    pub longest_gap: [Duration; 2],
    /// Bytes of the transfer, each checked when it came back.
    pub bytes: u64,
    /// Segments that the client's TCP sent again, because others told of their loss or nothing came for five seconds.
    pub retransmitted: u64,
}

/// What the listener heard.
#[derive(Debug, Default)]
struct Ear {
    heard: Mutex<Heard>,
    sending_gap: AtomicU64,
}

#[derive(Debug, Default)]
struct Heard {
    numbers: Vec<bool>,
    distinct: u64,
    foreign: u64,
    last: Option<BootTime>,
    longest: Duration,
}

impl Stream {
    /// Starts both; the client must have its grant.
    ///
    /// # Errors
    /// If a socket cannot be had or the connection is refused.
    pub fn start(host: &NetNs, client: &NetNs, route: Route, from: IpAddr) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (sent, moved, ear) = (Arc::default(), Arc::default(), Arc::new(Ear::default()));
        let mut stream =
            Self { stop, sent, ear, threads: Vec::new(), moved, retransmitted_before: retransmitted(client)? };
        stream.listen(host, route, from)?;
        // A busy machine stops everybody for longer than TCP waits by default; what is sent again shall have been lost.
        client.run(|| Ok(std::fs::write("/proc/sys/net/ipv4/tcp_early_retrans", "0")?))?;
        client.ip(&format!("route replace {}/32 dev eth0 rto_min 5s", route.tcp.ip()))?;
        let connection = probe::connect(client, route.tcp).context("connect for the transfer")?;
        stream.send(client, route)?;
        stream.transfer(client, connection)?;
        Ok(stream)
    }

    /// Stops, waits for what is under way, and tells.
    ///
    /// # Errors
    /// If the transfer broke or came back altered.
    pub fn finish(mut self, client: &NetNs) -> Result<Report> {
        self.stop.store(true, Relaxed);
        let listener = self.threads.remove(0);
        for thread in self.threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        let datagrams = self.sent.load(Relaxed);
        // What has not come by then is lost; how much that is, is the result.
        let _waited =
            wait::for_true("the last datagrams", Duration::from_secs(2), || Ok(self.ear.heard().distinct == datagrams));
        self.sent.store(u64::MAX, Relaxed);
        listener.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let heard = self.ear.heard();
        Ok(Report {
            datagrams,
            lost: datagrams - heard.distinct,
            foreign: heard.foreign,
            longest_gap: [heard.longest, Duration::from_nanos(self.ear.sending_gap.load(Relaxed))],
            bytes: self.moved.load(Relaxed),
            retransmitted: retransmitted(client)? - self.retransmitted_before,
        })
    }

    fn listen(&mut self, host: &NetNs, route: Route, from: IpAddr) -> Result<()> {
        let socket = host.run(|| {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
            // Beyond `net.core.rmem_max`, for which one must be root.
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &BUFFER)?;
            socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, route.udp.port())).into())?;
            Ok(UdpSocket::from(socket))
        })?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let (ear, sent) = (Arc::clone(&self.ear), Arc::clone(&self.sent));
        self.threads.push(host.thread("listener", move || {
            let mut buffer = [0; 64];
            // The end of the stream is a number that is never reached.
            while sent.load(Relaxed) != u64::MAX {
                if let Ok((length, source)) = socket.recv_from(&mut buffer) {
                    ear.hear(&buffer[..length], source.ip().to_canonical() == from);
                }
            }
            Ok(())
        })?);
        Ok(())
    }

    fn send(&mut self, client: &NetNs, route: Route) -> Result<()> {
        let (stop, sent, ear) = (Arc::clone(&self.stop), Arc::clone(&self.sent), Arc::clone(&self.ear));
        self.threads.push(client.thread("datagrams", move || {
            let socket = probe::udp_socket(route.udp)?;
            let (mut number, mut last, mut longest) = (0_u64, wait::now(), Duration::ZERO);
            while !stop.load(Relaxed) {
                socket.send(&number.to_be_bytes()).context("send a datagram")?;
                number += 1;
                sent.store(number, Relaxed);
                let now = wait::now();
                longest = longest.max(last.until(now));
                last = now;
                std::thread::sleep(INTERVAL);
            }
            ear.sending_gap.store(u64::try_from(longest.as_nanos())?, Relaxed);
            Ok(())
        })?);
        Ok(())
    }

    fn transfer(&mut self, client: &NetNs, mut write: TcpStream) -> Result<()> {
        let mut read = write.try_clone()?;
        read.set_read_timeout(Some(PATIENCE))?;
        let stop = Arc::clone(&self.stop);
        self.threads.push(client.thread("transfer", move || {
            let mut position = 0;
            while !stop.load(Relaxed) {
                write.write_all(&pattern(position, CHUNK)).context("the transfer")?;
                position += CHUNK as u64;
                std::thread::sleep(CHUNK_INTERVAL);
            }
            write.shutdown(Shutdown::Write).context("end the transfer")
        })?);
        let moved = Arc::clone(&self.moved);
        self.threads.push(client.thread("echo", move || {
            let mut buffer = [0; 65_536];
            let mut position = 0;
            loop {
                let length = read.read(&mut buffer).context("the transfer's echo")?;
                if length == 0 {
                    moved.store(position, Relaxed);
                    return Ok(());
                }
                ensure!(buffer[..length] == pattern(position, length), "the echo is altered at byte {position}");
                position += length as u64;
            }
        })?);
        Ok(())
    }
}

impl Ear {
    fn hear(&self, datagram: &[u8], is_ours: bool) {
        let now = wait::now();
        let mut heard = self.heard();
        let number = <[u8; 8]>::try_from(datagram).map(u64::from_be_bytes);
        let (true, Ok(number)) = (is_ours, number) else {
            heard.foreign += 1;
            return;
        };
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        if heard.numbers.len() <= at {
            heard.numbers.resize(at + 1, false);
        }
        if !std::mem::replace(&mut heard.numbers[at], true) {
            heard.distinct += 1;
        }
        if let Some(last) = heard.last.replace(now) {
            heard.longest = heard.longest.max(last.until(now));
        }
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of the transfer from `position` on.
fn pattern(position: u64, length: usize) -> Vec<u8> {
    // 251 is a prime: no shift by a power of two goes unnoticed.
    (position..).take(length).map(|at| (at % 251) as u8).collect()
}

/// `RetransSegs` of RFC 4022, of one namespace.
fn retransmitted(ns: &NetNs) -> Result<u64> {
    let table = ns.run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/snmp")?))?;
    let mut tcp = table.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (tcp.next().context("no TCP counters")?, tcp.next().context("no TCP counters")?);
    let value = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "RetransSegs");
    value.context("no RetransSegs")?.1.parse().context("RetransSegs")
}
