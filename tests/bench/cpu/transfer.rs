//! A client with a grant sends as fast as TCP lets it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use jpat_tests::{
    netns::NetNs,
    wait::PATIENCE,
    world::{HOST4, WEB_PORT},
};
use jpat_userspace::clock;

const PIECE: usize = 1 << 16;

/// Both ends of a connection to the protected port.
pub(super) struct Transfer {
    client: TcpStream,
    server: TcpStream,
}

impl Transfer {
    pub(super) fn open(host: &NetNs, wire: &NetNs) -> Result<Self> {
        let address = SocketAddr::from((HOST4, WEB_PORT));
        let listener = host.run(|| Ok(TcpListener::bind(address)?))?;
        let client = wire.run(|| TcpStream::connect_timeout(&address, PATIENCE).context("connect"))?;
        let (server, _) = listener.accept()?;
        for end in [&client, &server] {
            end.set_read_timeout(Some(PATIENCE))?;
            end.set_write_timeout(Some(PATIENCE))?;
        }
        Ok(Self { client, server })
    }

    /// What arrives in this time, after a tenth of it for the flood to begin.
    pub(super) fn bytes_per_second(self, time: Duration) -> Result<f64> {
        let Self { mut client, mut server } = self;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let piece = vec![0; PIECE];
                while !stop.load(Ordering::Relaxed) {
                    client.write_all(&piece)?;
                }
                // The reader goes on to the end, or the sender would wait for it.
                client.shutdown(std::net::Shutdown::Write)
            });
            let rate = receive(&mut server, time);
            stop.store(true, Ordering::Relaxed);
            let drained = std::io::copy(&mut server, &mut std::io::sink());
            sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            drained?;
            rate
        })
    }
}

fn receive(server: &mut TcpStream, time: Duration) -> Result<f64> {
    let mut buffer = vec![0; PIECE];
    let start = clock::now().boot;
    let begin = start.after(time / 10);
    let (mut bytes, mut now) = (0, start);
    while begin.until(now) < time {
        let read = server.read(&mut buffer).context("nothing arrives any more")?;
        now = clock::now().boot;
        if now > begin {
            bytes += read;
        }
    }
    Ok(bytes as f64 / begin.until(now).as_secs_f64())
}
