//! Files of keys and secrets that a configuration names.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::Resolver;
use crate::secret_file;

impl Resolver {
    /// A file with 32 secret bytes, as `jpatd keygen` writes it.
    pub(super) fn key_file(&mut self, key: &str, path: &str) -> Option<PathBuf> {
        let path = self.path(key, path)?;
        match secret_file::read(&path) {
            Ok(_) => Some(path),
            Err(error) => {
                let remedy = error.remedy(&path);
                self.error(key, error.describe(&path), remedy);
                None
            }
        }
    }

    pub(super) fn readable(&mut self, key: &str, path: &Path) -> Option<PathBuf> {
        self.read(key, path).map(|(path, _)| path)
    }

    pub(super) fn secret(&mut self, key: &str, path: &Path) -> Option<PathBuf> {
        let (path, mut file) = self.read(key, path)?;
        let mode = match file.metadata() {
            Ok(metadata) => metadata.permissions().mode() & 0o7777,
            Err(error) => return self.unreadable(key, &path, &error),
        };
        if mode & 0o077 != 0 {
            let remedy = format!("chmod 600 {}; in Kubernetes `defaultMode: 0400`", path.display());
            self.error(key, format!("others can read {} (mode {mode:04o})", path.display()), remedy);
            return None;
        }
        let mut start = [0; 3];
        match file.read(&mut start) {
            Ok(read) if !matches!(&start[..read], b"" | b"\n" | b"\r\n") => Some(path),
            Ok(_) => {
                self.error(key, format!("{} is empty", path.display()), "write at least 32 random bytes into it");
                None
            }
            Err(error) => self.unreadable(key, &path, &error),
        }
    }

    fn read(&mut self, key: &str, path: &Path) -> Option<(PathBuf, fs::File)> {
        let path = self.path(key, &path.to_string_lossy())?;
        let opened = fs::metadata(&path).and_then(|metadata| match metadata.is_file() {
            true => fs::File::open(&path),
            false => Err(io::Error::other("not a regular file")),
        });
        match opened {
            Ok(file) => Some((path, file)),
            Err(error) => self.unreadable(key, &path, &error),
        }
    }

    fn unreadable<T>(&mut self, key: &str, path: &Path, error: &io::Error) -> Option<T> {
        let remedy = "correct the path (relative ones count from the configuration's directory) or the file's owner";
        self.error(key, format!("cannot read {}: {error}", path.display()), remedy);
        None
    }
}
