//! Named frames and what must become of them. The host's tests and the kernel's read the same list; `mod.rs`, so that the
//! former can include it by its path.

mod matrix;
mod odd;

use jpat_common::{
    grant::ServiceId,
    reason::{DropReason, PassReason},
    settings::Settings,
};
use jpat_ebpf::verdict::{Decision, Verdict};

/// One frame and what must become of it.
pub struct Vector {
    /// Unique.
    pub name: String,
    /// The frame, from the destination MAC address on.
    pub frame: Vec<u8>,
    /// Settings flags that differ from the [`World`](crate::world::World)'s.
    pub flags: u32,
    /// What must become of it.
    pub expected: Decision,
}

impl Vector {
    fn pass(name: impl Into<String>, frame: Vec<u8>, reason: PassReason) -> Self {
        Self::new(name, frame, 0, Verdict::Pass(reason))
    }

    fn drop(name: impl Into<String>, frame: Vec<u8>, reason: DropReason) -> Self {
        Self::new(name, frame, 0, Verdict::Drop(reason))
    }

    fn new(name: impl Into<String>, frame: Vec<u8>, service: ServiceId, verdict: Verdict) -> Self {
        Self { name: name.into(), frame, flags: 0, expected: Decision { service, verdict } }
    }

    const fn with(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }

    /// The world's settings with this vector's flags.
    pub const fn settings(&self, settings: &Settings) -> Settings {
        Settings { flags: settings.flags ^ self.flags, ..*settings }
    }
}

/// Every vector; names are unique.
pub fn all() -> Vec<Vector> {
    let mut all = matrix::vectors();
    all.extend(odd::link_layer());
    all.extend(odd::headers());
    all.extend(odd::fragments());
    all.extend(odd::destinations());
    all.extend(odd::knocks());
    all.extend(odd::tunnels());
    all
}
