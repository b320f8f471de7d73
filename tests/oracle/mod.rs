//! The rules a second time, written from the design and not from the program: what they say of a frame must be what the
//! program does with it. `mod.rs`, so that the group of kernel tests can include it by its path.

mod evasion;

use libtest_mimic::Trial;

/// The trials of this directory.
pub(crate) fn trials() -> Vec<Trial> {
    evasion::trials()
}
