//! Ctrl-C, SIGTERM and SIGHUP, so that a run can end in an orderly way. Children are in process groups of their own and
//! do not get them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// Whether one came.
#[derive(Clone, Debug)]
pub struct Signals(Arc<AtomicBool>);

impl Signals {
    /// From now on they do not end this process by themselves; each calls `act`, on a thread of its own.
    ///
    /// # Errors
    /// If they cannot be caught.
    pub fn catch(act: impl Fn() + Send + 'static) -> Result<Self> {
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
                    act();
                }
            });
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(wait).context("start a thread")?;
        Ok(Self(caught))
    }

    /// Whether one came.
    #[must_use]
    pub fn caught(&self) -> bool {
        self.0.load(Relaxed)
    }
}
