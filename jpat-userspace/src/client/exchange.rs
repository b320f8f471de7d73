//! One sealed knock and its reply. A datagram can get lost either way, so an unanswered knock is repeated: sealed again,
//! because a server takes no datagram twice.

use std::{net::SocketAddr, time::Duration};

use tokio::{net::UdpSocket, time};

use super::{ClientError, connect, sealed::Sealer, send_error};
use crate::{
    clock::{self, UnixTime},
    knock::{
        MAX_PAYLOAD,
        reply::{Reply, ReplyError},
    },
};

/// Datagrams of one exchange.
pub const ATTEMPTS: u32 = 3;

/// What is known afterwards.
#[derive(Debug)]
pub struct Exchange {
    /// Where to.
    pub to: SocketAddr,
    /// Bytes of UDP payload of each datagram.
    pub bytes: usize,
    /// How many were sent.
    pub attempts: u32,
    /// What came back.
    pub heard: Heard,
}

/// What came back.
#[derive(Debug)]
pub enum Heard {
    /// The server's reply, and when it came by this machine's clock.
    Reply(Reply, UnixTime),
    /// Nothing, in the time that there was, or there was none.
    Silence,
    /// An ICMP message: then no JPAT guards that port, because it never lets one out (P1).
    Rejected(std::io::Error),
    /// The server answered in a way that this version does not understand.
    Strange(ReplyError),
}

/// Knocks at one address. Without a `patience` nobody waits for a reply, and nothing is repeated; before a repeat
/// `repeating` is asked whether it is still wanted. The first datagram leaves at the first poll.
///
/// # Errors
/// [`ClientError::NotSent`], and what [`Sealer::seal`] objects to.
pub async fn exchange(
    sealer: &Sealer<'_>,
    to: SocketAddr,
    patience: Option<Duration>,
    mut repeating: impl FnMut(u32) -> bool,
) -> Result<Exchange, ClientError> {
    let failed = |source, length| ClientError::NotSent(vec![send_error(source, to.ip(), length)]);
    let sockets = connect(to).and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok((UdpSocket::from_std(socket.try_clone()?)?, socket))
    });
    let (socket, sending) = sockets.map_err(|source| failed(source, 0))?;
    let own = socket.local_addr().map_or(to.ip(), |address| address.ip());
    let mut exchange = Exchange { to, bytes: 0, attempts: 0, heard: Heard::Silence };
    let mut tickets = Vec::new();
    let begin = time::Instant::now();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 && !repeating(attempt + 1) {
            break;
        }
        let (datagram, ticket) = sealer.seal(attempt as usize, own, clock::now().unix)?;
        tickets.push(ticket);
        match sending.send(&datagram) {
            Ok(bytes) => (exchange.bytes, exchange.attempts) = (bytes, attempt + 1),
            // The answer to an earlier one.
            Err(error) if attempt > 0 => {
                exchange.heard = Heard::Rejected(error);
                return Ok(exchange);
            }
            Err(source) => return Err(failed(source, datagram.len())),
        }
        let Some(patience) = patience else { return Ok(exchange) };
        let until = begin + patience * (attempt + 1) / ATTEMPTS;
        if let Ok(heard) = time::timeout_at(until, receive(&socket, &tickets)).await {
            exchange.heard = heard;
            return Ok(exchange);
        }
    }
    Ok(exchange)
}

/// Waits for a datagram that opens: others are not the server's.
async fn receive(socket: &UdpSocket, tickets: &[crate::knock::sealed::ReplyTicket]) -> Heard {
    let mut buffer = [0; MAX_PAYLOAD + 1];
    loop {
        let length = match socket.recv(&mut buffer).await {
            Ok(length) => length,
            Err(error) => return Heard::Rejected(error),
        };
        for ticket in tickets {
            match ticket.open(&buffer[..length]) {
                Ok(reply) => return Heard::Reply(reply, clock::now().unix),
                // It opened, so it is the server's.
                Err(error @ ReplyError::BadMessage) => return Heard::Strange(error),
                Err(
                    ReplyError::NotAReply | ReplyError::TooLong | ReplyError::CannotOpen | ReplyError::NoRandomness,
                ) => {}
            }
        }
    }
}

/// How far the server's clock is ahead of this machine's, in seconds.
#[must_use]
pub fn clock_offset(reply: &Reply, came: UnixTime) -> f64 {
    let ahead = came.until(reply.server_time).as_secs_f64();
    if ahead > 0.0 { ahead } else { -reply.server_time.until(came).as_secs_f64() }
}
