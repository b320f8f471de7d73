//! From the send of a datagram that was made before to the first echo.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use jpat_tests::{
    network::{Family, Member},
    probe,
};
use jpat_userspace::clock;

use crate::{controller::SERVICE_PORT, summary::Sorted};

/// Between two probes.
pub(super) const INTERVAL: Duration = Duration::from_micros(10);
/// Longest wait for one port to open.
const LIMIT: Duration = Duration::from_secs(2);

/// Whom to knock at.
pub(super) struct Target<'a> {
    pub(super) port: u16,
    /// Makes the datagram of a number.
    pub(super) prepare: &'a (dyn Fn(u32) -> Result<Vec<u8>> + Sync),
    /// Closes the port again.
    pub(super) close: &'a (dyn Fn() -> Result<()> + Sync),
}

/// What it came to.
pub(super) struct Timed {
    took: Sorted,
    probes: u32,
    total: Duration,
    /// Of the longest datagram.
    pub(super) bytes: usize,
}

impl Timed {
    pub(super) const HEAD: &'static str = "      p50       p99       max  ms, and the mean time between probes";

    pub(super) fn line(&self) -> String {
        let ms = |percent| self.took.percentile(percent).as_secs_f64() * 1e3;
        let between = self.total.as_secs_f64() * 1e6 / f64::from(self.probes.max(1));
        format!("{:>9.3} {:>9.3} {:>9.3}  {between:.1} us", ms(50), ms(99), ms(100))
    }

    pub(super) fn verdict(&self, (median, high): (Option<Duration>, Option<Duration>)) -> String {
        let bars = [("p50", 50, median), ("p99", 99, high)];
        let verdicts = bars.into_iter().filter_map(|(name, percent, bar)| {
            let bar = bar?;
            let verdict = if self.took.percentile(percent) <= bar { "met" } else { "MISSED" };
            Some(format!("; {name} at most {bar:?}: {verdict}"))
        });
        verdicts.collect()
    }
}

/// In the client's namespace.
pub(super) fn measure(warm_up: u32, knocks: u32, target: &Target<'_>) -> Result<Timed> {
    let address = Member::Host.address(Family::V4);
    // Not connected: nobody listens where fwknopd sniffs, and the host's ICMP error would fail the next send.
    let knock = UdpSocket::bind("0.0.0.0:0")?;
    let to = SocketAddr::new(address, target.port);
    let probe = probe::udp_socket(SocketAddr::new(address, SERVICE_PORT))?;
    probe.set_nonblocking(true)?;
    let mut timed = Timed { took: Sorted::new(Vec::new()), probes: 0, total: Duration::ZERO, bytes: 0 };
    let mut took = Vec::new();
    for number in 0..warm_up + knocks {
        (target.close)()?;
        ensure_closed(&probe)?;
        let datagram = (target.prepare)(number)?;
        let (duration, probes) = one((&knock, to), &probe, &datagram, number.to_be_bytes())?;
        if number >= warm_up {
            took.push(duration);
            timed.probes += probes;
            timed.total += duration;
            timed.bytes = timed.bytes.max(datagram.len());
        }
    }
    timed.took = Sorted::new(took);
    Ok(timed)
}

/// Sends a knock, then probes until the first echo of this round comes back.
fn one(
    (knock, to): (&UdpSocket, SocketAddr),
    probe: &UdpSocket,
    datagram: &[u8],
    marker: [u8; 4],
) -> Result<(Duration, u32)> {
    let mut probes = 0;
    let begin = clock::now().boot;
    knock.send_to(datagram, to).context("sending the knock")?;
    let mut next = begin;
    loop {
        let now = clock::now().boot;
        if now >= next {
            // A full send queue is as good as a probe that is dropped.
            let _full = probe.send(&marker);
            probes += 1;
            next = now.after(INTERVAL);
        }
        let mut echo = [0; 8];
        if probe.recv(&mut echo).is_ok_and(|length| echo.get(..length) == Some(&marker[..])) {
            return Ok((begin.until(clock::now().boot), probes));
        }
        if begin.until(now) > LIMIT {
            bail!("the port did not open within {LIMIT:?}");
        }
    }
}

/// What was open before stays unanswered now. Echoes of the round before may still be under way.
fn ensure_closed(probe: &UdpSocket) -> Result<()> {
    const QUESTION: &[u8] = b"closed?";
    probe.send(QUESTION)?;
    let end = clock::now().boot.after(Duration::from_millis(5));
    while clock::now().boot < end {
        let mut echo = [0; 8];
        let is_answered = probe.recv(&mut echo).is_ok_and(|length| echo.get(..length) == Some(QUESTION));
        ensure!(!is_answered, "the port is open after it was closed");
    }
    Ok(())
}
