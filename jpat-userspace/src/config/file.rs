//! The file as typed: TOML with spans, every key of the contract known.
