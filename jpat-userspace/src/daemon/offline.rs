//! `check`, `explain`, `init` and `detach`: what `jpatd` does without a running controller.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::load;
use crate::output::{self, Format};

/// What `explain` is asked.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) config: PathBuf,
    pub(super) token_file: PathBuf,
    pub(super) source: IpAddr,
    pub(super) at: Option<jiff::Timestamp>,
    pub(super) jwks: Option<PathBuf>,
}

pub(super) fn detach(config: &Path) -> anyhow::Result<ExitCode> {
    let loaded = load::read(config)?;
    let removed = super::detach(&loaded.config)?;
    output::fact(&match (removed.links, removed.maps) {
        (0, 0) => "nothing was attached".to_owned(),
        (links, _) => format!("detached from {links} interfaces; all grants are gone"),
    });
    Ok(ExitCode::SUCCESS)
}

pub(super) fn init(_out: &Path, _interface: Option<&str>) -> anyhow::Result<ExitCode> {
    anyhow::bail!("wip")
}
pub(super) fn check(_config: &Path, _format: Format) -> ExitCode {
    ExitCode::FAILURE
}
pub(super) fn explain(_question: &Question, _format: Format) -> anyhow::Result<ExitCode> {
    anyhow::bail!("wip")
}
