//! The sealed form against its specification, `docs/protocol.md`.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod round_trip;
