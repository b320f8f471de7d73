//! Reads keys that lie in files of this host: at start and on reload.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::{
    config::{Issuer, KeySource},
    token::keys::{Ignored, KeySet, KeysError, MAX_BYTES},
};

/// Why a file gave no keys.
#[derive(thiserror::Error, Debug)]
pub enum KeySourceError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read a shared secret, with which they could sign.
    #[error(
        "{path}: mode {mode:04o} lets others read this secret and sign with it: run `chmod 600 {path}`; in Kubernetes \
         `defaultMode: 0400`"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds no keys that can be used.
    #[error("{path}: {source}")]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: KeysError,
    },
}

/// Reads the keys of an issuer from its file, and which of them are not used; none if they come over the network.
///
/// # Errors
/// [`KeySourceError`]
pub fn read_static(issuer: &Issuer) -> Result<Option<(KeySet, Vec<Ignored>)>, KeySourceError> {
    let algorithms = &issuer.algorithms;
    let (path, keys) = match &issuer.keys {
        KeySource::Discovery | KeySource::JwksUrl(_) => return Ok(None),
        KeySource::JwksFile(path) => (path, KeySet::from_jwks(&read(path, Readers::Any)?, algorithms)),
        KeySource::PemFile(path) => (path, alone(KeySet::from_pem(&read(path, Readers::Any)?, algorithms))),
        KeySource::SecretFile(path) => (path, alone(KeySet::from_secret(&read(path, Readers::Owner)?, algorithms))),
    };
    keys.map(Some).map_err(|source| KeySourceError::Keys { path: path.clone(), source })
}

/// Who may read a file.
#[derive(PartialEq, Eq)]
enum Readers {
    Any,
    Owner,
}

fn read(path: &Path, readers: Readers) -> Result<Vec<u8>, KeySourceError> {
    let failed = |source| KeySourceError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if readers == Readers::Owner && mode & 0o077 != 0 {
        return Err(KeySourceError::Exposed { path: path.to_owned(), mode });
    }
    // One byte more than a source may have, so that the parser sees that it is too long.
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn alone(keys: Result<KeySet, KeysError>) -> Result<(KeySet, Vec<Ignored>), KeysError> {
    keys.map(|keys| (keys, Vec::new()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use jsonwebtoken::Algorithm;

    use super::*;
    use crate::{
        issuer::{Alg, keys},
        keyring::fetch::tests::issuer,
    };

    #[test]
    fn each_kind_of_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let key = keys::generate(&dir.path().join("keys"), Alg::Es256).unwrap();
        let (jwks, pem, secret) = (dir.path().join("jwks"), dir.path().join("pem"), dir.path().join("secret"));
        fs::write(&jwks, serde_json::to_vec(&keys::jwks(std::slice::from_ref(&key))).unwrap()).unwrap();
        fs::write(&pem, key.public_pem()).unwrap();
        fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        for (source, kid, algorithm) in [
            (KeySource::JwksFile(jwks), Some(key.kid()), Algorithm::ES256),
            (KeySource::PemFile(pem), None, Algorithm::ES256),
            (KeySource::SecretFile(secret), None, Algorithm::HS256),
        ] {
            let issuer = Issuer { algorithms: vec![algorithm], ..issuer("x", source) };
            let (keys, ignored) = read_static(&issuer).unwrap().unwrap();
            assert_eq!(keys.keys()[0].kid(), kid);
            assert_eq!(ignored, []);
        }
        assert!(read_static(&issuer("x", KeySource::Discovery)).unwrap().is_none());
    }

    #[test]
    fn p4_what_cannot_be_used_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let secret = Issuer { algorithms: vec![Algorithm::HS256], ..issuer("x", KeySource::SecretFile(path.clone())) };
        let message = |issuer: &Issuer| read_static(issuer).unwrap_err().to_string();
        assert!(message(&secret).starts_with(&format!("cannot read {}", path.display())));
        fs::write(&path, [b'x'; 32]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        assert!(message(&secret).contains("chmod 600"), "{}", message(&secret));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(read_static(&secret).is_ok());
        for source in [KeySource::JwksFile(path.clone()), KeySource::PemFile(path.clone())] {
            let error = read_static(&issuer("x", source)).unwrap_err();
            assert!(matches!(&error, KeySourceError::Keys { path: at, .. } if *at == path), "{error}");
        }
    }
}
