//! Waits until a TCP service answers.
//!
//! A SYN that comes before the grant is dropped, and the kernel repeats it only after a second. So new attempts start
//! every few milliseconds at first, while the older ones stay: the first that connects wins, at any round-trip time.

use std::{io, net::SocketAddr, str::FromStr, time::Duration};

use tokio::{net::TcpStream, task::JoinSet, time};

/// When attempts start, after the knock, in milliseconds; then one every half second.
const STARTS: [u64; 9] = [0, 2, 5, 10, 25, 50, 100, 200, 400];
const PERIOD: Duration = Duration::from_millis(500);
/// Life of one attempt, which bounds the sockets that are open at a time.
const ATTEMPT: Duration = Duration::from_secs(3);

/// What to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitFor {
    /// TCP port.
    pub port: u16,
}

/// Why that cannot be waited for.
#[derive(thiserror::Error, PartialEq, Eq, Debug)]
pub enum WaitForError {
    /// UDP services do not answer in a way that all of them share.
    #[error("waiting for a UDP service is not available in this version")]
    Udp,
    /// A number alone.
    #[error("name the protocol as well: tcp/{0}")]
    NoProtocol(u16),
    /// Anything else.
    #[error("expected a TCP port such as tcp/8443")]
    Syntax,
}

impl FromStr for WaitFor {
    type Err = WaitForError;

    fn from_str(text: &str) -> Result<Self, WaitForError> {
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
        match text.split_once('/') {
            Some(("tcp", port)) => number(port).map(|port| Self { port }).ok_or(WaitForError::Syntax),
            Some(("udp", port)) if number(port).is_some() => Err(WaitForError::Udp),
            Some(_) => Err(WaitForError::Syntax),
            None => Err(number(text).map_or(WaitForError::Syntax, WaitForError::NoProtocol)),
        }
    }
}

impl std::fmt::Display for WaitFor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tcp/{}", self.port)
    }
}

/// The service did not answer in time.
#[derive(Debug)]
pub struct NotOpen {
    /// What was waited for.
    pub service: WaitFor,
    /// Where.
    pub addresses: Vec<SocketAddr>,
    /// How long.
    pub timeout: Duration,
    /// The last thing that the system said of an attempt; none if all went unanswered.
    pub last: Option<(SocketAddr, io::Error)>,
}

impl NotOpen {
    /// An address answered with a reset: the way there is open, and nothing listens at its end.
    #[must_use]
    pub fn refused(&self) -> Option<SocketAddr> {
        self.last.as_ref().filter(|(_, error)| error.kind() == io::ErrorKind::ConnectionRefused).map(|(at, _)| *at)
    }
}

impl std::error::Error for NotOpen {}

impl std::fmt::Display for NotOpen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addresses: Vec<_> = self.addresses.iter().map(|address| address.ip().to_string()).collect();
        let (service, addresses, secs) = (self.service, addresses.join(" and "), self.timeout.as_secs_f64());
        write!(f, "{service} on {addresses} did not open within {secs} s")?;
        match (self.refused(), &self.last) {
            (Some(_), _) => f.write_str(": it can be reached, but nothing listens there"),
            (None, Some((at, error))) => write!(f, " (last error, {}: {error})", at.ip()),
            (None, None) => Ok(()),
        }
    }
}

/// Returns the address that answered first.
///
/// # Errors
/// [`NotOpen`] after `timeout`.
pub async fn wait(service: WaitFor, hosts: &[SocketAddr], timeout: Duration) -> Result<SocketAddr, NotOpen> {
    let addresses: Vec<_> = hosts
        .iter()
        .map(|host| {
            let mut at = *host;
            at.set_port(service.port);
            at
        })
        .collect();
    let mut last = None;
    match time::timeout(timeout, first(&addresses, &mut last)).await {
        Ok(address) => Ok(address),
        Err(_elapsed) => Err(NotOpen { service, addresses, timeout, last }),
    }
}

async fn first(addresses: &[SocketAddr], last: &mut Option<(SocketAddr, io::Error)>) -> SocketAddr {
    let begin = time::Instant::now();
    let mut starts = STARTS.iter().map(|ms| begin + Duration::from_millis(*ms)).chain(
        // `STARTS` ends before the first whole period.
        (1..).map(|n: u32| begin + PERIOD * n),
    );
    let mut attempts = JoinSet::new();
    let mut next = starts.next().unwrap_or(begin);
    loop {
        tokio::select! {
            () = time::sleep_until(next) => {
                for address in addresses.iter().copied() {
                    attempts.spawn(async move { (address, time::timeout(ATTEMPT, TcpStream::connect(address)).await) });
                }
                next = starts.next().unwrap_or(next + PERIOD);
            }
            Some(done) = attempts.join_next() => match done {
                Ok((address, Ok(Ok(_stream)))) => return address,
                Ok((address, Ok(Err(error)))) => *last = Some((address, error)),
                // Unanswered, or the runtime is going down.
                Ok((_, Err(_))) | Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_tcp_ports_can_be_waited_for() {
        assert_eq!("tcp/8443".parse(), Ok(WaitFor { port: 8443 }));
        assert_eq!("udp/53".parse::<WaitFor>(), Err(WaitForError::Udp));
        assert_eq!("8443".parse::<WaitFor>(), Err(WaitForError::NoProtocol(8443)));
        for bad in ["", "tcp/", "tcp/0", "tcp/70000", "udp/x", "sctp/1", "tcp:1", "x"] {
            assert_eq!(bad.parse::<WaitFor>(), Err(WaitForError::Syntax), "{bad}");
        }
    }

    #[tokio::test]
    async fn an_open_port_is_found_at_once_beside_a_dead_address() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = server.local_addr().unwrap();
        // Nothing listens on the same port of another loopback address.
        let dead: SocketAddr = "127.0.0.9:0".parse().unwrap();
        let found = wait(WaitFor { port: open.port() }, &[dead, open], Duration::from_secs(5)).await.unwrap();
        assert_eq!(found, open);
    }

    #[tokio::test]
    async fn a_port_that_opens_later_is_found() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host: SocketAddr = ([127, 0, 0, 1], 0).into();
        let opener = tokio::spawn(async move {
            time::sleep(Duration::from_millis(30)).await;
            let server = TcpListener::bind(("127.0.0.1", port)).unwrap();
            time::sleep(Duration::from_secs(2)).await;
            drop(server);
        });
        assert!(wait(WaitFor { port }, &[host], Duration::from_secs(2)).await.is_ok());
        opener.abort();
    }

    #[tokio::test]
    async fn a_refusing_port_is_told_from_a_silent_one() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host: SocketAddr = ([127, 0, 0, 1], 0).into();
        let error = wait(WaitFor { port }, &[host], Duration::from_millis(60)).await.unwrap_err();
        assert!(error.refused().is_some());
        let text =
            format!("tcp/{port} on 127.0.0.1 did not open within 0.06 s: it can be reached, but nothing listens there");
        assert_eq!(error.to_string(), text);
    }
}
