//! The tables of the store. Keys begin with the date by which a row loses its meaning, so that forgetting reads no more than it
//! removes.

use std::{
    fs::{self, DirBuilder, Permissions},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch as WriteBatch, PersistMode};
use serde::de::DeserializeOwned;

use super::{ClaimRecord, LeaseId, NONCE_RETENTION, NonceUse, Recovered, ReplayStoreError};
use crate::{
    clock::{Now, UnixTime},
    token::TokenId,
};

/// Rows removed at a time.
const AT_ONCE: usize = 4_096;
/// Bytes of one table in memory, before they become a file.
const MEMORY: u64 = 4 << 20;
const CACHE: u64 = 1 << 20;
const JOURNAL: u64 = 64 << 20;

const COMPLETE: &[u8] = b"complete";
const FORGOTTEN_KNOCK: &[u8] = b"forgotten_knock";
const FORGOTTEN_TOKEN: &[u8] = b"forgotten_token";

pub(super) struct Tables {
    path: PathBuf,
    database: Database,
    /// Date and nonce; budget.
    nonces: Keyspace,
    /// `exp` and digest of the id.
    uses: Keyspace,
    /// `exp` and digest of the id, of those that have leases.
    tokens: Keyspace,
    /// Digest of the [`LeaseId`].
    leases: Keyspace,
    /// By name.
    marks: Keyspace,
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Tables {
    /// Makes empty tables.
    pub(super) fn create(path: &Path) -> Result<Self, ReplayStoreError> {
        let tables = Self::any(path)?;
        tables
            .marks
            .insert(COMPLETE, [])
            .and_then(|()| tables.database.persist(PersistMode::SyncAll))
            .map_err(tables.error())?;
        Ok(tables)
    }

    /// Opens tables that were made.
    pub(super) fn open(path: &Path) -> Result<Self, ReplayStoreError> {
        let tables = Self::any(path)?;
        match tables.marks.contains_key(COMPLETE).map_err(tables.error())? {
            true => Ok(tables),
            false => Err(ReplayStoreError::Damaged(path.to_owned(), "it is empty".to_owned())),
        }
    }

    fn any(path: &Path) -> Result<Self, ReplayStoreError> {
        let error = |error| ReplayStoreError::engine(path, error);
        // It holds names, addresses and claims.
        let private = DirBuilder::new().recursive(true).mode(0o700).create(path);
        private
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o700)))
            .map_err(|source| ReplayStoreError::io(path, source))?;
        let builder = Database::builder(path).worker_threads(1).cache_size(CACHE).max_journaling_size(JOURNAL);
        let database = builder.open().map_err(error)?;
        let table = |name| {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMORY);
            database.keyspace(name, options).map_err(error)
        };
        Ok(Self {
            path: path.to_owned(),
            nonces: table("nonces")?,
            uses: table("uses")?,
            tokens: table("tokens")?,
            leases: table("leases")?,
            marks: table("marks")?,
            database,
        })
    }

    /// Everything that is known. Nothing of it is forgotten here: `now` does not matter.
    pub(super) fn recover(&self) -> Result<Recovered, ReplayStoreError> {
        let mut recovered = Recovered {
            forgotten_knock: self.mark(FORGOTTEN_KNOCK)?,
            forgotten_token: self.mark(FORGOTTEN_TOKEN)?,
            ..Recovered::default()
        };
        for row in self.nonces.iter() {
            let (key, value) = row.into_inner().map_err(self.error())?;
            recovered.nonces.push(read_nonce(&key, &value).ok_or_else(|| self.damaged("a nonce"))?);
        }
        for row in self.uses.iter() {
            recovered.uses.push(self.json(&row.value().map_err(self.error())?)?);
        }
        for row in self.tokens.iter() {
            recovered.tokens.push(Arc::new(self.json(&row.value().map_err(self.error())?)?));
        }
        for row in self.leases.iter() {
            recovered.leases.push(self.json(&row.value().map_err(self.error())?)?);
        }
        Ok(recovered)
    }

    pub(super) fn append<'r>(
        &self,
        records: impl IntoIterator<Item = &'r ClaimRecord>,
    ) -> Result<(), ReplayStoreError> {
        let mut batch = self.batch(8);
        for record in records {
            match record {
                ClaimRecord::Nonce(used) => batch.insert(&self.nonces, nonce_key(used), used.group.to_be_bytes()),
                ClaimRecord::Use(used) => {
                    batch.insert(&self.uses, self.token_key(used.expires, &used.id)?, self.text(used)?)
                }
                ClaimRecord::Token(token) => {
                    batch.insert(
                        &self.tokens,
                        self.token_key(token.expires(), token.id())?,
                        self.text(token.as_ref())?,
                    );
                }
                ClaimRecord::Lease(lease) => batch.insert(&self.leases, self.lease_key(&lease.id)?, self.text(lease)?),
                ClaimRecord::LeaseOver(id) => batch.remove(&self.leases, self.lease_key(id)?),
            }
        }
        batch.commit().map_err(self.error())
    }

    /// Leases are taken away one by one, as they end.
    pub(super) fn forget(&self, now: Now) -> Result<(), ReplayStoreError> {
        let mut batch = self.batch(AT_ONCE);
        let (mut knock, mut token) = (self.mark(FORGOTTEN_KNOCK)?, self.mark(FORGOTTEN_TOKEN)?);
        for row in self.nonces.iter().take(AT_ONCE) {
            let key = row.key().map_err(self.error())?;
            let date = self.date(&key)?;
            if date.after(NONCE_RETENTION) > now.unix {
                break;
            }
            knock = knock.max(date);
            batch.remove(&self.nonces, key);
        }
        for row in self.uses.iter().take(AT_ONCE) {
            let key = row.key().map_err(self.error())?;
            let date = self.date(&key)?;
            if date > now.unix {
                break;
            }
            token = token.max(date);
            batch.remove(&self.uses, key);
        }
        for row in self.tokens.iter().take(AT_ONCE) {
            let key = row.key().map_err(self.error())?;
            if self.date(&key)? > now.unix {
                break;
            }
            batch.remove(&self.tokens, key);
        }
        if batch.is_empty() {
            return Ok(());
        }
        batch.insert(&self.marks, FORGOTTEN_KNOCK, knock.0.to_be_bytes());
        batch.insert(&self.marks, FORGOTTEN_TOKEN, token.0.to_be_bytes());
        batch.commit().map_err(self.error())
    }

    pub(super) fn clear_leases(&self) -> Result<(), ReplayStoreError> {
        let mut batch = self.batch(0);
        for row in self.leases.iter() {
            batch.remove(&self.leases, row.key().map_err(self.error())?);
        }
        batch.commit().map_err(self.error())
    }

    /// The bytes are the kernel's when it commits.
    fn batch(&self, capacity: usize) -> WriteBatch {
        WriteBatch::with_capacity(self.database.clone(), capacity).durability(Some(PersistMode::Buffer))
    }

    fn mark(&self, name: &[u8]) -> Result<UnixTime, ReplayStoreError> {
        match self.marks.get(name).map_err(self.error())? {
            Some(value) => self.date(&value),
            None => Ok(UnixTime(0)),
        }
    }

    fn date(&self, key: &[u8]) -> Result<UnixTime, ReplayStoreError> {
        read_date(key).ok_or_else(|| self.damaged("a date"))
    }

    fn json<T: DeserializeOwned>(&self, text: &[u8]) -> Result<T, ReplayStoreError> {
        serde_json::from_slice(text).map_err(|error| ReplayStoreError::Damaged(self.path.clone(), error.to_string()))
    }

    fn text(&self, value: &impl serde::Serialize) -> Result<Vec<u8>, ReplayStoreError> {
        serde_json::to_vec(value).map_err(|error| ReplayStoreError::io(&self.path, error.into()))
    }

    fn token_key(&self, expires: UnixTime, id: &TokenId) -> Result<Vec<u8>, ReplayStoreError> {
        Ok([&expires.0.to_be_bytes()[..], digest(&self.text(id)?).as_ref()].concat())
    }

    fn lease_key(&self, id: &LeaseId) -> Result<Vec<u8>, ReplayStoreError> {
        Ok(digest(&self.text(id)?).as_ref().to_vec())
    }

    fn error(&self) -> impl Fn(fjall::Error) -> ReplayStoreError {
        |error| ReplayStoreError::engine(&self.path, error)
    }

    fn damaged(&self, what: &str) -> ReplayStoreError {
        ReplayStoreError::Damaged(self.path.clone(), format!("{what} has not its length"))
    }
}

fn nonce_key(used: &NonceUse) -> Vec<u8> {
    [&used.time.0.to_be_bytes()[..], &used.nonce].concat()
}

fn read_nonce(key: &[u8], value: &[u8]) -> Option<NonceUse> {
    let nonce = key.get(8..)?.try_into().ok()?;
    Some(NonceUse { nonce, time: read_date(key)?, group: u32::from_be_bytes(value.try_into().ok()?) })
}

fn read_date(key: &[u8]) -> Option<UnixTime> {
    key.first_chunk().map(|date| UnixTime(u64::from_be_bytes(*date)))
}

fn digest(text: &[u8]) -> aws_lc_rs::digest::Digest {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text)
}
