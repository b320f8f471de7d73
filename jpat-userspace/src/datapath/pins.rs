//! Pins: the names under which maps and links outlive a controller.
//!
//! `DIR/v<ABI>/<MAP>` and `DIR/v<ABI>/link-<ifindex>-<mode>`. A bpffs allows no dots in names, hence the index.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use aya::maps::MapInfo;
use jpat_common::{ABI_VERSION, map_name};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::{attach::Hook, error::DataPathError, tables};

/// The pin directory of one instance and ABI version.
#[derive(Clone, Debug)]
pub struct PinDir {
    instance: PathBuf,
    dir: PathBuf,
}

/// What a detach took away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Removed {
    /// Links, and so interfaces that are open now.
    pub links: usize,
    /// Maps, and so grants that are gone.
    pub maps: usize,
}

impl PinDir {
    /// Checks that the directory lies on a bpffs. Makes nothing yet.
    ///
    /// # Errors
    /// [`DataPathError::NoBpffs`]; [`DataPathError::MountRoot`].
    pub fn new(instance: &Path) -> Result<Self, DataPathError> {
        let existing = instance.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
        match statfs(existing) {
            Ok(found) if found.filesystem_type() == BPF_FS_MAGIC => {}
            Ok(_) => return Err(DataPathError::NoBpffs(instance.to_owned())),
            Err(error) => return Err(DataPathError::Pins { path: existing.to_owned(), source: error.into() }),
        }
        if is_mount_root(instance) {
            return Err(DataPathError::MountRoot(instance.to_owned()));
        }
        Ok(Self { instance: instance.to_owned(), dir: instance.join(format!("v{ABI_VERSION}")) })
    }

    /// Makes the directory, for its owner alone.
    ///
    /// # Errors
    /// [`DataPathError::Pins`].
    pub fn create(&self) -> Result<(), DataPathError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(|source| self.error(&self.dir, source))
    }

    /// Where the pins are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// Where a map is pinned.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where the link to an interface is pinned.
    #[must_use]
    pub fn link(&self, ifindex: u32, hook: Hook) -> PathBuf {
        self.dir.join(format!("link-{ifindex}-{}", hook.as_str()))
    }

    /// The pinned link to an interface, where there is one.
    #[must_use]
    pub fn find_link(&self, ifindex: u32) -> Option<(PathBuf, Hook)> {
        [Hook::Driver, Hook::Generic]
            .into_iter()
            .map(|hook| (self.link(ifindex, hook), hook))
            .find(|(path, _)| path.exists())
    }

    /// Whether an earlier controller left its maps.
    #[must_use]
    pub fn has_maps(&self) -> bool {
        map_name::PINNED.iter().any(|name| self.map(name).exists())
    }

    /// Whether an earlier controller left a link, so that its program is at work.
    #[must_use]
    pub fn has_links(&self) -> bool {
        self.links().is_ok_and(|links| !links.is_empty())
    }

    /// Compares each pinned map with the layout of this version, because the loader does not.
    ///
    /// # Errors
    /// [`DataPathError::Layout`], also for a map that is missing beside others.
    pub fn check_layout(&self) -> Result<(), DataPathError> {
        for name in map_name::PINNED {
            let path = self.map(name);
            let wanted = tables::layout(name);
            let found = MapInfo::from_pin(&path)
                .map(|info| {
                    let kind = info.map_type().map_or_else(|error| error.to_string(), |kind| format!("{kind:?}"));
                    format!("{kind}, key {}, value {}", info.key_size(), info.value_size())
                })
                .unwrap_or_else(|_| "missing".to_owned());
            if found != wanted {
                return Err(DataPathError::Layout { path, found, wanted });
            }
        }
        Ok(())
    }

    /// Entries that a pinned map can hold.
    ///
    /// # Errors
    /// [`DataPathError::Map`].
    pub fn capacity(&self, name: &'static str) -> Result<u32, DataPathError> {
        MapInfo::from_pin(self.map(name)).map(|info| info.max_entries()).map_err(DataPathError::map(name))
    }

    /// Removes the pinned links of the interfaces that `which` picks, and returns their indexes.
    ///
    /// # Errors
    /// [`DataPathError::Pins`].
    pub fn remove_links(&self, which: impl Fn(u32) -> bool) -> Result<Vec<u32>, DataPathError> {
        let mut removed = Vec::new();
        for (ifindex, path) in self.links()? {
            if which(ifindex) {
                fs::remove_file(&path).map_err(|source| self.error(&path, source))?;
                removed.push(ifindex);
            }
        }
        Ok(removed)
    }

    /// Whether an earlier controller died while it pinned for the first time: some maps, and nothing at work on them.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.has_maps() && !self.has_links() && !map_name::PINNED.iter().all(|name| self.map(name).exists())
    }

    /// Removes the pins of this instance, of every ABI version: links first, so that no program is left without its maps.
    /// Files that JPAT did not make stay.
    ///
    /// # Errors
    /// The first pin that could not be removed; the others were.
    pub fn clear(&self) -> Result<Removed, DataPathError> {
        let mut removed = Removed::default();
        let mut failed = None;
        let versions = entries(&self.instance).map_err(|source| self.error(&self.instance, source))?;
        let versions: Vec<_> = versions.into_iter().filter(|dir| is_version(dir)).collect();
        let mut pins: Vec<_> = versions.iter().flat_map(|dir| entries(dir).unwrap_or_default()).collect();
        pins.retain(|path| is_link(path) || is_map(path));
        pins.sort_by_key(|path| !is_link(path));
        for path in pins {
            match fs::remove_file(&path) {
                Ok(()) if is_link(&path) => removed.links += 1,
                Ok(()) => removed.maps += 1,
                Err(source) => failed = Some(self.error(&path, source)),
            }
        }
        for dir in &versions {
            if let Err(source) = fs::remove_dir(dir) {
                failed = failed.or_else(|| Some(self.error(dir, source)));
            }
        }
        failed.map_or(Ok(removed), Err)
    }

    /// As [`Self::clear`], and the directory itself as well.
    ///
    /// # Errors
    /// As [`Self::clear`].
    pub fn remove(&self) -> Result<Removed, DataPathError> {
        let removed = self.clear()?;
        match fs::remove_dir(&self.instance) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error(&self.instance, error)),
            Ok(()) | Err(_) => Ok(removed),
        }
    }

    fn links(&self) -> Result<Vec<(u32, PathBuf)>, DataPathError> {
        let pins = entries(&self.dir).map_err(|source| self.error(&self.dir, source))?;
        Ok(pins.into_iter().filter_map(|path| Some((link_index(&path)?, path))).collect())
    }

    fn error(&self, path: &Path, source: io::Error) -> DataPathError {
        DataPathError::Pins { path: path.to_owned(), source }
    }
}

/// Other programs have their pins there.
fn is_mount_root(dir: &Path) -> bool {
    let device = |dir: &Path| fs::metadata(dir).ok().map(|found| found.dev());
    dir.parent().is_none_or(|parent| dir.exists() && device(dir) != device(parent))
}

fn is_version(dir: &Path) -> bool {
    let digits = dir.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix('v'));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_map(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| map_name::PINNED.contains(&name))
}

fn is_link(path: &Path) -> bool {
    link_index(path).is_some()
}

fn link_index(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix("link-")?.split('-').next()?.parse().ok()
}

/// Paths in a directory, in order; none where it does not exist.
fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
