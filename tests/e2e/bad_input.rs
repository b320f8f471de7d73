//! Stub.
use libtest_mimic::Trial;
#[derive(Default)]
pub(crate) struct Shared;
impl Shared {
    pub(crate) fn end(self) {}
}
pub(crate) fn trials(_s: &Shared) -> Vec<Trial> {
    vec![]
}
