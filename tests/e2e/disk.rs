//! A full disk: audit lines are lost and counted, nothing else changes.

use std::{io::Write, path::PathBuf};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    network::{Family, Member},
    probe::Port,
    process::Process,
};
use libtest_mimic::Trial;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};

use crate::{
    config::{Config, DB, HTTPS, db},
    stage::Stage,
    traffic::{self, Traffic},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    let config = || Config { audit: "small/audit.jsonl", ..Config::default() };
    vec![
        trial::on("p4_a_full_disk_costs_audit_lines_and_no_grant", config, full),
        trial::on("p4_a_restart_with_full_state_opens_and_cuts_nothing", traffic::config, full_state),
    ]
}

fn full_state(stage: &mut Stage) -> Result<()> {
    let small = SmallDisk::empty(stage.path("state"), "16k")?;
    stage.start(&[])?;
    let traffic = Traffic::start(stage)?;
    small.fill()?;
    stage.end(Signal::SIGKILL)?;
    stage.start(&[]).context("nothing has to be written")?;
    stage.end(Signal::SIGKILL)?;
    // A service that is new needs a number, which has to be kept.
    let good = std::fs::read_to_string(stage.path("jpat.toml"))?;
    std::fs::write(stage.path("jpat.toml"), format!("{good}{}", db("30m").replace(&DB.to_string(), "5433")))?;
    let ended = Process::run(&stage.net.host, "jpatd", stage.jpatd("run")?)?;
    ensure!(ended.status.code() == Some(1) && ended.output.contains("No space left"), "{}", ended.output);
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)?;
    traffic.finish(stage)
}

fn full(stage: &mut Stage) -> Result<()> {
    let _small = SmallDisk::filled(stage.path("small"))?;
    stage.start(&[])?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    let lost = stage.metrics()?.sum("jpat_audit_lost_total", &[]);
    ensure!(lost >= 1.0, "no lost line was counted");
    Ok(())
}

/// A file system of a few pages.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn filled(path: PathBuf) -> Result<Self> {
        let disk = Self::empty(path, "4k")?;
        disk.fill()?;
        Ok(disk)
    }

    fn empty(path: PathBuf, size: &str) -> Result<Self> {
        std::fs::create_dir(&path)?;
        let options = format!("size={size}");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .context("mount a tmpfs")?;
        Ok(Self(path))
    }

    fn fill(&self) -> Result<()> {
        let mut filler = std::fs::File::create(self.0.join("filler"))?;
        let full = std::iter::repeat_with(|| filler.write_all(&[0; 1024])).take(64).any(|written| written.is_err());
        ensure!(full, "the disk does not fill up");
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // jpatd still has its log open.
        let _left_over = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
