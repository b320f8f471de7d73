//! CEL source becomes a checked program.
