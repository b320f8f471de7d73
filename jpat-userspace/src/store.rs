//! Small durable state: which number the data path knows a service by. The number belongs to the name, so that no
//! grant ever moves to another service because the file was reordered. What must not be forgotten of knocks: [`replay`].

pub mod replay;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use jpat_common::grant::{MAX_SERVICES, ServiceId};
use serde::{Deserialize, Serialize};

/// A state file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what this version writes.
    #[error("{}: {source}\n  remedy: restore it, or run `jpatd detach` and delete it", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// More names than the data path has numbers for. A number is never given to a second name: a pinned grant
    /// would open the wrong service.
    #[error("{}: all {} service numbers belong to names already\n  remedy: run `jpatd detach`, delete the file, start again", .0.display(), MAX_SERVICES - 1)]
    TooMany(PathBuf),
}

/// What is known of every service that ever was.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    services: BTreeMap<String, Entry>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: ServiceId,
    /// Digest of what the service allowed when its grants were last brought into line with it.
    rules: Option<String>,
}

/// The service numbers in `STATE/services.json`.
#[derive(Clone, Debug)]
pub struct Services {
    path: PathBuf,
    file: File,
}

impl Services {
    /// Reads the file, and gives each of `names` its number: the old one, or the lowest that no name ever had. The
    /// file is written before the numbers are used.
    ///
    /// # Errors
    /// A file that cannot be read, understood or written, or too many names.
    pub fn open(state: &Path, names: &[&str]) -> Result<Self, StoreError> {
        let path = state.join("services.json");
        let held = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| StoreError::Format { path: path.clone(), source })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => File { version: 1, ..File::default() },
            Err(source) => return Err(StoreError::Io { path, source }),
        };
        let Some(services) = assign(held.services.clone(), names) else { return Err(StoreError::TooMany(path)) };
        let known = services == held.services;
        let store = Self { path, file: File { version: held.version, services } };
        if !known {
            store.write()?;
        }
        Ok(store)
    }

    /// Numbers of `names`.
    #[must_use]
    pub fn ids(&self, names: &[&str]) -> BTreeMap<String, ServiceId> {
        let named = names.iter().filter_map(|name| Some(((*name).to_owned(), self.file.services.get(*name)?.id)));
        named.collect()
    }

    /// Whether the grants that exist were made under these rules (a digest).
    #[must_use]
    pub fn is_unchanged(&self, name: &str, rules: &str) -> bool {
        self.file.services.get(name).is_some_and(|entry| entry.rules.as_deref() == Some(rules))
    }

    /// The digest of each service whose grants may be adopted: what [`Self::settle`] takes to undo [`Self::unsettle`].
    #[must_use]
    pub fn settled(&self) -> BTreeMap<String, String> {
        let settled = |(name, entry): (&String, &Entry)| Some((name.clone(), entry.rules.clone()?));
        self.file.services.iter().filter_map(settled).collect()
    }

    /// Forgets the rules of services that are about to change: from here on their grants are not adopted.
    ///
    /// # Errors
    /// A file that cannot be written; nothing is forgotten then.
    pub fn unsettle(&mut self, names: &BTreeSet<String>) -> Result<(), StoreError> {
        let before = self.file.clone();
        for (_, entry) in self.file.services.iter_mut().filter(|(name, _)| names.contains(*name)) {
            entry.rules = None;
        }
        self.write_unless(before)
    }

    /// Notes the rules that are in force now, after the grants of others have gone. Services that are not among them
    /// have no grants.
    ///
    /// # Errors
    /// A file that cannot be written; nothing is noted then.
    pub fn settle(&mut self, mut rules: BTreeMap<String, String>) -> Result<(), StoreError> {
        let before = self.file.clone();
        for (name, entry) in &mut self.file.services {
            entry.rules = rules.remove(name);
        }
        self.write_unless(before)
    }

    /// Writes what differs from `before`, or goes back to that.
    fn write_unless(&mut self, before: File) -> Result<(), StoreError> {
        if self.file == before {
            return Ok(());
        }
        self.write().inspect_err(|_| self.file = before)
    }

    fn write(&self) -> Result<(), StoreError> {
        let path = || self.path.clone();
        let text =
            serde_json::to_vec_pretty(&self.file).map_err(|source| StoreError::Format { path: path(), source })?;
        replace(&self.path, &text).map_err(|source| StoreError::Io { path: path(), source })
    }
}

