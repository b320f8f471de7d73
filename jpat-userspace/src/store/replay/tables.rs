//! The tables of the store. Keys begin with the date by which a row loses its meaning, so that forgetting reads no more than it
//! removes.

use std::{
    fs::{self, DirBuilder, Permissions},
    ops::RangeTo,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch as WriteBatch, PersistMode};

use super::{
    ClaimRecord, NONCE_RETENTION, Recovered, ReplayStoreError, TokenRecord,
    codec::{self, token_key},
};
use crate::clock::{Now, UnixTime};

/// Rows removed at a time.
const AT_ONCE: usize = 16_384;
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
    /// Those that were stored together: the latest of their dates and a nonce; all of them.
    nonces: Keyspace,
    /// The place of a token; its [`TokenRecord`].
    tokens: Keyspace,
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
            tokens: table("tokens")?,
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
            let row = row.value().map_err(self.error())?;
            recovered.nonces.extend(codec::read_nonces(&row).ok_or_else(|| self.damaged("a nonce"))?);
        }
        for row in self.tokens.iter() {
            let (key, row) = row.into_inner().map_err(self.error())?;
            let read = codec::read_token(&key, &row);
            let read = read.map_err(|error| ReplayStoreError::Damaged(self.path.clone(), error.to_string()));
            recovered.tokens.push(read?);
        }
        Ok(recovered)
    }

    pub(super) fn append<'r>(
        &self,
        records: impl IntoIterator<Item = &'r ClaimRecord>,
    ) -> Result<(), ReplayStoreError> {
        let (mut batch, mut nonces, mut forgotten) = (self.batch(8), Vec::new(), None);
        for record in records {
            match record {
                ClaimRecord::Nonce(used) => nonces.push(*used),
                ClaimRecord::Token(record) => {
                    if let Some(left) = record.left {
                        batch.remove(&self.tokens, token_key(left));
                    }
                    batch.insert(&self.tokens, token_key(record.place), self.row(record)?);
                }
                ClaimRecord::TokenOver(place) => batch.remove(&self.tokens, token_key(*place)),
                ClaimRecord::TokenForgotten(place) => {
                    batch.remove(&self.tokens, token_key(*place));
                    forgotten = forgotten.max(Some(place.expires));
                }
            }
        }
        if let Some(forgotten) = forgotten {
            let forgotten = forgotten.max(self.mark(FORGOTTEN_TOKEN)?);
            batch.insert(&self.marks, FORGOTTEN_TOKEN, forgotten.0.to_be_bytes());
        }
        if let Some((key, row)) = codec::nonces(&nonces) {
            batch.insert(&self.nonces, key, row);
        }
        batch.commit().map_err(self.error())
    }

    /// Leases that have ended go with their token.
    pub(super) fn forget(&self, now: Now) -> Result<(), ReplayStoreError> {
        let mut batch = self.batch(AT_ONCE);
        let (mut knock, mut token) = (self.mark(FORGOTTEN_KNOCK)?, self.mark(FORGOTTEN_TOKEN)?);
        let until = UnixTime(now.unix.0.saturating_sub(NONCE_RETENTION.as_nanos() as u64));
        for row in self.nonces.range(until_end_of(until)).take(AT_ONCE) {
            let key = row.key().map_err(self.error())?;
            knock = knock.max(self.date(&key)?);
            batch.remove(&self.nonces, key);
        }
        for row in self.tokens.range(until_end_of(now.unix)).take(AT_ONCE) {
            let key = row.key().map_err(self.error())?;
            token = token.max(self.date(&key)?);
            batch.remove(&self.tokens, key);
        }
        if batch.is_empty() {
            return Ok(());
        }
        batch.insert(&self.marks, FORGOTTEN_KNOCK, knock.0.to_be_bytes());
        batch.insert(&self.marks, FORGOTTEN_TOKEN, token.0.to_be_bytes());
        batch.commit().map_err(self.error())
    }

    /// Ends of leases are moments of a boot: those of an earlier one mean nothing.
    pub(super) fn clear_leases(&self, tokens: &mut Vec<TokenRecord>) -> Result<(), ReplayStoreError> {
        let mut batch = self.batch(0);
        for record in tokens.iter_mut().filter(|record| !record.leases.is_empty()) {
            record.leases.clear();
            record.token = None;
            match record.until_exp {
                true => batch.insert(&self.tokens, token_key(record.place), self.row(record)?),
                false => batch.remove(&self.tokens, token_key(record.place)),
            }
        }
        tokens.retain(|record| record.until_exp);
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
        codec::read_date(key).ok_or_else(|| self.damaged("a date"))
    }

    fn row(&self, record: &TokenRecord) -> Result<Vec<u8>, ReplayStoreError> {
        codec::token(record).map_err(|error| ReplayStoreError::io(&self.path, std::io::Error::other(error)))
    }

    fn error(&self) -> impl Fn(fjall::Error) -> ReplayStoreError {
        |error| ReplayStoreError::engine(&self.path, error)
    }

    fn damaged(&self, what: &str) -> ReplayStoreError {
        ReplayStoreError::Damaged(self.path.clone(), format!("{what} has not its length"))
    }
}

/// The keys that begin with this date, or an earlier one.
fn until_end_of(date: UnixTime) -> RangeTo<[u8; 8]> {
    ..date.0.saturating_add(1).to_be_bytes()
}
