//! What must not be forgotten of knocks when a controller dies: nonces, uses of tokens, and whose the grants are.
//!
//! [`ReplayStore::append`] returns when the kernel has the bytes, without fsync: they survive any end of this process. A
//! crash of the host may lose the latest; the boot id tells, and then nothing dated before that boot is accepted
//! ([`Recovered::origin`]).
//!
//! The engine is `fjall`: an append to its journal is one write system call. What it cannot read is an error, never an
//! empty memory, unless the host crashed in between: then it is set aside, and nothing dated before this start is
//! accepted ([`Recovered::floor`]).

mod codec;
mod error;
mod record;
mod tables;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use self::tables::Tables;
pub use self::{
    error::ReplayStoreError,
    record::{ClaimRecord, NonceUse, StoredLease, TokenPlace, TokenRecord},
};
use crate::clock::{BootTime, Now, UnixTime};

/// How long after its date a nonce is remembered: as long as the filter lets a knock of that date in, and a margin for a
/// filter that has not heard of a clock step yet.
pub const NONCE_RETENTION: Duration = Duration::from_millis(jpat_common::sealed::FILTER_WINDOW_MS + 10_000);

/// File beside the store that is there as long as every append succeeded. Taking it away needs no room on a full disk.
const COMPLETE: &str = "replay.complete";

/// After a failure nothing is tried for so long: opening the tables anew takes milliseconds, and knocks come fast.
const RETRY: Duration = Duration::from_secs(1);

/// Layout of the records.
const VERSION: u32 = 3;

/// The replay store in `STATE/replay` and `STATE/replay.json`. One process has it open; the lock on the state directory
/// sees to that.
#[derive(Debug)]
pub struct ReplayStore {
    path: PathBuf,
    complete: PathBuf,
    /// Nothing after a failure: the engine takes no more writes then, and is opened anew for the next.
    tables: Option<Tables>,
    /// Set where it could not even be opened at the start.
    unopened: Option<Unopened>,
    retry: BootTime,
    compacted: BootTime,
}

/// What it takes to open a store later, as of the start.
#[derive(Debug)]
struct Unopened {
    state: PathBuf,
    boot_id: String,
    may_be_first: bool,
    start: Now,
}

/// What a store knew at the start.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Recovered {
    /// Knocks and `once` tokens dated before are refused, by the wall clock as it was read when the store began.
    pub floor: UnixTime,
    /// They are refused if dated before this moment of this boot, as the clocks stand when they come. Zero, the boot,
    /// when the store is of an earlier one.
    pub origin: BootTime,
    /// Whether no controller ran on this state before `origin`. Where one did, a sender's clock that is ahead may have dated
    /// after it what was taken before.
    pub is_first: bool,
    /// Latest date of a nonce that was forgotten.
    pub forgotten_knock: UnixTime,
    /// Latest `exp` of a token whose use was forgotten.
    pub forgotten_token: UnixTime,
    /// Nonces.
    pub nonces: Vec<NonceUse>,
    /// Uses of tokens, with their leases of this boot.
    pub tokens: Vec<TokenRecord>,
    /// What to tell whoever runs this host.
    pub note: Option<String>,
}

impl Recovered {
    /// Nothing happened before `now`.
    #[must_use]
    pub fn first(now: Now) -> Self {
        Self { is_first: true, ..Self::nothing(now) }
    }

    /// Nothing is known of what happened before `now`: nothing dated before `now` is accepted.
    #[must_use]
    pub fn nothing(now: Now) -> Self {
        Self { floor: now.unix, origin: now.boot, ..Self::default() }
    }
}

/// `STATE/replay.json`, written before the tables are made, with fsync.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    boot_id: String,
    floor: UnixTime,
    origin: BootTime,
    is_first: bool,
}

