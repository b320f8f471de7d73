//! Verification keys: one algorithm family each, weak ones refused when they are read.

/// The keys of one issuer.
#[derive(Clone, Debug, Default)]
pub struct KeySet {}
