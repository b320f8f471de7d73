//! One controller for each pin directory and each state directory.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

/// Why a directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("a controller is at work on {}\n  remedy: stop it first, or give this instance another `{key}`", path.display())]
    Held {
        /// The directory.
        path: PathBuf,
        /// The configuration key that names it.
        key: &'static str,
    },
    /// Somebody without the privilege asks.
    #[error("pin directory {}: not permitted to this user\n  remedy: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON and a `pins` directory of its own", .0.display())]
    Permission(PathBuf),
    /// The state directory cannot be opened or locked.
    #[error("state directory {}: {source}", path.display())]
    State {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The pin directory cannot be made or opened.
    #[error("pin directory {}: {source}\n  remedy: names on a BPF file system hold no dots; `ip netns exec` hides it, `nsenter --net=` does not", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Held for as long as it lives, and given back by the kernel however the process ends.
#[derive(Debug)]
pub struct Lock {
    directory: Flock<File>,
}

impl Lock {
    /// Locks the pin directory, which it makes where there is none.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn take(pins: &Path) -> Result<Self, LockError> {
        let failed = |source: io::Error| {
            if source.raw_os_error() == Some(nix::Error::EACCES as i32) {
                LockError::Permission(pins.to_owned())
            } else {
                LockError::Io { path: pins.to_owned(), source }
            }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(pins).map_err(failed)?;
        match lock(pins).map_err(failed)? {
            // A `detach` that held it may have removed the directory in between: what is locked then is nobody's.
            Some(lock) if inode(&lock.directory.metadata()) != inode(&fs::metadata(pins)) => Self::take(pins),
            Some(lock) => Ok(lock),
            None => Err(LockError::Held { path: pins.to_owned(), key: "pins" }),
        }
    }

    /// Locks the state directory, which exists.
    ///
    /// # Errors
    /// [`LockError::Held`], [`LockError::State`].
    pub fn take_state(state: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::State { path: state.to_owned(), source };
        lock(state).map_err(failed)?.ok_or_else(|| LockError::Held { path: state.to_owned(), key: "state" })
    }
}

/// `None` where somebody else has it.
fn lock(directory: &Path) -> io::Result<Option<Lock>> {
    match Flock::lock(File::open(directory)?, FlockArg::LockExclusiveNonblock) {
        Ok(directory) => Ok(Some(Lock { directory })),
        Err((_, nix::Error::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

fn inode(found: &io::Result<fs::Metadata>) -> Option<u64> {
    found.as_ref().ok().map(MetadataExt::ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p4_a_directory_has_one_holder_and_is_free_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::take_state(dir.path()).unwrap();
        let second = Lock::take_state(dir.path()).unwrap_err();
        assert!(matches!(second, LockError::Held { key: "state", .. }), "{second}");
        assert!(second.to_string().contains("another `state`"), "{second}");
        drop(held);
        Lock::take_state(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "a lock leaves nothing that could be stale");
    }

    #[test]
    fn p4_a_directory_that_was_removed_meanwhile_is_locked_anew() {
        let dir = tempfile::tempdir().unwrap();
        let pins = dir.path().join("pins");
        let old = Lock::take(&pins).unwrap();
        fs::remove_dir(&pins).unwrap();
        let new = Lock::take(&pins).unwrap();
        assert!(matches!(Lock::take(&pins), Err(LockError::Held { key: "pins", .. })));
        drop((old, new));
    }
}
