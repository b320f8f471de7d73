//! (see token.rs)
