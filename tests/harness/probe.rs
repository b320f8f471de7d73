//! What somebody in a namespace sees of a port: open, silent, or refused.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use crate::{https, netns::NetNs, wait};

/// How long a probe waits before it calls a port silent. Answers in the namespaces take well under a millisecond.
pub const SILENCE: Duration = Duration::from_millis(400);

/// [`SILENCE`], longer on a machine that is slower than others.
#[must_use]
pub fn silence() -> Duration {
    SILENCE * wait::slowness()
}

/// What a port did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    /// It answered.
    Open,
    /// Nothing came.
    Silent,
    /// A RST or an ICMP error came.
    Refused,
}

/// Tries a TCP handshake.
///
/// # Errors
/// For anything but an answer, silence or refusal.
pub fn tcp(ns: &NetNs, to: SocketAddr) -> Result<Port> {
    ns.run(|| verdict(TcpStream::connect_timeout(&to, silence()).map(drop)))
        .with_context(|| format!("connect to {to} from {}", ns.name()))
}

/// Sends a small datagram and waits for its echo.
///
/// # Errors
/// For anything but an answer, silence or refusal, or if the answer is another one.
pub fn udp(ns: &NetNs, to: SocketAddr) -> Result<Port> {
    udp_of(ns, to, 10)
}

/// Sends a datagram of this many bytes, in fragments if it must, and waits for its echo.
///
/// # Errors
/// As [`udp`].
pub fn udp_of(ns: &NetNs, to: SocketAddr, size: usize) -> Result<Port> {
    ns.run(|| {
        let (socket, question) = (udp_socket(to)?, vec![b'?'; size]);
        socket.set_read_timeout(Some(silence()))?;
        let mut answer = vec![0; size + 1];
        let exchange = socket.send(&question).and_then(|_sent| socket.recv(&mut answer));
        match exchange {
            Ok(length) if answer[..length] != question => bail!("{to} sent {length} other bytes"),
            other => verdict(other.map(drop)),
        }
    })
    .with_context(|| format!("ask udp {to} from {}", ns.name()))
}

/// Fetches `/` over HTTPS; `None` when the handshake got no answer.
///
/// # Errors
/// If the port refuses, or the exchange fails half way.
pub fn https_get(ns: &NetNs, to: SocketAddr) -> Result<Option<String>> {
    ns.run(|| {
        let stream = match TcpStream::connect_timeout(&to, silence()) {
            Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(None),
            other => other?,
        };
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let name = ServerName::try_from("web-1.example").map_err(anyhow::Error::msg)?;
        let mut stream = StreamOwned::new(ClientConnection::new(https::client()?, name)?, stream);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: web-1.example\r\nConnection: close\r\n\r\n")?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        let (head, body) = response.split_once("\r\n\r\n").context("no HTTP response")?;
        if !head.starts_with("HTTP/1.1 200") {
            bail!("{head}");
        }
        Ok(Some(body.to_owned()))
    })
    .with_context(|| format!("fetch https://{to}/ from {}", ns.name()))
}

/// Fetches a document over plain HTTP: status and body.
///
/// # Errors
/// If there is no answer.
pub fn http_get(ns: &NetNs, to: SocketAddr, path: &str) -> Result<(u16, String)> {
    ns.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n")?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        let (head, body) = response.split_once("\r\n\r\n").context("no HTTP response")?;
        let status = head.split(' ').nth(1).context("no status")?.parse().context("no status")?;
        Ok((status, body.to_owned()))
    })
    .with_context(|| format!("fetch http://{to}{path} from {}", ns.name()))
}

/// Sends one datagram.
///
/// # Errors
/// If it cannot be sent.
pub fn send(ns: &NetNs, to: SocketAddr, datagram: &[u8]) -> Result<()> {
    ns.run(|| {
        udp_socket(to)?.send(datagram)?;
        Ok(())
    })
    .with_context(|| format!("send to {to} from {}", ns.name()))
}

/// A connection that stays, from inside `ns`.
///
/// # Errors
/// If the handshake is not answered.
pub fn connect(ns: &NetNs, to: SocketAddr) -> Result<TcpStream> {
    let stream = ns.run(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(2))?))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether an echo over a standing connection comes back in time.
///
/// # Errors
/// If the connection is broken.
pub fn echo(stream: &mut TcpStream, patience: Duration) -> Result<bool> {
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"x")?;
    match stream.read(&mut [0; 16]) {
        Ok(0) => bail!("the connection was closed"),
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Sends so many bytes over a standing connection and waits until all of them are back.
///
/// # Errors
/// If they do not come, or others do.
pub fn exchange(stream: &mut TcpStream, size: usize) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let question: Vec<u8> = (0..size).map(|at| at as u8).collect();
    stream.write_all(&question)?;
    let mut answer = vec![0; size];
    stream.read_exact(&mut answer)?;
    if answer != question {
        bail!("other bytes came back");
    }
    Ok(())
}

/// A UDP socket in the calling thread's namespace.
///
/// # Errors
/// If there is no route.
pub fn udp_socket(to: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Ok(socket)
}

/// Keeps asking a TCP port, and tells of the first answer.
#[derive(Debug)]
pub struct Leak {
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<Result<()>>,
    result: std::sync::mpsc::Receiver<(u32, u32)>,
}

impl Leak {
    /// Starts asking `to` for its echo by UDP, a thousand times a second.
    ///
    /// # Errors
    /// If the prober cannot start.
    pub fn watch(ns: &NetNs, to: SocketAddr) -> Result<Self> {
        use std::sync::atomic::Ordering::Relaxed;
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (told, result) = std::sync::mpsc::channel();
        let stopped = Arc::clone(&stop);
        let thread = ns.thread("prober", move || {
            let socket = udp_socket(to)?;
            socket.set_read_timeout(Some(Duration::from_millis(1)))?;
            let (mut asked, mut answered) = (0, 0);
            while !stopped.load(Relaxed) {
                asked += u32::from(socket.send(b"leak?").is_ok());
                answered += u32::from(socket.recv(&mut [0; 16]).is_ok());
            }
            told.send((asked, answered)).context("nobody waits for the prober")
        })?;
        Ok(Self { stop, thread, result })
    }

    /// Stops; how often it asked, and how often something came back.
    ///
    /// # Errors
    /// If the prober failed.
    pub fn finish(self) -> Result<(u32, u32)> {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        self.result.recv().context("the prober told nothing")
    }
}

fn verdict(result: std::io::Result<()>) -> Result<Port> {
    match result {
        Ok(()) => Ok(Port::Open),
        Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => Ok(Port::Silent),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) => {
            Ok(Port::Refused)
        }
        Err(error) => Err(error.into()),
    }
}
