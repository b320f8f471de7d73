//! Small durable state: which number the data path knows a service by. The number belongs to the name, so that no
//! grant ever moves to another service because the file was reordered.

use std::{
    collections::BTreeMap,
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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    services: BTreeMap<String, ServiceId>,
}

/// Gives each of `names` its number: the old one, or the lowest that no name ever had. The file is written before
/// the numbers are used.
///
/// # Errors
/// A file that cannot be read, understood or written, or too many names.
pub fn service_ids(state: &Path, names: &[&str]) -> Result<BTreeMap<String, ServiceId>, StoreError> {
    let path = state.join("services.json");
    let held = match fs::read(&path) {
        Ok(bytes) => {
            serde_json::from_slice::<File>(&bytes)
                .map_err(|source| StoreError::Format { path: path.clone(), source })?
                .services
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(source) => return Err(StoreError::Io { path, source }),
    };
    let assigned = assign(held.clone(), names).ok_or_else(|| StoreError::TooMany(path.clone()))?;
    if assigned != held {
        let file = File { version: 1, services: assigned.clone() };
        let text =
            serde_json::to_vec_pretty(&file).map_err(|source| StoreError::Format { path: path.clone(), source })?;
        replace(&path, &text).map_err(|source| StoreError::Io { path, source })?;
    }
    Ok(assigned.into_iter().filter(|(name, _)| names.contains(&name.as_str())).collect())
}

fn assign(mut held: BTreeMap<String, ServiceId>, names: &[&str]) -> Option<BTreeMap<String, ServiceId>> {
    for name in names {
        if !held.contains_key(*name) {
            let unused = (1..MAX_SERVICES).find(|id| !held.values().any(|used| used == id))?;
            held.insert((*name).to_owned(), unused);
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
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
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
        let first = service_ids(dir.path(), &["b", "a"]).unwrap();
        assert_eq!((first["b"], first["a"]), (1, 2));
        let second = service_ids(dir.path(), &["new", "a"]).unwrap();
        assert_eq!((second["a"], second["new"]), (2, 3), "b keeps its number while it is away");
        assert_eq!(service_ids(dir.path(), &["b", "new", "a"]).unwrap()["b"], 1);
    }

    #[test]
    fn p2_no_number_is_given_to_a_second_name() {
        let held = (1..MAX_SERVICES).map(|id| (format!("s{id:03}"), id)).collect::<BTreeMap<_, _>>();
        assert_eq!(assign(held.clone(), &["s001"]), Some(held.clone()));
        assert_eq!(assign(held, &["new"]), None);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("services.json"), "{").unwrap();
        assert!(matches!(service_ids(dir.path(), &["a"]), Err(StoreError::Format { .. })));
        assert_eq!(fs::read_to_string(dir.path().join("services.json")).unwrap(), "{");
    }
}
