//! Whether this machine can run privileged tests. What is missing is named; in CI it is a failure, elsewhere the
//! tests are reported as ignored, never as passed.

use anyhow::{Context, Result, anyhow};
use aya::util::KernelVersion;
use jpat_common::map_name;

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

/// Tries whether the kernel makes devices of this kind.
///
/// # Errors
/// What it says.
pub fn device_kind(kind: &str) -> Result<()> {
    let ns = NetNs::create(&format!("jpat-{}-{kind}", std::process::id()))?;
    ns.ip(&format!("link add name probe type {kind}")).with_context(|| format!("this kernel makes no {kind} device"))
}

/// Tries whether the kernel knows IPsec.
///
/// # Errors
/// What it says.
pub fn ipsec() -> Result<()> {
    let ns = NetNs::create(&format!("jpat-{}-ipsec", std::process::id()))?;
    ns.ip("xfrm policy list").context("this kernel has no IPsec")
}

/// Whether there is a bpftool: nothing else detaches a link that somebody holds.
///
/// # Errors
/// If it does not start.
pub fn bpftool() -> Result<()> {
    let version = std::process::Command::new("bpftool").arg("version").output().context("no bpftool")?;
    if version.status.success() { Ok(()) } else { Err(anyhow!("bpftool: {}", version.status)) }
}

/// Tells whether the kernel takes programs for frames of several buffers.
///
/// # Errors
/// That it is too old.
pub fn several_buffers() -> Result<()> {
    let is_there = KernelVersion::current().is_ok_and(|current| current >= KernelVersion::new(5, 18, 0));
    if is_there { Ok(()) } else { Err(anyhow!("needs Linux 5.18: XDP over several buffers")) }
}

/// The program that a device with an Ethernet header gets on this kernel.
#[must_use]
pub fn ethernet_program() -> &'static str {
    if several_buffers().is_ok() { map_name::PROGRAM_FRAGS } else { map_name::PROGRAM }
}

/// Whether a missing privilege is a failure.
#[must_use]
pub fn required() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty())
}
