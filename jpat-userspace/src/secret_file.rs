//! Secrets in files: 32 bytes as base64url text on one line, which nobody but the owner may read.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use nix::{fcntl::OFlag, unistd::Uid};
use zeroize::Zeroizing;

/// Bytes of a server key (X25519, RFC 7748), of a knock key and of a client key's private part.
pub const LENGTH: usize = 32;
/// Characters of its text.
const TEXT_LENGTH: usize = 43;

/// Wiped when it is dropped.
pub type Secret = Zeroizing<[u8; LENGTH]>;

/// Why a file does not give a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// Group or others have rights on it.
    #[error("others can read it (mode {0:04o})")]
    Exposed(u32),
    /// It belongs to somebody who is neither root nor this process's user.
    #[error("it belongs to user {0}, who could change it")]
    ForeignOwner(u32),
    /// It is not [`LENGTH`] bytes as base64url text.
    #[error("it does not hold {LENGTH} bytes as base64url text, which are {TEXT_LENGTH} characters")]
    Content,
}

impl SecretFileError {
    /// What is wrong with `path`, in one sentence.
    #[must_use]
    pub fn describe(&self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::Unreadable(error) => format!("cannot read {path}: {error}"),
            Self::Exposed(mode) => format!("others can read {path} (mode {mode:04o})"),
            Self::ForeignOwner(user) => format!("{path} belongs to user {user}, who could change it"),
            Self::Content => {
                format!("{path} does not hold {LENGTH} bytes as base64url text ({TEXT_LENGTH} characters)")
            }
        }
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self, path: &Path) -> String {
        match self {
            Self::Unreadable(_) => "correct the path (relative ones count from the configuration's directory) or the \
                file's owner; `jpatd keygen --out DIR` makes keys"
                .to_owned(),
            Self::Exposed(_) => format!("chmod 600 {}; in Kubernetes `defaultMode: 0400`", path.display()),
            Self::ForeignOwner(_) => format!("chown {} {}", Uid::effective(), path.display()),
            Self::Content => "make keys with `jpatd keygen --out DIR`".to_owned(),
        }
    }
}

/// Reads a secret. One line end behind it does not count.
///
/// # Errors
/// What is wrong with the file.
pub fn read(path: &Path) -> Result<Secret, SecretFileError> {
    // Room for a line end, and for one byte that is too many.
    let text = read_private(path, TEXT_LENGTH + 3)?;
    let line = text.strip_suffix(b"\n").map_or(&text[..], |line| line.strip_suffix(b"\r").unwrap_or(line));
    parse(line).ok_or(SecretFileError::Content)
}

/// Reads up to `most` bytes of a regular file that is root's or this user's, and that nobody else has rights on.
///
/// # Errors
/// All but [`SecretFileError::Content`].
pub fn read_private(path: &Path, most: usize) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let file = open(path).map_err(SecretFileError::Unreadable)?;
    let metadata = file.metadata().map_err(SecretFileError::Unreadable)?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretFileError::Exposed(mode));
    }
    if metadata.uid() != 0 && metadata.uid() != Uid::effective().as_raw() {
        return Err(SecretFileError::ForeignOwner(metadata.uid()));
    }
    // With all the room from the start, so that no copy stays behind in memory.
    let mut text = Zeroizing::new(Vec::with_capacity(most));
    file.take(most as u64).read_to_end(&mut text).map_err(SecretFileError::Unreadable)?;
    Ok(text)
}

/// A secret from its base64url text.
#[must_use]
pub fn parse(text: &[u8]) -> Option<Secret> {
    let mut secret = Secret::default();
    // The crate wants room for whole groups of four characters.
    let mut room = Zeroizing::new([0; LENGTH + 1]);
    let length = (text.len() == TEXT_LENGTH).then(|| URL_SAFE_NO_PAD.decode_slice(text, &mut room[..]).ok())??;
    secret.copy_from_slice(room.get(..length)?.get(..LENGTH)?);
    Some(secret)
}

/// The text of a secret, without a line end.
#[must_use]
pub fn text(secret: &[u8; LENGTH]) -> Zeroizing<String> {
    Zeroizing::new(URL_SAFE_NO_PAD.encode(secret))
}

/// Writes a new file of mode 0600.
///
/// # Errors
/// A file that is there is never written over.
pub fn create(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(contents)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// A pipe must not hold the program up.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn p6_a_secret_is_read_from_a_file_of_its_own_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, text(&[7; LENGTH]).as_bytes()).unwrap();
        assert_eq!(*read(&path).unwrap(), [7; LENGTH]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(create(&path, b"x").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read(&path).unwrap_err().describe(Path::new("k")), "others can read k (mode 0640)");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let good = text(&[7; LENGTH]).to_string();
        for (bad, ok) in [
            (good.clone(), true),
            (format!("{good}\n"), true),
            (format!("{good}\r\n"), true),
            (format!("{good}\n\n"), false),
            (format!("{good}="), false),
            (format!(" {good}"), false),
            (good[1..].to_owned(), false),
            (format!("{good}A"), false),
            (format!("{}B", &good[..42]), false),
            (format!("{good}\nmore"), false),
            (String::new(), false),
        ] {
            fs::write(&path, &bad).unwrap();
            assert_eq!(read(&path).is_ok(), ok, "{bad:?}");
        }
        assert!(matches!(read(dir.path()), Err(SecretFileError::Unreadable(_))));
    }
}
