//! Clears what a killed run left behind: its controllers, namespaces, pins and files. What a living run owns is never
//! touched: names carry the pid of their owner, or the caller holds the lock of the fixed name.

use std::path::Path;

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{bpffs, netns};

/// Prefix of namespaces, pins and temporary directories of test runs: `jpat-<pid>-<number>`.
const TESTS: &str = "jpat-";

/// The prefix of a stage of this process.
#[must_use]
pub fn prefix(number: u32) -> String {
    format!("{TESTS}{}-{number}", std::process::id())
}

/// Clears what runs left whose process is gone.
///
/// # Errors
/// If a leftover resists.
pub fn clear_dead_runs() -> Result<()> {
    for name in netns::names()? {
        if owner(&name).is_some_and(|pid| !alive(pid)) {
            clear_namespace(&name)?;
        }
    }
    for directory in [Path::new(bpffs::MOUNT_POINT), &std::env::temp_dir()] {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        for entry in entries.filter_map(Result::ok) {
            if owner(&entry.file_name().to_string_lossy()).is_some_and(|pid| !alive(pid)) {
                remove_tree(&entry.path())?;
            }
        }
    }
    Ok(())
}

/// Clears everything of one prefix; the caller owns it.
///
/// # Errors
/// If a leftover resists.
pub fn clear_prefix(prefix: &str, pins: &Path) -> Result<()> {
    let dashed = format!("{prefix}-");
    for name in netns::names()?.iter().filter(|name| name.starts_with(&dashed)) {
        clear_namespace(name)?;
    }
    remove_tree(pins)
}

/// Removes a directory with all that is in it, if it is there. Pins take with them what only they kept attached.
///
/// # Errors
/// If it cannot be removed.
pub fn remove_tree(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", directory.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn clear_namespace(name: &str) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata(netns::path(name)).map(|meta| meta.ino()).ok();
    let processes = std::fs::read_dir("/proc").context("read /proc")?;
    for pid in processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok()) {
        let inside = std::fs::metadata(format!("/proc/{pid}/ns/net")).map(|meta| meta.ino()).ok();
        if inode.is_some() && inside == inode && is_ours(pid) {
            // It may have ended meanwhile.
            let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    netns::delete(name)
}

/// Whether the process is one of JPAT's own programs: a shell that the user opened inside is left alone.
fn is_ours(pid: i32) -> bool {
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    matches!(name.trim_end_matches(" (deleted)"), "jpatd" | "jpat")
}

/// The pid in `jpat-<pid>-…`.
fn owner(name: &str) -> Option<i32> {
    name.strip_prefix(TESTS)?.split('-').next()?.parse().ok()
}

fn alive(pid: i32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_owner() {
        assert_eq!(owner("jpat-17-2-host"), Some(17));
        assert_eq!(owner("jpat-lab-host"), None);
        assert_eq!(owner("jpat"), None);
        assert_eq!(owner(&prefix(3)), i32::try_from(std::process::id()).ok());
    }
}