impl ReplayStore {
    /// Opens the store of a state directory, or makes one. `boot_id` is the kernel's, different for every boot. Where nothing is
    /// pinned (`may_be_first`), a directory without `services.json` has seen no controller yet, so that this comes before
    /// [`super::Services::open`].
    ///
    /// # Errors
    /// A store that cannot be read or written, is damaged, or of another version.
    pub fn open(
        state: &Path,
        boot_id: &str,
        may_be_first: bool,
        now: Now,
    ) -> Result<(Self, Recovered), ReplayStoreError> {
        let path = state.join("replay");
        let header_path = state.join("replay.json");
        let complete = state.join(COMPLETE);
        let header = read_header(&header_path)?;
        let has_tables = path.try_exists().map_err(|source| ReplayStoreError::io(&path, source))?;
        let fresh = |note: Option<String>| {
            let is_first = note.is_none() && may_be_first && Self::is_first(state);
            let recovered = Recovered { note, is_first, ..Recovered::nothing(now) };
            write_header(&header_path, boot_id, &recovered)?;
            let tables = Tables::create(&path).inspect_err(|_| {
                // Half a store is of no use, and takes up the room that others need.
                let _left_over = fs::remove_dir_all(&path);
            })?;
            write_complete(&complete);
            Ok((Self::of(&path, &complete, tables), recovered))
        };
        let Some(header) = header else {
            return if has_tables {
                Err(ReplayStoreError::Damaged(path, "replay.json is missing".to_owned()))
            } else {
                fresh(None)
            };
        };
        if !has_tables {
            return fresh(Some(format!("{} is gone: knocks from before this start are refused", path.display())));
        }
        let has_crashed = header.boot_id != boot_id;
        let opened = Tables::open(&path).and_then(|tables| tables.recover().map(|recovered| (tables, recovered)));
        let (tables, mut recovered) = match opened {
            Ok(opened) => opened,
            // A crash of the host, or a disk that was full when the store was made, may leave anything behind, and makes
            // what it held worthless.
            Err(ReplayStoreError::Damaged(_, why)) if has_crashed || !complete.try_exists().unwrap_or(true) => {
                let aside = set_aside(&path)?;
                let what = "a crash of the host, or a full disk, left the replay store damaged";
                return fresh(Some(format!(
                    "{what} ({why}): it is {} now, and knocks from before this start are refused",
                    aside.display()
                )));
            }
            Err(error) => return Err(error),
        };
        recovered.floor = header.floor;
        recovered.origin = header.origin;
        recovered.is_first = header.is_first;
        let is_complete = complete.try_exists().unwrap_or(false);
        if has_crashed || !is_complete {
            // Before the header says that this was done. What was revoked may not have been told.
            tables.clear_leases(&mut recovered.tokens)?;
        }
        if !is_complete {
            // A knock that was refused for that may have been answered, and its nonce is in no record.
            (recovered.floor, recovered.origin) = (recovered.floor.max(now.unix), now.boot);
            recovered.is_first = false;
            let what = "the replay store could not be written before this start";
            recovered.note = Some(format!("{what}: knocks and `once` tokens from before it are refused"));
            write_header(&header_path, boot_id, &recovered)?;
            write_complete(&complete);
        } else if has_crashed {
            (recovered.origin, recovered.is_first) = (BootTime(0), false);
            write_header(&header_path, boot_id, &recovered)?;
        }
        Ok((Self::of(&path, &complete, tables), recovered))
    }

    /// A store that can be neither read nor written for now: no knock is taken until it can, and none dated before `start`
    /// after that, because nothing is known of them.
    #[must_use]
    pub fn unopened(state: &Path, boot_id: &str, may_be_first: bool, start: Now) -> (Self, Recovered) {
        let unopened = Unopened { state: state.to_owned(), boot_id: boot_id.to_owned(), may_be_first, start };
        let complete = state.join(COMPLETE);
        // What this start does not know the next may not take for all there is.
        let _gone = fs::remove_file(&complete);
        let store = Self {
            path: state.join("replay"),
            complete,
            tables: None,
            unopened: Some(unopened),
            retry: BootTime(0),
            compacted: BootTime(0),
        };
        (store, Recovered { is_first: may_be_first && Self::is_first(state), ..Recovered::nothing(start) })
    }

    /// Whether no controller has run on a state directory.
    fn is_first(state: &Path) -> bool {
        !state.join("services.json").try_exists().unwrap_or(true)
    }

