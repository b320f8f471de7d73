//! `cargo xtask vm`: the tests in other kernels, under QEMU.
//!
//! Everything lies under `target/vm`: Debian's kernels and, where the host has none, QEMU are downloaded there by apt with
//! a state of its own and unpacked. Nothing is installed and nothing needs root.

mod apt;
mod boot;
mod cpio;
mod group;
mod initramfs;
mod kernel;
mod modules;
mod programs;
mod report;
mod tools;
mod transcript;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Result, ensure};

use self::{
    group::Group,
    kernel::Kernel,
    programs::Programs,
    report::{Report, Results},
    tools::Tools,
};
use crate::{cargo, clock::Stopwatch, output, toolchain};

/// Boots Debian's kernels under QEMU and runs the tests of the data path in each.
///
/// Without arguments all kernels and all groups; then prints what passed, failed and was skipped in
/// each, and how many instructions the verifier walked. The first run downloads about 140 MB of
/// kernels. Needs Debian or Ubuntu (apt-get, dpkg-deb) on x86-64, and no root. A guest has no
/// network. To start over, remove target/vm.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Options {
    /// One kernel alone.
    #[arg(value_enum)]
    kernel: Option<Kernel>,
    /// These groups alone.
    #[arg(value_enum)]
    groups: Vec<Group>,
    /// Run this program of the tests with these arguments in the guest, instead of groups: `-- e2e p4_`.
    #[arg(last = true, conflicts_with = "groups")]
    command: Vec<String>,
}

pub(crate) fn run(options: Options) -> Result<ExitCode> {
    ensure!(cfg!(target_arch = "x86_64"), "`cargo xtask vm` boots x86-64 kernels on x86-64 hosts alone");
    toolchain::ensure(None)?;
    let kernels = options.kernel.map_or_else(|| Kernel::ALL.to_vec(), |kernel| vec![kernel]);
    let groups = group::plan(options.groups, options.command);
    let programs = Programs::build()?;
    let tools = Tools::bring()?;

    let mut report = Report::new(&groups);
    for kernel in kernels {
        let watch = Stopwatch::start();
        let booted = kernel
            .bring(&tools)
            .and_then(|files| initramfs::write(&files, &tools, &programs, &groups).map(|image| (files, image)))
            .and_then(|(files, image)| boot::run(kernel, &files, &image, &tools, &programs, &groups));
        let results = booted.unwrap_or_else(|error| Results::failed(&error, &groups));
        output::step(format_args!("{}: {:.1} s", kernel.name(), watch.elapsed().as_secs_f64()));
        report.add(kernel, results, watch.elapsed());
    }
    Ok(if report.print() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where everything of this verb lies.
fn directory() -> PathBuf {
    cargo::root().join("target/vm")
}

/// The longest a guest may live beyond its groups: boot, modules, power-off.
const BOOT_BOUND: Duration = Duration::from_secs(120);
