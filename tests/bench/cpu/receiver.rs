//! The host's end of the wire: what arrives there, and the thread that serves it.

use std::{collections::BTreeSet, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use aya::programs::{Xdp, XdpMode, xdp::XdpLinkId};
use jpat_tests::{
    netns::NetNs,
    wait::{self, PATIENCE},
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::{Pid, SysconfVar, sysconf},
};

use super::HOST_CPU;

/// The device `eth0` of the host, and its thread.
pub(super) struct Receiver<'a> {
    host: &'a NetNs,
    link: XdpLinkId,
    thread: i32,
    ticks_per_second: u32,
}

/// Since the device and the thread began.
pub(super) struct Reading {
    pub(super) packets: u64,
    pub(super) busy: Duration,
}

impl<'a> Receiver<'a> {
    /// Attaches a program to the device, gives it a thread, and that its CPU.
    pub(super) fn attach(host: &'a NetNs, program: &mut Xdp) -> Result<Self> {
        let before = threads()?;
        let link = host.run(|| Ok(program.attach("eth0", XdpMode::Driver)?))?;
        // Only `ip netns exec` brings a /sys of that namespace.
        let output = Command::new("ip")
            .args(["netns", "exec", host.name(), "sh", "-c", "echo 1 > /sys/class/net/eth0/threaded"])
            .output()
            .context("start ip")?;
        ensure!(output.status.success(), "threaded NAPI: {}", String::from_utf8_lossy(&output.stderr).trim());
        // It gets its name a moment after it was made.
        let thread = wait::for_some("a thread of the device (since kernel 5.12)", PATIENCE, || {
            Ok(threads()?.difference(&before).next().copied())
        })?;
        let mut cpus = CpuSet::new();
        cpus.set(HOST_CPU)?;
        sched_setaffinity(Pid::from_raw(thread), &cpus).context("keep the thread on its CPU")?;
        let ticks_per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock ticks")?;
        Ok(Self { host, link, thread, ticks_per_second: u32::try_from(ticks_per_second)? })
    }

    pub(super) fn detach(self, program: &mut Xdp) -> Result<()> {
        Ok(program.detach(self.link)?)
    }

    pub(super) fn read(&self) -> Result<Reading> {
        let devices = self.host.run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?))?;
        let packets = devices
            .lines()
            .find_map(|line| line.trim().strip_prefix("eth0:")?.split_whitespace().nth(1))
            .context("no eth0")?
            .parse()?;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.thread)).context("the thread ended")?;
        // Field 15 (proc_pid_stat(5)), counted behind the name, which may hold spaces.
        let system = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(12)).context("no stime")?;
        let busy = Duration::from_secs(system.parse()?) / self.ticks_per_second;
        Ok(Reading { packets, busy })
    }
}

/// Every NAPI thread of a device called `eth0`, in any namespace.
fn threads() -> Result<BTreeSet<i32>> {
    let processes = std::fs::read_dir("/proc").context("read /proc")?;
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let is_napi =
        |id: &i32| std::fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|name| name.starts_with("napi/eth0-"));
    Ok(ids.filter(is_napi).collect())
}
