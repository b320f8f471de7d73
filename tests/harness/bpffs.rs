//! The BPF file system that pins live on.

use std::path::Path;

use anyhow::{Context, Result};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

/// Where the design's default pins are.
pub const MOUNT_POINT: &str = "/sys/fs/bpf";

/// Mounts a bpffs at [`MOUNT_POINT`] unless there is one, and leaves it there, as systemd does.
///
/// # Errors
/// If it is missing and cannot be mounted.
pub fn ensure_mounted() -> Result<()> {
    if is_mounted() {
        return Ok(());
    }
    mount(Some("bpf"), Path::new(MOUNT_POINT), Some("bpf"), MsFlags::empty(), Some("mode=0700"))
        .with_context(|| format!("mount a bpffs at {MOUNT_POINT}"))
}

/// Whether a bpffs is at [`MOUNT_POINT`].
#[must_use]
pub fn is_mounted() -> bool {
    statfs(MOUNT_POINT).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}
