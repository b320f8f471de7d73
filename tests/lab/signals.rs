//! Ctrl-C, SIGTERM and SIGHUP end the lab in an orderly way.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// Whether one came.
#[derive(Clone, Debug)]
pub(crate) struct Signals(Arc<AtomicBool>);

impl Signals {
    pub(crate) fn catch() -> Result<Self> {
        let caught = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&caught);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("start a runtime")?;
        let (mut interrupt, mut terminate, mut hangup) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
        };
        let wait = move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        _ = hangup.recv() => {}
                    }
                    flag.store(true, Relaxed);
                }
            });
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(wait).context("start a thread")?;
        Ok(Self(caught))
    }

    pub(crate) fn caught(&self) -> bool {
        self.0.load(Relaxed)
    }
}
