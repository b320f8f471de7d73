//! `[server]` and `[[knock_key]]`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who this host is to sealed knocks.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["id", "keys"]))]
pub(in crate::config) struct Server {
    /// Its id: 1 to 64 printable ASCII characters without spaces. A knock for another id is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[!-~]{1,64}$"))]
    pub(in crate::config) id: Option<String>,
    /// Files of the private keys that open sealed knocks, mode 0600 or less; several while one replaces another.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub(in crate::config) keys: Vec<String>,
    /// Whether knocks that authenticate are answered.
    pub(in crate::config) reply: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self { id: None, keys: Vec::new(), reply: true }
    }
}

/// A key that the clients of one group share with this host.
#[derive(Deserialize, Serialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["id", "group", "file"]))]
pub(in crate::config) struct KnockKey {
    /// Its id, which knocks carry in the clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub(in crate::config) id: Option<i64>,
    /// Whose it is; the keys of a group share `limits.knocks_per_second`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) group: Option<String>,
    /// Its file, mode 0600 or less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::config) file: Option<String>,
}
