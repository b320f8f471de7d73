//! The keys that the configuration names, read at every start and reload: what is in the files then counts.

use super::{Config, error::ConfigError};
use crate::{
    knock::sealed::{self, KnockKey, ServerKey},
    secret_file,
};

/// Keys of sealed knocks. Wiped when dropped, and never shown.
pub struct Secrets {
    /// What opens sealed knocks; nothing where no issuer accepts them.
    pub server: Option<sealed::Server>,
    /// Keys of the filter, each with the index of its group's budget.
    pub knock_keys: Vec<(KnockKey, u32)>,
    /// Names of the groups; that at position `n` has the budget `n + 1` ([`Config::groups`]).
    pub groups: Vec<String>,
}

/// Reads all key files of `[server]` and `[[knock_key]]`. They may have changed since [`Config::load`] looked at them.
///
/// # Errors
/// Each file that cannot be used.
pub fn load(config: &Config) -> Result<Secrets, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let mut read = |key: String, path: &std::path::Path| match secret_file::read(path) {
        Ok(secret) => Some(secret),
        Err(error) => {
            errors.push(config.source.error(&key, error.describe(path), error.remedy(path)));
            None
        }
    };
    let server = config.server.as_ref().map(|server| {
        let files = server.keys.iter().enumerate();
        let keys =
            files.filter_map(|(at, path)| ServerKey::from_bytes(&*read(format!("server.keys[{at}]"), path)?).ok());
        sealed::Server { id: server.id.clone(), keys: keys.collect() }
    });
    let groups = config.groups();
    let mut knock_keys = Vec::new();
    for (at, key) in config.knock_keys.iter().enumerate() {
        let group = groups.iter().position(|group| *group == key.group).unwrap_or_default() + 1;
        if let (Some(secret), Ok(group)) = (read(format!("knock_key[{at}].file"), &key.file), u32::try_from(group)) {
            knock_keys.push((KnockKey::new(key.id, *secret), group));
        }
    }
    if errors.is_empty() { Ok(Secrets { server, knock_keys, groups }) } else { Err(errors) }
}
