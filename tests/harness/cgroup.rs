//! A control group with a bound on memory, so that the kernel kills who takes more.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};

/// A group that is removed when dropped, after its processes.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes a group under the root of cgroup v2.
    ///
    /// # Errors
    /// If there is no cgroup v2, or its memory controller is not to be had.
    pub fn with_memory(name: &str) -> Result<Self> {
        let root = root()?;
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).context("cgroup v2")?;
        let has_memory = controllers.split_whitespace().any(|controller| controller == "memory");
        ensure!(has_memory, "the memory controller of cgroup v2 (it has: {})", controllers.trim());
        fs::write(root.join("cgroup.subtree_control"), "+memory").context("delegate the memory controller")?;
        let group = Self(root.join(name));
        fs::create_dir(&group.0).with_context(|| format!("make {}", group.0.display()))?;
        Ok(group)
    }

    /// Moves a process here. What it took before stays charged to where it was.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn take(&self, pid: u32) -> Result<()> {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).context("move a process into the group")
    }

    /// Bounds what its processes take from now on, swap included.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn limit(&self, bytes: u64) -> Result<()> {
        // Without swap accounting there is no such file, and no swap to count.
        let _no_swap = fs::write(self.0.join("memory.swap.max"), "0");
        fs::write(self.0.join("memory.max"), bytes.to_string()).context("bound the group's memory")
    }

    /// How many processes the kernel killed here.
    ///
    /// # Errors
    /// If the count cannot be read.
    pub fn kills(&self) -> Result<u64> {
        let events = fs::read_to_string(self.0.join("memory.events"))?;
        let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.context("no count of kills")?.parse().context("the count of kills")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // It stays while a process is in it.
        let _left_over = fs::remove_dir(&self.0);
    }
}

/// Where cgroup v2 is mounted; where it is not, it is mounted as systemd does.
fn root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let mounted = mounts.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>().as_slice() {
        [_, at, "cgroup2", ..] => Some(PathBuf::from(at)),
        _ => None,
    });
    if let Some(at) = mounted {
        return Ok(at);
    }
    let at = Path::new("/sys/fs/cgroup");
    mount(Some("cgroup2"), at, Some("cgroup2"), MsFlags::empty(), None::<&str>).context("mount cgroup v2")?;
    Ok(at.to_owned())
}
