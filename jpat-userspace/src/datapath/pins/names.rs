//! What names on the bpffs stand for.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jpat_common::map_name;

use crate::datapath::attach::Hook;

/// The layout whose pins a directory holds.
pub(super) fn version_number(dir: &Path) -> Option<u32> {
    let name = dir.file_name()?.to_str()?;
    let digits = name.strip_prefix("abi").or_else(|| name.strip_prefix('v'))?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

pub(super) fn link_name(ifindex: u32, hook: Hook) -> String {
    format!("link-{ifindex}-{}", hook.as_str())
}

pub(super) fn is_map(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| map_name::PINNED.contains(&name))
}

pub(super) fn is_link(path: &Path) -> bool {
    link_index(path).is_some()
}

fn link_index(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix("link-")?.split('-').next()?.parse().ok()
}

/// The pinned links in a directory, with the index of their device.
pub(super) fn links_in(dir: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    Ok(entries(dir)?.into_iter().filter_map(|path| Some((link_index(&path)?, path))).collect())
}

/// Paths in a directory, in order; none where it does not exist.
pub(super) fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p4_a_directory_belongs_to_a_layout_only_by_its_whole_name() {
        let number = |name: &str| version_number(&Path::new("/sys/fs/bpf/jpat").join(name));
        assert_eq!((number("v1"), number("abi2"), number("abi30")), (Some(1), Some(2), Some(30)));
        for other in ["v", "abi", "v1a", "abi-2", "abi+2", "globals", "1", "av1"] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
