//! The kernels, and where Debian has them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::{apt::Suite, directory, modules, tools, tools::Tools};

/// A line of kernels that JPAT supports.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kernel {
    /// The oldest: Debian 11.
    #[value(name = "5.10")]
    V5_10,
    /// Debian 12.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13.
    #[value(name = "6.12")]
    V6_12,
    /// The newest: Debian's unstable.
    #[value(name = "7.x")]
    V7,
}

/// What a kernel boots from.
pub(super) struct Files {
    pub(super) image: PathBuf,
    /// Uncompressed, in the order of insertion.
    pub(super) modules: Vec<PathBuf>,
    /// Where files of this kernel's guest may lie.
    pub(super) work: PathBuf,
}

/// Debian's smaller kernel for virtual machines. It has every network device that the tests make.
const PACKAGE: &str = "linux-image-cloud-amd64";

impl Kernel {
    pub(super) const ALL: [Self; 4] = [Self::V5_10, Self::V6_1, Self::V6_12, Self::V7];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7 => "7.x",
        }
    }

    const fn suite(self) -> &'static str {
        match self {
            Self::V5_10 => "bullseye",
            Self::V6_1 => "bookworm",
            Self::V6_12 => "trixie",
            Self::V7 => "sid",
        }
    }

    /// Whether `uname -r` is of this line.
    pub(super) fn is_release(self, release: &str) -> bool {
        let line = self.name().trim_end_matches('x');
        release
            .strip_prefix(line)
            .is_some_and(|rest| line.ends_with('.') || !rest.starts_with(|c: char| c.is_ascii_digit()))
    }

    /// Downloads it, where that was not done.
    pub(super) fn bring(self, tools: &Tools) -> Result<Files> {
        let work = directory().join(self.name());
        let root = work.join("root");
        if !root.join("complete").exists() {
            if root.exists() {
                fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
            }
            Suite::open(self.suite())?.unpack_kernel(PACKAGE, &root)?;
            tools::complete(&root)?;
        }
        let libraries = ["usr/lib/modules", "lib/modules"].map(|path| root.join(path));
        let library = libraries
            .iter()
            .find_map(|path| only(path))
            .with_context(|| format!("no modules in {}", root.display()))?;
        let image = image(&root, &library).with_context(|| format!("no kernel image in {}", root.display()))?;
        let modules = modules::prepare(&library, &work.join("modules"), tools)?;
        Ok(Files { image, modules, work })
    }
}

/// `/boot/vmlinuz-RELEASE`, or since Linux 7 `vmlinuz` beside the modules.
fn image(root: &Path, library: &Path) -> Option<PathBuf> {
    let release = library.file_name()?.to_string_lossy().into_owned();
    [root.join(format!("boot/vmlinuz-{release}")), library.join("vmlinuz")].into_iter().find(|path| path.is_file())
}

/// The one entry of a directory.
fn only(directory: &Path) -> Option<PathBuf> {
    let mut entries = fs::read_dir(directory).ok()?;
    let first = entries.next()?.ok()?.path();
    entries.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_belongs_to_its_line() {
        assert!(Kernel::V5_10.is_release("5.10.0-32-cloud-amd64"));
        assert!(Kernel::V6_1.is_release("6.1.0-50-cloud-amd64"));
        assert!(!Kernel::V6_1.is_release("6.12.107+deb13-cloud-amd64"));
        assert!(Kernel::V7.is_release("7.2.13+deb14-cloud-amd64"));
        assert!(!Kernel::V7.is_release("6.18.1"));
    }
}
