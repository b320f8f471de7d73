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
