//! Named network namespaces. Entering happens by `setns` on a thread of its own: `ip netns exec` would mount a fresh
//! /sys and hide the pins on the bpffs.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns};

/// Where iproute2 keeps the names.
pub const NAMES: &str = "/run/netns";

/// A namespace that is deleted when dropped.
#[derive(Debug)]
pub struct NetNs {
    name: String,
    file: File,
}

impl NetNs {
    /// Creates it with `lo` up and without IPv6 duplicate address detection, which would keep addresses unusable for
    /// a second.
    ///
    /// # Errors
    /// If `ip` fails, which it does for a name that exists.
    pub fn create(name: &str) -> Result<Self> {
        run("ip", &["netns", "add", name], "")?;
        let file = File::open(path(name)).with_context(|| format!("open namespace {name}"))?;
        let ns = Self { name: name.to_owned(), file };
        ns.run(|| {
            for scope in ["all", "default"] {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad"), "0")?;
            }
            Ok(())
        })?;
        ns.ip("link set lo up")?;
        Ok(ns)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs lines of `ip` commands inside, stopping at the first that fails.
    ///
    /// # Errors
    /// With what `ip` said.
    pub fn ip(&self, lines: &str) -> Result<()> {
        run("ip", &["-n", &self.name, "-batch", "-"], lines)
    }

    /// Runs `work` on a thread that is inside; sockets it returns stay inside.
    ///
    /// # Errors
    /// If the namespace cannot be entered, or the error of `work`.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter()?;
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `work` on a thread inside and does not wait for it.
    ///
    /// # Errors
    /// If the thread cannot be made.
    pub fn thread(
        &self,
        name: &str,
        work: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<std::thread::JoinHandle<Result<()>>> {
        let file = self.file.try_clone().context("clone the namespace's descriptor")?;
        let inside = move || {
            setns(&file, CloneFlags::CLONE_NEWNET).context("setns")?;
            work()
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(inside).context("start a thread")
    }

    /// Starts a child inside. It keeps this process's mounts.
    ///
    /// # Errors
    /// If the namespace cannot be entered or the program not started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.run(|| command.spawn().with_context(|| format!("start {:?}", command.get_program())))
    }

    fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter namespace {}", self.name))
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the next start clears what was left.
        let _left_over = delete(&self.name);
    }
}

/// Deletes a namespace by name.
///
/// # Errors
/// With what `ip` said.
pub fn delete(name: &str) -> Result<()> {
    run("ip", &["netns", "del", name], "")
}

/// Names of all namespaces that iproute2 knows.
///
/// # Errors
/// If the directory cannot be read.
pub fn names() -> Result<Vec<String>> {
    if !Path::new(NAMES).exists() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(NAMES).with_context(|| format!("read {NAMES}"))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

/// The file that stands for the namespace.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    Path::new(NAMES).join(name)
}

fn run(program: &str, args: &[&str], input: &str) -> Result<()> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {program}; is iproute2 installed?"))?;
    child.stdin.take().ok_or_else(|| anyhow!("{program} has no input"))?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{program} {}: {}\n{input}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
