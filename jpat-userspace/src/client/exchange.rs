//! One sealed knock and its reply. A datagram can get lost either way, so an unanswered knock is repeated: sealed again,
//! because a server takes no datagram twice.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{net::UdpSocket, time};

use super::{ClientError, connect, sealed::Sealer, send_error};
use crate::{
    clock::{self, UnixTime},
    knock::{
        MAX_PAYLOAD,
        reply::{Reply, ReplyError},
        sealed::ReplyTicket,
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
    /// Nothing but an ICMP message: then no JPAT guards that port, because it never lets one out (P1), or somebody forged it.
    Rejected(io::Error),
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
    let (mut tickets, mut rejected) = (Vec::new(), None);
    let begin = time::Instant::now();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 && !repeating(attempt + 1) {
            break;
        }
        let (datagram, ticket) = sealer.seal(attempt as usize, own, clock::now().unix)?;
        tickets.push(ticket);
        // The error may be the answer to an earlier one, and is gone with the first try.
        let sent = sending.send(&datagram).or_else(|error| {
            if attempt == 0 {
                return Err(error);
            }
            rejected = Some(error);
            sending.send(&datagram)
        });
        match sent {
            Ok(bytes) => (exchange.bytes, exchange.attempts) = (bytes, attempt + 1),
            Err(source) if attempt == 0 => return Err(failed(source, datagram.len())),
            Err(error) => rejected = Some(error),
        }
        let Some(patience) = patience else { return Ok(exchange) };
        let until = begin + patience * (attempt + 1) / ATTEMPTS;
        if let Ok(heard) = time::timeout_at(until, receive(&socket, &tickets, &mut rejected)).await {
            exchange.heard = heard;
            return Ok(exchange);
        }
    }
    exchange.heard = rejected.map_or(Heard::Silence, Heard::Rejected);
    Ok(exchange)
}

/// Waits for a datagram that opens: others are not the server's, and ICMP messages may be anybody's.
async fn receive(socket: &UdpSocket, tickets: &[ReplyTicket], rejected: &mut Option<io::Error>) -> Heard {
    let mut buffer = [0; MAX_PAYLOAD + 1];
    loop {
        let length = match socket.recv(&mut buffer).await {
            Ok(length) => length,
            Err(error) => {
                *rejected = Some(error);
                continue;
            }
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

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket as Socket, thread};

    use super::*;
    use crate::{
        client::{profile::Profile, sealed::Wish},
        knock::{
            reply::Outcome,
            sealed::{Server, ServerKey, Verb, open},
        },
        secret_file::Secret,
    };

    /// Anybody can forge an ICMP message; only a reply ends the wait.
    #[tokio::test]
    async fn p1_an_icmp_message_does_not_end_the_wait_for_a_reply() {
        let server = Server { id: "web-1".to_owned(), keys: vec![ServerKey::generate().unwrap()] };
        let profile = Profile {
            path: "profile".into(),
            host: None,
            port: 1,
            reply: true,
            token_file: None,
            client_key: None,
            address: None,
            server_id: server.id.clone(),
            server_keys: vec![server.keys[0].public()],
            knock_key_id: 1,
            knock_key: Secret::new([3; 32]),
        };
        let token = format!("{0}.{0}.{0}", "e30A".repeat(20));
        let wish = Wish { verb: Verb::Open, token: &token, services: &[], address: None, key: None, force: false };
        let sealer = Sealer::new(&profile, wish, clock::now().unix).unwrap();
        // Nothing listens at first, so that the kernel answers the first knock.
        let at = Socket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut answering = None;
        let repeating = |_| {
            let (socket, server) = (Socket::bind(at).unwrap(), server.clone());
            answering = Some(thread::spawn(move || {
                let mut buffer = [0; MAX_PAYLOAD];
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                let opened = open(&buffer[..length], from.ip(), &server).unwrap();
                let reply = Reply { outcome: Outcome::Refused("not_open".to_owned()), server_time: UnixTime(0) };
                socket.send_to(&opened.ticket.seal(&reply).unwrap(), from).unwrap();
            }));
            true
        };
        let exchange = exchange(&sealer, at, Some(Duration::from_secs(3)), repeating).await.unwrap();
        assert!(matches!(exchange.heard, Heard::Reply(..)), "{exchange:?}");
        assert_eq!(exchange.attempts, 2);
        answering.unwrap().join().unwrap();
    }
}