fn assign(mut held: BTreeMap<String, Entry>, names: &[&str]) -> Option<BTreeMap<String, Entry>> {
    for name in names {
        if !held.contains_key(*name) {
            let id = (1..MAX_SERVICES).find(|id| !held.values().any(|entry| entry.id == *id))?;
            held.insert((*name).to_owned(), Entry { id, rules: None });
        }
    }
    Some(held)
}

/// Replaces a file by rename, so that a crash leaves the old or the new one; for its owner alone.
///
/// # Errors
/// What the system said.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    // What a killed controller left behind; `create_new` follows no link and takes over no mode.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p2_a_number_belongs_to_its_name_through_reorder_removal_and_return() {
        let dir = tempfile::tempdir().unwrap();
        let ids = |names: &[&str]| Services::open(dir.path(), names).unwrap().ids(names);
        assert_eq!(ids(&["b", "a"]), [("b".to_owned(), 1), ("a".to_owned(), 2)].into());
        assert_eq!(ids(&["new", "a"]), [("new".to_owned(), 3), ("a".to_owned(), 2)].into(), "b keeps its number");
        assert_eq!(ids(&["b", "new", "a"])["b"], 1);
    }

    #[test]
    fn p2_no_number_is_given_to_a_second_name() {
        let entry = |id| Entry { id, rules: None };
        let held: BTreeMap<_, _> = (1..MAX_SERVICES).map(|id| (format!("s{id:03}"), entry(id))).collect();
        assert_eq!(assign(held.clone(), &["s001"]), Some(held.clone()));
        assert_eq!(assign(held, &["new"]), None);
    }

    #[test]
    fn p2_rules_count_as_unchanged_only_once_they_are_settled() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Services::open(dir.path(), &["a"]).unwrap();
        assert!(!open().is_unchanged("a", "x"));
        open().settle([("a".to_owned(), "x".to_owned())].into()).unwrap();
        assert!(open().is_unchanged("a", "x"));
        assert!(!open().is_unchanged("a", "y"));
        open().settle(BTreeMap::new()).unwrap();
        assert!(!open().is_unchanged("a", "x"), "a was away: nothing is known of its grants");
    }

    #[test]
    fn p4_rules_that_were_forgotten_for_a_change_that_failed_are_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Services::open(dir.path(), &["a", "b"]).unwrap();
        open().settle([("a".to_owned(), "x".to_owned()), ("b".to_owned(), "y".to_owned())].into()).unwrap();
        let mut services = open();
        let before = services.settled();
        services.unsettle(&["a".to_owned()].into()).unwrap();
        assert!(!open().is_unchanged("a", "x") && open().is_unchanged("b", "y"));
        services.settle(before).unwrap();
        assert!(open().is_unchanged("a", "x") && open().is_unchanged("b", "y"));
        fs::create_dir(dir.path().join("services.new")).unwrap();
        services.unsettle(&["a".to_owned()].into()).unwrap_err();
        assert!(services.is_unchanged("a", "x") && open().is_unchanged("a", "x"), "nothing is forgotten");
    }

    #[test]
    fn a_damaged_file_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("services.json"), "{").unwrap();
        assert!(matches!(Services::open(dir.path(), &["a"]), Err(StoreError::Format { .. })));
        assert_eq!(fs::read_to_string(dir.path().join("services.json")).unwrap(), "{");
    }
}
