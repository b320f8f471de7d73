//! What is attached, as everybody speaks of it.

use serde::{Deserialize, Serialize};

use super::interfaces::LinkLayer;

/// Where in the receive path the program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// In the driver, before a socket buffer exists.
    Driver,
    /// In the network stack, after it does.
    Generic,
}

impl Hook {
    /// Its name in pins and in `status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Generic => "generic",
        }
    }
}

/// What was obtained on an interface.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attached {
    /// Name of the interface.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// What its packets begin with.
    pub link_layer: LinkLayer,
    /// Where the program runs.
    pub hook: Hook,
    /// Which program, by its name in the object.
    pub program: String,
    /// The kernel's id of it.
    pub program_id: u32,
    /// Why it runs there and not where it was wanted.
    pub why: Option<String>,
}
