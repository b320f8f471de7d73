//! How long knocks go unanswered: somebody without a grant knocks and asks until the port answers.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    netns::NetNs,
    wait::{self, PATIENCE},
};
use jpat_userspace::{
    admin::{Request, Response, client},
    clock::BootTime,
};

use super::sockets;

/// Who knocks.
pub(super) const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 11));
/// Between two knocks.
const INTERVAL: Duration = Duration::from_millis(1);

pub(super) struct Answer {
    token: String,
    socket: PathBuf,
}

/// A knocker at work.
pub(super) type Waiting = mpsc::Receiver<Result<Duration>>;

impl Answer {
    pub(super) const fn new(token: String, socket: PathBuf) -> Self {
        Self { token, socket }
    }

    /// Takes the grant back.
    pub(super) fn close(&self) -> Result<()> {
        let source = Some(format!("{SOURCE}/32").parse().context("a prefix")?);
        let asked = Request::GrantsRevoke { source, service: None, principal: None };
        let answered = client::request(&self.socket, &asked)?;
        ensure!(matches!(answered, Response::Revoked { .. }), "revoke: {answered:?}");
        Ok(())
    }

    /// Starts knocking; tells how long after `begin` the port answered.
    pub(super) fn wait(&self, client: &NetNs, begin: BootTime) -> Result<Waiting> {
        let (tell, told) = mpsc::channel();
        let token = self.token.clone();
        client.thread("knocker", move || {
            let opened = knock_until_open(SOURCE, &token).map(|opened| begin.until(opened));
            tell.send(opened).context("nobody waits for the knocker")
        })?;
        Ok(told)
    }
}

pub(super) fn join(waiting: Waiting) -> Result<Duration> {
    waiting.recv_timeout(2 * PATIENCE).context("the knocker does not come back")?
}

/// Knocks and asks until the port answers; when that was.
pub(super) fn knock_until_open(source: IpAddr, token: &str) -> Result<BootTime> {
    let (knock, probe) = sockets(source)?;
    let begin = wait::now();
    loop {
        // A full send queue is as good as a knock that is lost.
        let _full = (knock.send(token.as_bytes()), probe.send(b"open?"));
        std::thread::sleep(INTERVAL);
        if probe.recv(&mut [0; 8]).is_ok() {
            return Ok(wait::now());
        }
        ensure!(begin.until(wait::now()) < PATIENCE, "no knock was answered within {PATIENCE:?}");
    }
}
