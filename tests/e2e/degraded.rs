//! What a kernel does without is said in the status and in the log, and nothing is said where nothing is missing.

use anyhow::{Result, ensure};
use aya::util::KernelVersion;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::{config::Config, stage::Stage, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial::on("status_and_log_say_what_this_kernel_does_without", Config::default, said)]
}

fn said(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let status: Value = serde_json::from_str(&stage.admin_ok(&["status", "-o", "json"])?)?;
    let degraded = status["degraded"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lacks_fragments = KernelVersion::current()? < KernelVersion::new(5, 18, 0);
    ensure!(degraded.len() == usize::from(lacks_fragments), "the status says {degraded:?}");
    for line in degraded {
        let line = line.as_str().unwrap_or_default();
        ensure!(line.contains("frames of several buffers"), "the status says {line}");
        ensure!(stage.output().contains(line), "the log does not say {line}");
        ensure!(stage.admin_ok(&["status"])?.contains(line), "the plain status does not say {line}");
    }
    ensure!(stage.output().contains("takes no XDP program") == lacks_fragments, "the log: {}", stage.output());
    Ok(())
}
