//! The sealed form against its specification, `docs/protocol.md`.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod cost;
mod encoding;
mod hostile;
mod reference;
mod rfc9180;
mod round_trip;
mod signatures;
mod vectors;
