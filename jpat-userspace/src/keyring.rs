//! Which keys are at hand for each issuer, and when to fetch them again. Pure decisions; [`fetch`] does the I/O.

pub mod fetch;

use std::{collections::BTreeMap, sync::Arc};

use crate::{clock::UnixTime, config::Issuer, token::keys::KeySet};

/// Keys of every issuer that has been reached, by its configured name.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    held: BTreeMap<String, Held>,
}

/// Keys of one issuer.
#[derive(Clone, Debug)]
pub struct Held {
    /// The keys.
    pub keys: Arc<KeySet>,
    /// When they were read from their source.
    pub fetched: UnixTime,
}

impl KeyRing {
    /// This ring with the keys of one issuer replaced.
    #[must_use]
    pub fn with(mut self, issuer: &str, held: Held) -> Self {
        self.held.insert(issuer.to_owned(), held);
        self
    }

    /// The keys held for an issuer, by its configured name, however old.
    #[must_use]
    pub fn held(&self, issuer: &str) -> Option<&Held> {
        self.held.get(issuer)
    }

    /// The keys that may verify a token of `issuer` now: present, and not older than `max_stale`.
    #[must_use]
    pub fn usable(&self, issuer: &Issuer, now: UnixTime) -> Option<&KeySet> {
        let held = self.held.get(&issuer.name)?;
        (held.fetched.until(now) <= issuer.max_stale).then_some(&*held.keys)
    }
}

/// stub
pub struct Refresher;
impl Refresher {
    pub fn new(_: &[Issuer], _: crate::clock::BootTime) -> Self {
        Self
    }
    pub fn poll_timeout(&self) -> Option<crate::clock::BootTime> {
        None
    }
    pub fn handle_due(&mut self, _: crate::clock::BootTime) -> Vec<String> {
        Vec::new()
    }
    pub fn handle_result(&mut self, _: &str, _: Result<(), String>, _: crate::clock::BootTime) {}
    pub fn want(&mut self, _: &str, _: crate::clock::BootTime) {}
    pub fn error(&self, _: &str) -> Option<&str> {
        None
    }
}
pub fn read_static(issuer: &Issuer) -> anyhow::Result<Option<KeySet>> {
    use crate::config::KeySource;
    Ok(match &issuer.keys {
        KeySource::PemFile(path) => Some(KeySet::from_pem(&std::fs::read(path)?, &issuer.algorithms)?),
        KeySource::JwksFile(path) => Some(KeySet::from_jwks(&std::fs::read(path)?, &issuer.algorithms)?.0),
        KeySource::SecretFile(path) => Some(KeySet::from_secret(&std::fs::read(path)?, &issuer.algorithms)?),
        KeySource::Discovery | KeySource::JwksUrl(_) => None,
    })
}
pub mod cache {
    pub fn write(_: &std::path::Path, _: &str, _: &[u8], _: crate::clock::UnixTime) -> std::io::Result<()> {
        Ok(())
    }
}
