//! One controller for each pin directory.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};

/// Why the pins cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has them.
    #[error("a controller is at work on {}\n  remedy: stop it first, or give this instance another `pins`", .0.display())]
    Held(PathBuf),
    /// Somebody without the privilege asks.
    #[error("pin directory {}: not permitted to this user\n  remedy: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON and a `pins` directory of its own", .0.display())]
    Permission(PathBuf),
    /// The directory cannot be made or opened.
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
    _directory: Flock<File>,
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
        let directory = File::open(pins).map_err(failed)?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            // A `detach` that held it may have removed the directory in between: what is locked then is nobody's.
            Ok(directory) if inode(&directory.metadata()) != inode(&fs::metadata(pins)) => Self::take(pins),
            Ok(directory) => Ok(Self { _directory: directory }),
            Err((_, nix::Error::EWOULDBLOCK)) => Err(LockError::Held(pins.to_owned())),
            Err((_, error)) => Err(failed(error.into())),
        }
    }
}

fn inode(found: &io::Result<fs::Metadata>) -> Option<u64> {
    found.as_ref().ok().map(MetadataExt::ino)
}
