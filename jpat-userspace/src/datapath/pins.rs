//! Pins: the names under which maps and links outlive a controller.
//!
//! `DIR/abi<N>/<MAP>` and `DIR/abi<N>/link-<ifindex>-<mode>`, where N is [`ABI_VERSION`]. A bpffs allows no dots in names,
//! hence the index. Layout 1 was called `v1`: its controllers clear every `v<N>` when a start fails, also those of others.

mod names;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use aya::maps::MapInfo;
use jpat_common::{ABI_VERSION, map_name};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use self::names::{entries, is_link, is_map, link_name, links_in, version_number};
use super::{
    attach::Hook,
    error::{self, DataPathError},
    tables,
};

/// The pin directory of one instance and ABI version.
#[derive(Clone, Debug)]
pub struct PinDir {
    instance: PathBuf,
    dir: PathBuf,
    /// Where an older layout has links that are not taken over yet.
    older: Option<PathBuf>,
}

/// A directory that controllers of one layout pin in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Version {
    pub(super) number: u32,
    pub(super) dir: PathBuf,
    /// Whether their program is at work.
    pub(super) has_links: bool,
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
        Ok(Self { instance: instance.to_owned(), dir: instance.join(format!("abi{ABI_VERSION}")), older: None })
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
        self.dir.join(link_name(ifindex, hook))
    }

    /// The pinned link to an interface, where there is one; one that is still to be taken over counts.
    #[must_use]
    pub fn find_link(&self, ifindex: u32) -> Option<(PathBuf, Hook)> {
        [Hook::Driver, Hook::Generic]
            .into_iter()
            .flat_map(|hook| {
                let name = link_name(ifindex, hook);
                let older = self.older.iter().map(|dir| dir.join(&name)).collect::<Vec<_>>();
                std::iter::once(self.dir.join(name)).chain(older).map(move |path| (path, hook))
            })
            .find(|(path, _)| path.exists())
    }

    /// Whether an earlier controller left its maps.
    #[must_use]
    pub fn has_maps(&self) -> bool {
        map_name::PINNED.iter().any(|name| self.map(name).exists())
    }

    /// Whether no controller of any layout left anything here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.versions().is_ok_and(|versions| versions.is_empty())
    }

    /// Whether an earlier controller left a link, so that its program is at work.
    #[must_use]
    pub fn has_links(&self) -> bool {
        self.links().is_ok_and(|links| !links.is_empty())
    }

    /// Compares each pinned map with the layout of this version, because the loader does not.
    ///
    /// # Errors
    /// [`DataPathError::Layout`], also for a map that is missing beside others, and for one too many.
    pub fn check_layout(&self) -> Result<(), DataPathError> {
        let wanted: Vec<_> = map_name::PINNED.iter().map(|name| (*name, tables::layout(name))).collect();
        check_layout(&self.dir, &wanted)
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

    /// The layouts that have pins here, oldest first.
    pub(super) fn versions(&self) -> Result<Vec<Version>, DataPathError> {
        let dirs = entries(&self.instance).map_err(|source| self.error(&self.instance, source))?;
        let mut versions = Vec::new();
        for (number, dir) in dirs.into_iter().filter_map(|dir| Some((version_number(&dir)?, dir))) {
            let has_links = !links_in(&dir).map_err(|source| self.error(&dir, source))?.is_empty();
            versions.push(Version { number, dir, has_links });
        }
        versions.sort_by_key(|version| version.number);
        Ok(versions)
    }

    /// Whether it is this layout's directory.
    pub(super) fn is_own(&self, dir: &Path) -> bool {
        self.dir == dir
    }

    /// Names the directory whose links [`Self::take_over`] moves.
    pub(super) fn set_older(&mut self, dir: Option<PathBuf>) {
        self.older = dir;
    }

    /// Moves every pinned link of the older layout here, each in one step.
    ///
    /// # Errors
    /// [`DataPathError::Pins`]; what was moved stays moved.
    pub(super) fn take_over(&mut self) -> Result<(), DataPathError> {
        let Some(older) = self.older.take() else { return Ok(()) };
        for (_, path) in links_in(&older).map_err(|source| self.error(&older, source))? {
            let name = path.file_name().unwrap_or_default();
            fs::rename(&path, self.dir.join(name)).map_err(|source| self.error(&path, source))?;
        }
        Ok(())
    }

    /// Removes the pins of older layouts that nothing is at work on.
    ///
    /// # Errors
    /// A pin that cannot be removed.
    pub(super) fn remove_older(&self) -> Result<(), DataPathError> {
        for version in self.versions()?.iter().filter(|version| version.number < ABI_VERSION && !version.has_links) {
            self.remove_pins(std::slice::from_ref(&version.dir))?;
        }
        Ok(())
    }

    /// Removes the pins of this layout alone.
    ///
    /// # Errors
    /// As [`Self::clear`].
    pub(super) fn discard(&self) -> Result<Removed, DataPathError> {
        if self.dir.exists() { self.remove_pins(std::slice::from_ref(&self.dir)) } else { Ok(Removed::default()) }
    }

    /// Removes the pins of this instance, of every ABI version: links first, so that no program is left without its maps.
    /// Files that JPAT did not make stay.
    ///
    /// # Errors
    /// The first pin that could not be removed; the others were.
    pub fn clear(&self) -> Result<Removed, DataPathError> {
        let dirs: Vec<_> = self.versions()?.into_iter().map(|version| version.dir).collect();
        self.remove_pins(&dirs)
    }

    fn remove_pins(&self, dirs: &[PathBuf]) -> Result<Removed, DataPathError> {
        let mut removed = Removed::default();
        let mut failed = None;
        let mut pins: Vec<_> = dirs.iter().flat_map(|dir| entries(dir).unwrap_or_default()).collect();
        pins.retain(|path| is_link(path) || is_map(path));
        pins.sort_by_key(|path| !is_link(path));
        for path in pins {
            match fs::remove_file(&path) {
                Ok(()) if is_link(&path) => removed.links += 1,
                Ok(()) => removed.maps += 1,
                Err(source) => failed = Some(self.error(&path, source)),
            }
        }
        for dir in dirs {
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
        links_in(&self.dir).map_err(|source| self.error(&self.dir, source))
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

/// Compares the maps in a directory with what they must look like.
///
/// # Errors
/// [`DataPathError::Layout`], also for a map that is missing, and for a pin that is neither wanted nor a link;
/// [`DataPathError::Privilege`].
pub(super) fn check_layout(dir: &Path, maps: &[(&'static str, String)]) -> Result<(), DataPathError> {
    for (name, wanted) in maps {
        let path = dir.join(name);
        let found = match MapInfo::from_pin(&path) {
            Ok(info) => tables::describe(&info),
            // Before Linux 5.19 nobody opens a pin without CAP_BPF, and that says nothing about the layout.
            Err(error) => match error::permission(&error) {
                Some(refused) => return Err(DataPathError::Privilege(refused)),
                None => "missing".to_owned(),
            },
        };
        if found != *wanted {
            return Err(DataPathError::Layout { path, found, wanted: wanted.clone() });
        }
    }
    let pins = entries(dir).map_err(|source| DataPathError::Pins { path: dir.to_owned(), source })?;
    let is_known = |path: &PathBuf| is_link(path) || maps.iter().any(|(name, _)| path.ends_with(name));
    match pins.into_iter().find(|path| !is_known(path)) {
        Some(path) => Err(DataPathError::Layout { path, found: "one more".to_owned(), wanted: "none".to_owned() }),
        None => Ok(()),
    }
}
