//! Which keys are at hand for each issuer, and when to fetch them again. [`refresh`] decides, purely; [`fetch`],
//! [`local`] and [`cache`] do the I/O.
//!
//! Nothing is ever fetched on the way of a packet: a `kid` that is not known only asks [`refresh::Refresher::want`].

pub mod cache;
pub mod fetch;
pub mod local;
pub mod refresh;

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

    /// This ring without the keys of one issuer, for one that is gone or whose keys now come from elsewhere.
    #[must_use]
    pub fn without(mut self, issuer: &str) -> Self {
        self.held.remove(issuer);
        self
    }

    /// The keys held for an issuer, by its configured name, however old.
    #[must_use]
    pub fn held(&self, issuer: &str) -> Option<&Held> {
        self.held.get(issuer)
    }

    /// The keys that may verify a token of `issuer` now: present, and where they are fetched not older than `max_stale`.
    #[must_use]
    pub fn usable(&self, issuer: &Issuer, now: UnixTime) -> Option<&KeySet> {
        let held = self.held.get(&*issuer.name)?;
        let fresh = !refresh::is_remote(issuer) || held.fetched.until(now) <= issuer.max_stale;
        fresh.then_some(&*held.keys)
    }
}
