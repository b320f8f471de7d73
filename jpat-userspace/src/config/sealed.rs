//! What sealed knocks need: who this host is, and the keys of the filter.

use std::path::PathBuf;

use super::Config;

/// `[server]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// 1 to 64 printable ASCII characters without spaces.
    pub id: String,
    /// Files of the private keys, each with 32 bytes as base64url text. Never empty.
    pub keys: Vec<PathBuf>,
    /// Whether knocks that authenticate are answered.
    pub reply: bool,
}

/// `[[knock_key]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnockKeyConfig {
    /// 1 to 65535.
    pub id: u16,
    /// Name of the group whose budget its knocks use up.
    pub group: String,
    /// Its file, with 32 bytes as base64url text.
    pub file: PathBuf,
}

/// `issuer.source_binding`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceBinding {
    /// The address a knock came from counts. One inside the knock that differs is refused as well.
    Observed,
    /// The address must be inside the knock, and be the one it came from.
    Strict,
}

impl SourceBinding {
    /// Its name in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Strict => "strict",
        }
    }
}

impl Config {
    /// Names of the groups of knock keys, each once, in the order of the file. The budget of the first one has index 1:
    /// index 0 is that of bare knocks.
    #[must_use]
    pub fn groups(&self) -> Vec<String> {
        let mut groups: Vec<String> = Vec::new();
        for key in &self.knock_keys {
            if !groups.contains(&key.group) {
                groups.push(key.group.clone());
            }
        }
        groups
    }
}
