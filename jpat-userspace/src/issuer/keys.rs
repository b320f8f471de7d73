//! Private keys of the issuer: one PKCS#8 PEM file of mode 0600 each.
//!
//! A directory's keys stand in the order of their file names. All of them are published, the last one signs.
//! `kid` is the RFC 7638 SHA-256 thumbprint of the public key, so it needs no file of its own and never collides.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use jsonwebtoken::{
    EncodingKey,
    jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash},
};

use super::{Alg, IssuerError};

/// Most bytes of a key file that are read; an 8192-bit RSA key in PEM takes 6.4 KiB.
const MAX_FILE: u64 = 16 * 1024;
const PRIVATE_TAG: &str = "PRIVATE KEY";
const PUBLIC_TAG: &str = "PUBLIC KEY";

/// A key pair and its file.
#[derive(Clone, Debug)]
pub struct Key {
    kid: String,
    alg: Alg,
    path: PathBuf,
    signing: EncodingKey,
    public: Jwk,
    spki: Vec<u8>,
}

impl Key {
    /// RFC 7638 SHA-256 thumbprint.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What it signs with.
    #[must_use]
    pub const fn alg(&self) -> Alg {
        self.alg
    }

    /// The file of the private key.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The public half (RFC 7517) with `kid`, `alg` and `use`.
    #[must_use]
    pub const fn public(&self) -> &Jwk {
        &self.public
    }

    /// The public half as SubjectPublicKeyInfo (RFC 5280 §4.1) in PEM.
    #[must_use]
    pub fn public_pem(&self) -> String {
        encode_pem(PUBLIC_TAG, &self.spki)
    }

    pub(super) const fn signing(&self) -> &EncodingKey {
        &self.signing
    }

    fn parse(text: &[u8], path: &Path) -> Result<Self, IssuerError> {
        let not_a_key = || IssuerError::NotAKey(path.to_owned());
        let block = pem::parse(text).map_err(|_syntax| not_a_key())?;
        if block.tag() != PRIVATE_TAG {
            return Err(not_a_key());
        }
        let (alg, spki) = public_half(block.contents()).ok_or_else(not_a_key)?;
        let signing = match alg {
            Alg::Es256 => EncodingKey::from_ec_pem(text),
            Alg::EdDsa => EncodingKey::from_ed_pem(text),
            Alg::Rs256 => EncodingKey::from_rsa_pem(text),
        }
        .map_err(|_kind| not_a_key())?;
        let mut public = Jwk::from_encoding_key(&signing, alg.jwt()).map_err(|_kind| not_a_key())?;
        let kid = public
            .thumbprint(ThumbprintHash::SHA256)
            .map_err(|_kind| IssuerError::Crypto("compute the thumbprint of a key"))?;
        public.common.key_id = Some(kid.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { kid, alg, path: path.to_owned(), signing, public, spki })
    }
}

/// Makes a key, writes it to `dir` (created with mode 0700) as the newest one, and returns it.
///
/// # Errors
/// [`IssuerError::File`], [`IssuerError::Crypto`].
pub fn generate(dir: &Path, alg: Alg) -> Result<Key, IssuerError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| file_error("create this directory", dir, source))?;
    let text = encode_pem(PRIVATE_TAG, &private_key(alg)?);
    let key = Key::parse(text.as_bytes(), dir)?;
    let draft = dir.join(format!(".{}.tmp", key.kid));
    let mut number = 1 + names(dir)?.iter().filter_map(|name| number_of(name)).max().unwrap_or(0);
    loop {
        let path = dir.join(format!("{number:04}-{alg}.pem"));
        match write_new(&draft, &path, text.as_bytes()) {
            Ok(()) => return Ok(Key { path, ..key }),
            // Another `generate` was quicker.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(source) => return Err(file_error("write this key", &path, source)),
        }
    }
}

/// Reads every key of `dir`, oldest first. Never empty.
///
/// # Errors
/// Any key that cannot be used makes the whole directory unusable, so that a mistake is seen at once:
/// [`IssuerError::NoKeys`], [`IssuerError::Exposed`], [`IssuerError::NotAKey`], [`IssuerError::Twice`],
/// [`IssuerError::File`].
pub fn load(dir: &Path) -> Result<Vec<Key>, IssuerError> {
    let mut keys: Vec<Key> = Vec::new();
    for name in names(dir)? {
        let key = read(&dir.join(name))?;
        if keys.iter().any(|other| other.kid == key.kid) {
            return Err(IssuerError::Twice(key.path));
        }
        keys.push(key);
    }
    if keys.is_empty() { Err(IssuerError::NoKeys(dir.to_owned())) } else { Ok(keys) }
}

/// The key with this `kid`, or the newest one.
///
/// # Errors
/// As [`load`], and [`IssuerError::UnknownKid`].
pub fn choose(dir: &Path, kid: Option<&str>) -> Result<Key, IssuerError> {
    let mut keys = load(dir)?;
    match kid {
        None => keys.pop().ok_or_else(|| IssuerError::NoKeys(dir.to_owned())),
        Some(kid) => keys
            .into_iter()
            .find(|key| key.kid == kid)
            .ok_or_else(|| IssuerError::UnknownKid { dir: dir.to_owned(), kid: kid.to_owned() }),
    }
}

/// Deletes the key with this `kid`: tokens that it signed stop being accepted once verifiers have read the set again.
///
/// # Errors
/// As [`choose`].
pub fn remove(dir: &Path, kid: &str) -> Result<PathBuf, IssuerError> {
    let key = choose(dir, Some(kid))?;
    fs::remove_file(&key.path).map_err(|source| file_error("delete this key", &key.path, source))?;
    Ok(key.path)
}

