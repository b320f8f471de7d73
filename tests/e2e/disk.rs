//! A full disk: audit lines are lost and counted, nothing else changes.

use std::{io::Write, path::PathBuf};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    network::{Family, Member},
    probe::Port,
};
use libtest_mimic::Trial;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::{
    stage::{Config, HTTPS, Stage},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    let config = || Config { audit: "small/audit.jsonl", ..Config::default() };
    vec![trial::on("p4_a_full_disk_costs_audit_lines_and_no_grant", config, full)]
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

/// A file system of one page, which is taken.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn filled(path: PathBuf) -> Result<Self> {
        std::fs::create_dir(&path)?;
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=4k")).context("mount a tmpfs")?;
        let disk = Self(path);
        let mut filler = std::fs::File::create(disk.0.join("filler"))?;
        let full = std::iter::repeat_with(|| filler.write_all(&[0; 1024])).take(64).any(|written| written.is_err());
        ensure!(full, "the disk does not fill up");
        Ok(disk)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // jpatd still has its log open.
        let _left_over = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
