//! Whether this machine can run privileged tests. What is missing is named; in CI it is a failure, elsewhere the
//! tests are reported as ignored, never as passed.

use anyhow::{Context, Result, anyhow};

use crate::{bpffs, netns::NetNs};

/// Tries what every privileged test needs: root, a namespace of its own, a veth, a bpffs, BTF.
///
/// # Errors
/// With what is missing and what would bring it.
pub fn check() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(anyhow!("not root: run `cargo xtask test e2e`, which elevates"));
    }
    let ns = NetNs::create(&format!("jpat-{}-check", std::process::id())).context("network namespaces")?;
    ns.ip("link add name a type veth peer name b").context("veth devices")?;
    bpffs::ensure_mounted()?;
    std::fs::metadata("/sys/kernel/btf/vmlinux").context("the kernel's type information (CONFIG_DEBUG_INFO_BTF)")?;
    Ok(())
}

/// Whether a missing privilege is a failure.
#[must_use]
pub fn required() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty())
}