/// The public halves as a JWK Set (RFC 7517 §5).
#[must_use]
pub fn jwks(keys: &[Key]) -> JwkSet {
    JwkSet { keys: keys.iter().map(|key| key.public.clone()).collect() }
}

/// Names of the key files, in order. Hidden files are left out: Kubernetes mounts secrets with some of its own.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, IssuerError> {
    let entries = fs::read_dir(dir).map_err(|source| file_error("read this directory", dir, source))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| file_error("read this directory", dir, source))?;
        if let Ok(name) = entry.file_name().into_string()
            && name.ends_with(".pem")
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn read(path: &Path) -> Result<Key, IssuerError> {
    let failed = |source| file_error("read this key", path, source);
    let file = fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(IssuerError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut text).map_err(failed)?;
    Key::parse(&text, path)
}

/// Writes beside and links into place: whoever reads the directory meanwhile sees the whole key or none.
fn write_new(draft: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)
        .and_then(|mut file| file.write_all(text).and_then(|()| file.sync_all()))
        .and_then(|()| fs::hard_link(draft, path));
    match fs::remove_file(draft) {
        Err(error) if written.is_ok() => Err(error),
        Ok(()) | Err(_) => written,
    }
}

fn number_of(name: &str) -> Option<u32> {
    name.split_once('-')?.0.parse().ok()
}

/// PKCS#8 (RFC 5958) version 1.
fn private_key(alg: Alg) -> Result<Vec<u8>, IssuerError> {
    let failed = |_unspecified| IssuerError::Crypto("generate a key");
    match alg {
        Alg::Es256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map(|document| document.as_ref().to_vec())
            .map_err(failed),
        Alg::EdDsa => Ed25519KeyPair::generate()
            .and_then(|pair| pair.to_pkcs8v1())
            .map(|document| document.as_ref().to_vec())
            .map_err(failed),
        Alg::Rs256 => RsaKeyPair::generate(KeySize::Rsa2048)
            .and_then(|pair| AsDer::<Pkcs8V1Der<'_>>::as_der(&pair))
            .map(|der| der.as_ref().to_vec())
            .map_err(failed),
    }
}

/// Kind and SubjectPublicKeyInfo of a PKCS#8 private key.
fn public_half(pkcs8: &[u8]) -> Option<(Alg, Vec<u8>)> {
    fn spki(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Option<Vec<u8>> {
        key.as_der().ok().map(|der| der.as_ref().to_vec())
    }
    if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8) {
        Some((Alg::Es256, spki(pair.public_key())?))
    } else if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8) {
        Some((Alg::EdDsa, spki(pair.public_key())?))
    } else {
        let pair = RsaKeyPair::from_pkcs8(pkcs8).ok()?;
        Some((Alg::Rs256, spki(pair.public_key())?))
    }
}

fn encode_pem(tag: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(tag, der), config)
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> IssuerError {
    IssuerError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_private_files_in_a_private_directory() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/issuer");
        for alg in Alg::ALL {
            let key = generate(&dir, alg).unwrap();
            assert_eq!(mode(key.path()), 0o600);
        }
        assert_eq!(mode(&dir), 0o700);
        let names: Vec<_> =
            fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(names.len(), 3, "drafts are gone: {names:?}");
        let keys = load(&dir).unwrap();
        assert_eq!(keys.iter().map(Key::alg).collect::<Vec<_>>(), Alg::ALL);
        assert!(!format!("{keys:?}").contains("PRIVATE"));
    }

    #[test]
    fn the_newest_signs_all_are_published_and_a_removed_one_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = generate(dir.path(), Alg::Es256).unwrap();
        let second = generate(dir.path(), Alg::EdDsa).unwrap();
        assert_eq!(choose(dir.path(), None).unwrap().kid(), second.kid());
        assert_eq!(choose(dir.path(), Some(first.kid())).unwrap().kid(), first.kid());
        let set = serde_json::to_value(jwks(&load(dir.path()).unwrap())).unwrap();
        assert_eq!(set["keys"][0]["kid"], first.kid());
        assert_eq!(set["keys"][1]["use"], "sig");
        for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert_eq!(set["keys"][0].get(private), None);
        }
        remove(dir.path(), first.kid()).unwrap();
        assert!(matches!(choose(dir.path(), Some(first.kid())), Err(IssuerError::UnknownKid { .. })));
        assert_eq!(load(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let key = generate(dir.path(), Alg::EdDsa).unwrap();
        fs::set_permissions(key.path(), fs::Permissions::from_mode(0o640)).unwrap();
        let error = load(dir.path()).unwrap_err();
        assert!(matches!(error, IssuerError::Exposed { mode: 0o640, .. }));
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn foreign_files_and_empty_directories_are_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(load(dir.path()), Err(IssuerError::NoKeys(_))));
        let stranger = dir.path().join("x.pem");
        write_new(
            &dir.path().join(".draft"),
            &stranger,
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        )
        .unwrap();
        assert!(matches!(load(dir.path()), Err(IssuerError::NotAKey(path)) if path == stranger));
        fs::remove_file(&stranger).unwrap();
        let key = generate(dir.path(), Alg::Es256).unwrap();
        fs::copy(key.path(), dir.path().join("copy.pem")).unwrap();
        assert!(matches!(load(dir.path()), Err(IssuerError::Twice(_))));
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0001-ES256.pem");
        fs::write(&path, "mine").unwrap();
        assert!(write_new(&dir.path().join(".draft"), &path, b"other").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert!(generate(dir.path(), Alg::Es256).unwrap().path().ends_with("0002-ES256.pem"));
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }
}
