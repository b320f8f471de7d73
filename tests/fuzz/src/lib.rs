//! What must hold for any bytes that arrive from outside: one function for each way in, which panics where it does not. The
//! programs in `libfuzzer/` look for such bytes, and the test `corpora` gives the functions every input that was kept, in CI.
#![forbid(unsafe_code)]

#[path = "../../harness/knocks.rs"]
pub mod knocks;
#[path = "../../harness/packet.rs"]
pub mod packet;
#[path = "../../../jpat-ebpf/tests/recogniser/mod.rs"]
mod recogniser;
#[path = "../../harness/world.rs"]
pub mod world;

pub mod wire;
pub mod sealed;
pub mod jwt;
pub mod jwks;
pub mod config;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, that of its program and of the directories of its inputs.
    pub name: &'static str,
    /// Panics where something does not hold for an input.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: [Target; 5] = [
    Target { name: "wire", run: wire::fuzz },
    Target { name: "sealed", run: sealed::fuzz },
    Target { name: "jwt", run: jwt::fuzz },
    Target { name: "jwks", run: jwks::fuzz },
    Target { name: "config", run: config::fuzz },
];

/// Most bytes of an input.
pub const MAX_INPUT: usize = 4096;
