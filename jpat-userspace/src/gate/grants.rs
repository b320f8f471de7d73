//! (see gate.rs)
