//! Signals and sockets, opened before anything is attached.

use anyhow::Context as _;
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{admin, config::Admin};

/// What ends the loop, and what makes it read its configuration again.
pub(super) struct Signals {
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
    pub(super) hangup: Signal,
}

impl Signals {
    pub(super) fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Sockets, opened before anything is attached: a port that is taken must not leave a host without its controller.
pub(super) struct Listeners {
    pub(super) admin: UnixListener,
    pub(super) metrics: Option<TcpListener>,
}

impl Listeners {
    pub(super) async fn open(admin: &Admin) -> anyhow::Result<Self> {
        let metrics = match admin.metrics {
            Some(address) => {
                Some(TcpListener::bind(address).await.with_context(|| format!("`admin.metrics` on {address}"))?)
            }
            None => None,
        };
        let socket = admin::server::bind(&admin.socket);
        let admin = socket.with_context(|| format!("`admin.socket` {}", admin.socket.display()))?;
        Ok(Self { admin, metrics })
    }
}
