//! A full disk: audit lines are lost and counted, nothing else changes.

use std::{io::Write, path::PathBuf};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    network::{Family, Member},
    probe::Port,
    process::Process,
    wait::{self, PATIENCE},
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
        trial::on("p6_a_state_that_cannot_be_written_grants_nothing", Config::default, tiny_state),
    ]
}

fn full_state(stage: &mut Stage) -> Result<()> {
    let small = SmallDisk::empty(stage.path("state"), "2m")?;
    stage.start(&[])?;
    let traffic = Traffic::start(stage)?;
    small.fill()?;
    stage.end(Signal::SIGKILL)?;
    stage.start(&[]).context("nothing has to be written")?;
    stage.end(Signal::SIGKILL)?;
    // A service that is new needs a number, which has to be kept. (The store gives some room back when it is opened.)
    std::fs::create_dir(stage.path("state/services.new"))?;
    let good = std::fs::read_to_string(stage.path("jpat.toml"))?;
    std::fs::write(stage.path("jpat.toml"), format!("{good}{}", db("30m").replace(&DB.to_string(), "5433")))?;
    let ended = Process::run(&stage.net.host, "jpatd", stage.jpatd("run")?)?;
    ensure!(ended.status.code() == Some(1) && ended.output.contains("services.json"), "{}", ended.output);
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)?;
    traffic.finish(stage)
}

/// Too small for a store: what stands goes on, and no knock is taken that could not be remembered.
fn tiny_state(stage: &mut Stage) -> Result<()> {
    let tiny = SmallDisk::empty(stage.path("state"), "16k")?;
    stage.start(&[])?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "store_failed")?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent)?;
    tiny.grow("16m")?;
    wait::for_true("a knock to be taken once there is room", PATIENCE, || {
        let before = stage.metrics()?;
        stage.send(Member::Client, Family::V4, stage.token()?.as_bytes())?;
        wait::for_true("a knock to be judged", PATIENCE, || {
            let now = stage.metrics()?;
            Ok(now.knocks("granted") + now.knocks("store_failed")
                > before.knocks("granted") + before.knocks("store_failed"))
        })?;
        Ok(stage.metrics()?.knocks("granted") > 0.0)
    })?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)?;
    stage.end(Signal::SIGKILL)?;
    stage.start(&[]).context("with the store that was made late")
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

    fn grow(&self, size: &str) -> Result<()> {
        let options = format!("size={size}");
        mount(Some("tmpfs"), &self.0, Some("tmpfs"), MsFlags::MS_REMOUNT, Some(options.as_str()))
            .context("remount the tmpfs")
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
        let full =
            std::iter::repeat_with(|| filler.write_all(&[0; 1024])).take(64 * 1024).any(|written| written.is_err());
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
