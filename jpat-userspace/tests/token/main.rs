//! The token verifier against bad tokens, bad keys, the rules of RFC 8725 and published vectors.

mod bench;
mod mint;

mod accepted;
mod refusals;
mod rfc8725;
mod keys;
mod properties;
mod wycheproof;
mod jsontestsuite;
