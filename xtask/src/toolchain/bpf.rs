//! Calls of the eBPF tool chain's cargo, as `jpat-userspace/build.rs` makes them: with other flags the two would build
//! everything anew in turn.

use std::{path::Path, process::Command};

use super::{Toolchain, directory};
use crate::cargo;

pub(crate) const TARGET: &str = "bpfel-unknown-none";

impl Toolchain {
    /// A command over the BPF programs of jpat-ebpf; `program` is this tool chain's cargo or one of its drivers.
    pub(crate) fn bpf(&self, program: &Path, verb: &str) -> Command {
        let mut command = cargo::foreign(program);
        command.args([verb, "--release", "--package=jpat-ebpf", "--target", TARGET]);
        if self.build_std {
            command.arg("-Zbuild-std=core");
        }
        command.arg("--target-dir").arg(directory().join("build"));
        command.env("CARGO", &self.cargo).env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
        command.env("CARGO_PROFILE_RELEASE_LTO", "false");
        let cfg = format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH);
        let misaligned = "-Clink-arg=--cpu-features=+allows-misaligned-mem-access";
        command.env("CARGO_ENCODED_RUSTFLAGS", [&cfg, "-Cdebuginfo=2", "-Clink-arg=--btf", misaligned].join("\x1f"));
        command
    }
}
