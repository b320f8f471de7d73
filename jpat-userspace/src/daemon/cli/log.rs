//! Log lines on standard error; `RUST_LOG` chooses what. A log that cannot be written stops nothing.

use std::{
    io::{self, IsTerminal as _},
    panic, thread,
};

/// Starts logging, of panics too.
pub(super) fn init() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_unset| tracing_subscriber::EnvFilter::new("info"));
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // It would tell of a write that failed by `eprintln!`, which panics where the write failed.
        .log_internal_errors(false)
        .with_ansi(colour)
        .with_target(false)
        .init();
    panic::set_hook(Box::new(|panic| tell(panic.location())));
}

/// Where, and never what: the message of a panic may quote a token.
fn tell(location: Option<&panic::Location<'_>>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("without a name");
    match location {
        Some(location) => tracing::error!("thread {name} panicked at {location}: a defect of this program"),
        None => tracing::error!("thread {name} panicked: a defect of this program"),
    }
}
