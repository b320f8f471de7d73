use std::{
    io,
    path::{Path, PathBuf},
};

/// A replay store that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReplayStoreError {
    /// Reading or writing failed.
    #[error("the replay store {}: {source}\n  remedy: make room on its file system, or correct its owner; knocks are refused until it can be written", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what was written.
    #[error("the replay store {} is damaged: {}\n  remedy: restore it, or delete `replay` and `replay.json` in the state directory; knocks and `once` tokens from before the next start are refused then", .0.display(), .1)]
    Damaged(PathBuf, String),
    /// Another version wrote it.
    #[error("the replay store {} is of version {}\n  remedy: run the version that wrote it, or delete `replay` and `replay.json` in the state directory; knocks and `once` tokens from before the next start are refused then", .0.display(), .1)]
    Version(PathBuf, String),
}

impl ReplayStoreError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the engine's list of what can be damaged is open")]
    pub(super) fn engine(path: &Path, error: fjall::Error) -> Self {
        match error {
            fjall::Error::Io(source) => Self::io(path, source),
            fjall::Error::InvalidVersion(version) => Self::Version(
                path.to_owned(),
                version.map_or_else(|| "unknown".to_owned(), |version| version.to_string()),
            ),
            fjall::Error::Locked => Self::io(path, io::Error::other("another process has it open")),
            fjall::Error::Poisoned => Self::io(path, io::Error::other("an earlier write failed")),
            error => match io_kind(&error) {
                Some(kind) => Self::io(path, io::Error::new(kind, error)),
                None => Self::Damaged(path.to_owned(), error.to_string()),
            },
        }
    }
}

/// What the system refused below the engine, where that has nothing to do with what was written.
fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            let kind = io.kind();
            return matches!(kind, PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull).then_some(kind);
        }
        next = error.source();
    }
    None
}
