//! Readiness of descriptors that tokio does not know.

use std::{io, os::fd::AsRawFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Registers a descriptor with the running reactor, for reading.
#[expect(deprecated, reason = "its replacement is an unsafe fn; the inner types own their descriptors until they drop")]
pub(super) fn readable<T: AsRawFd>(inner: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(inner, Interest::READABLE)
}
