//! The token verifier against bad tokens, bad keys, the rules of RFC 8725 and published vectors.

#![expect(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test may panic, its helpers too")]

mod bench;
mod mint;

mod accepted;
mod refusals;
mod sealed;
mod rfc8725;
mod keys;
mod properties;
mod wycheproof;
mod jsontestsuite;