    fn of(path: &Path, complete: &Path, tables: Tables) -> Self {
        Self {
            path: path.to_owned(),
            complete: complete.to_owned(),
            tables: Some(tables),
            unopened: None,
            retry: BootTime(0),
            compacted: BootTime(0),
        }
    }

    /// Adds what must be known before anything is opened. All of it is kept, or none.
    ///
    /// # Errors
    /// What keeps it from being kept: a full disk, say. For a second nothing is tried again.
    pub fn append<'r>(
        &mut self,
        records: impl IntoIterator<Item = &'r ClaimRecord>,
        now: Now,
    ) -> Result<(), ReplayStoreError> {
        self.with(now, |tables| tables.append(records)).inspect_err(|_| {
            // If even that fails, the file system is read-only, and what it holds is complete.
            let _gone = fs::remove_file(&self.complete);
        })
    }

    /// Removes what has lost its meaning at `now`: at most once a second, and some thousands at a time. Call it often.
    ///
    /// # Errors
    /// As [`Self::append`]. Nothing is lost by it.
    pub fn compact(&mut self, now: Now) -> Result<(), ReplayStoreError> {
        if now.boot < self.compacted.after(RETRY) && self.compacted != BootTime(0) {
            return Ok(());
        }
        self.compacted = now.boot;
        self.with(now, |tables| tables.forget(now))
    }

    fn with(
        &mut self,
        now: Now,
        work: impl FnOnce(&Tables) -> Result<(), ReplayStoreError>,
    ) -> Result<(), ReplayStoreError> {
        let tables = match self.tables.take() {
            Some(tables) => tables,
            None if now.boot < self.retry => {
                return Err(ReplayStoreError::io(&self.path, io::Error::other("an earlier write failed")));
            }
            None => {
                self.retry = now.boot.after(RETRY);
                self.open_tables()?
            }
        };
        self.retry = now.boot.after(RETRY);
        work(&tables)?;
        self.tables = Some(tables);
        Ok(())
    }
}

impl ReplayStore {
    fn open_tables(&mut self) -> Result<Tables, ReplayStoreError> {
        let Some(Unopened { state, boot_id, may_be_first, start }) = &self.unopened else {
            return Tables::open(&self.path);
        };
        let (opened, _known) = Self::open(state, boot_id, *may_be_first, *start)?;
        let tables = opened.tables.ok_or_else(|| ReplayStoreError::io(&self.path, io::ErrorKind::NotFound.into()))?;
        self.unopened = None;
        Ok(tables)
    }
}

/// Without it the next start accepts nothing from before itself, so that its absence is safe.
fn write_complete(path: &Path) {
    if let Err(error) = fs::write(path, []) {
        tracing::warn!("{}: {error}; after the next start, knocks from before it are refused", path.display());
    }
}

fn read_header(path: &Path) -> Result<Option<Header>, ReplayStoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ReplayStoreError::io(path, source)),
    };
    let damaged = |error: serde_json::Error| ReplayStoreError::Damaged(path.to_owned(), error.to_string());
    let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(damaged)?;
    match json.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => serde_json::from_value(json).map(Some).map_err(damaged),
        Some(version) => Err(ReplayStoreError::Version(path.to_owned(), version.to_string())),
        None => Err(ReplayStoreError::Damaged(path.to_owned(), "it names no version".to_owned())),
    }
}

fn write_header(path: &Path, boot_id: &str, recovered: &Recovered) -> Result<(), ReplayStoreError> {
    let Recovered { floor, origin, is_first, .. } = *recovered;
    let header = Header { version: VERSION, boot_id: boot_id.to_owned(), floor, origin, is_first };
    let text = serde_json::to_vec_pretty(&header).map_err(|error| ReplayStoreError::io(path, error.into()))?;
    super::replace(path, &text).map_err(|source| ReplayStoreError::io(path, source))
}

/// Keeps the latest damaged store for whoever wants to look.
fn set_aside(path: &Path) -> Result<PathBuf, ReplayStoreError> {
    let aside = path.with_extension("damaged");
    match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(ReplayStoreError::io(&aside, error)),
        Ok(()) | Err(_) => {}
    }
    fs::rename(path, &aside).map_err(|source| ReplayStoreError::io(path, source))?;
    Ok(aside)
}
