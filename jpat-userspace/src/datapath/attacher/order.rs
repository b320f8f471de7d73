//! What is said between the controller and the attacher.

use serde::{Deserialize, Serialize};

use super::super::{attach::Attached, interfaces::Target};
use crate::config::AttachMode;

/// What the attacher is asked to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Order {
    /// Puts the program on a device, or puts it back where it was taken away.
    Attach {
        /// The device.
        target: Target,
        /// How.
        mode: AttachMode,
        /// What to do about the link that an earlier controller left there.
        earlier: Earlier,
        /// Whether the link is to outlive this process at once.
        pin: bool,
    },
    /// Takes the program off a device, which may be gone.
    Release {
        /// Its index.
        ifindex: u32,
    },
    /// Takes away what earlier controllers attached and nobody asked for since.
    ReleaseOthers,
    /// Makes every link outlive this process.
    Pin,
}

/// What to do about a pinned link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Earlier {
    /// Leave it as it is.
    Leave,
    /// Switch it over to this program, in one step.
    TakeOver,
}

/// What came of an order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The program is there.
    Attached(Attached),
    /// An earlier controller's link is, and was left.
    Left,
    /// It is off these devices, by index.
    Released(Vec<u32>),
    /// Every link is pinned.
    Pinned,
}
