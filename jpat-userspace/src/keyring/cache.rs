//! Last good key sets in files, so that an issuer that is down when the controller starts is not down for its users.
//!
//! One file `keys-NAME.json` of mode 0600 in the state directory, replaced whole. It is believed only for the issuer and
//! source that it was fetched for, and ages as the keys in memory do.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{Held, fetch::Fetched};
use crate::{
    clock::UnixTime,
    config::{Issuer, KeySource},
    store,
    token::keys::{KeySet, KeysError},
};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    issuer: String,
    /// The URL of the configuration; none with discovery.
    jwks_url: Option<String>,
    /// Seconds since 1970.
    fetched: u64,
    /// The JWK Set as it came.
    jwks: String,
}

/// Why a cached key set could not be written or used.
#[derive(thiserror::Error, Debug)]
pub enum CacheError {
    /// The file system refused.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what [`store()`] writes.
    #[error("{path}: not a cached key set of this version: {source}; delete it")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it fails.
        source: serde_json::Error,
    },
    /// Its keys cannot be used.
    #[error("{path}: {source}; delete it")]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: KeysError,
    },
    /// It comes from the future: then nobody knows how old it is.
    #[error("{path}: fetched in the future, at {fetched}: not used. Is the clock right?")]
    FromTheFuture {
        /// The file.
        path: PathBuf,
        /// When it says that it was fetched.
        fetched: UnixTime,
    },
}

/// Writes what was fetched for `issuer` at `now`.
///
/// # Errors
/// [`CacheError::File`]. The keys in memory are as good without it.
pub fn store(state: &Path, issuer: &Issuer, fetched: &Fetched, now: UnixTime) -> Result<(), CacheError> {
    let path = path(state, issuer);
    let file = File {
        version: VERSION,
        issuer: issuer.issuer.clone(),
        jwks_url: jwks_url(issuer),
        fetched: now.secs(),
        jwks: fetched.jwks.clone(),
    };
    let bytes = serde_json::to_vec(&file).map_err(io::Error::from);
    let written = bytes.and_then(|bytes| store::replace(&path, &bytes));
    written.map_err(|source| CacheError::File { action: "write", path, source })
}

/// Reads what was stored for `issuer`. None if there is nothing, if its keys come from a file, or if what is there was
/// fetched from elsewhere.
///
/// # Errors
/// [`CacheError`]; the issuer is then like one that was never reached.
pub fn load(state: &Path, issuer: &Issuer, now: UnixTime) -> Result<Option<Held>, CacheError> {
    if !super::refresh::is_remote(issuer) {
        return Ok(None);
    }
    let path = path(state, issuer);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CacheError::File { action: "read", path, source }),
    };
    let file: File = match serde_json::from_slice(&bytes) {
        Ok(file) => file,
        Err(source) => return Err(CacheError::Damaged { path, source }),
    };
    if file.version != VERSION || file.issuer != issuer.issuer || file.jwks_url != jwks_url(issuer) {
        return Ok(None);
    }
    let fetched = UnixTime::from_secs(file.fetched);
    if fetched > now {
        return Err(CacheError::FromTheFuture { path, fetched });
    }
    match KeySet::from_jwks(file.jwks.as_bytes(), &issuer.algorithms) {
        Ok((keys, _ignored)) => Ok(Some(Held { keys: Arc::new(keys), fetched })),
        Err(source) => Err(CacheError::Keys { path, source }),
    }
}

fn jwks_url(issuer: &Issuer) -> Option<String> {
    match &issuer.keys {
        KeySource::JwksUrl(url) => Some(url.clone()),
        KeySource::Discovery | KeySource::JwksFile(_) | KeySource::PemFile(_) | KeySource::SecretFile(_) => None,
    }
}

/// Bytes of the name that a path would not take as they are become `%XX`.
fn path(state: &Path, issuer: &Issuer) -> PathBuf {
    let mut name = String::from("keys-");
    for byte in issuer.name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    state.join(name + ".json")
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, time::Duration};

    use super::*;
    use crate::{
        issuer::{Alg, keys},
        keyring::{KeyRing, fetch::tests::issuer},
    };

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    #[test]
    fn p4_last_good_keys_serve_after_a_restart_until_they_are_stale() {
        let (dir, issuer, kid) = stored();
        let held = load(dir.path(), &issuer, NOW).unwrap().unwrap();
        assert_eq!(held.fetched, NOW);
        assert_eq!(held.keys.keys()[0].kid(), Some(&*kid));
        let ring = KeyRing::default().with(&issuer.name, held);
        let stale = NOW.after(issuer.max_stale);
        assert!(ring.usable(&issuer, stale).is_some());
        assert!(ring.usable(&issuer, stale.after(Duration::from_secs(1))).is_none());
        assert!(ring.without(&issuer.name).usable(&issuer, NOW).is_none());
    }

    #[test]
    fn the_file_is_private_and_nothing_else_is_left() {
        let (dir, ..) = stored();
        let mut entries = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
        let entry = entries.next().unwrap();
        assert_eq!(entry.file_name(), "keys-corp%2F...json");
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(entries.next().is_none());
    }

    #[test]
    fn p4_keys_of_another_source_or_time_are_not_believed() {
        let (dir, issuer, _) = stored();
        let other = Issuer { issuer: "https://other.example".into(), ..issuer.clone() };
        assert!(load(dir.path(), &other, NOW).unwrap().is_none());
        let moved = Issuer { keys: KeySource::JwksUrl("https://idp.example/keys".into()), ..issuer.clone() };
        assert!(load(dir.path(), &moved, NOW).unwrap().is_none());
        let early = UnixTime::from_secs(NOW.secs() - 1);
        assert!(matches!(load(dir.path(), &issuer, early), Err(CacheError::FromTheFuture { .. })));
    }

    #[test]
    fn damage_is_an_error_at_every_length() {
        let (dir, issuer, _) = stored();
        let path = path(dir.path(), &issuer);
        let whole = fs::read(&path).unwrap();
        for length in (0..whole.len()).step_by(7) {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(matches!(load(dir.path(), &issuer, NOW), Err(CacheError::Damaged { .. })), "{length}");
        }
        fs::remove_file(&path).unwrap();
        assert!(load(dir.path(), &issuer, NOW).unwrap().is_none());
    }

    fn stored() -> (tempfile::TempDir, Issuer, String) {
        let dir = tempfile::tempdir().unwrap();
        let state = tempfile::tempdir().unwrap();
        let key = keys::generate(dir.path(), Alg::Es256).unwrap();
        let issuer = Issuer { name: "corp/..".into(), ..issuer("https://idp.example", KeySource::Discovery) };
        let jwks = serde_json::to_string(&keys::jwks(std::slice::from_ref(&key))).unwrap();
        let (keys, ignored) = KeySet::from_jwks(jwks.as_bytes(), &issuer.algorithms).unwrap();
        fs::write(path(state.path(), &issuer).with_extension("new"), "left by a killed one").unwrap();
        let fetched = Fetched { keys, ignored, jwks, jwks_uri: "https://idp.example/jwks.json".into() };
        store(state.path(), &issuer, &fetched, NOW).unwrap();
        (state, issuer, key.kid().to_owned())
    }
}
