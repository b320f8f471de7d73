//! The programs that run in the guest, built on the host.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{
    group::{Planned, Run},
    tools,
};
use crate::cargo;

/// Test programs.
const TESTS: [&str; 3] = ["xdp", "e2e", "kernel"];

/// Host paths of what runs in the guest.
pub(super) struct Programs {
    /// Name in the guest, and path here.
    pub(super) all: Vec<(String, PathBuf)>,
}

impl Programs {
    pub(super) fn build() -> Result<Self> {
        let mut all = Vec::new();
        let built = cargo::executables(&["build", "--package=jpat-userspace", "--bins"])?;
        for name in ["jpatd", "jpat"] {
            all.push((
                name.to_owned(),
                built.get(name).with_context(|| format!("cargo did not build {name}"))?.clone(),
            ));
        }
        let mut build = vec!["test", "--package=jpat-tests", "--no-run"];
        build.extend(TESTS.iter().flat_map(|name| ["--test", name]));
        let built = cargo::executables(&build)?;
        for name in TESTS {
            all.push((
                name.to_owned(),
                built.get(name).with_context(|| format!("cargo did not build {name}"))?.clone(),
            ));
        }
        for name in ["ip", "setpriv"] {
            all.push((name.to_owned(), tools::find(name).with_context(|| format!("there is no `{name}` here"))?));
        }
        // Tests that need it say so.
        all.extend(tools::find("bpftool").map(|path| ("bpftool".to_owned(), path)));
        Ok(Self { all })
    }

    fn path(&self, name: &str) -> Option<&Path> {
        self.all.iter().find(|(program, _)| program == name).map(|(_, path)| path.as_path())
    }

    /// The tests that a run has to have an outcome of: none is left out unseen.
    pub(super) fn expected(&self, run: &Run) -> Result<BTreeSet<String>> {
        let program = self.path(&run.program).with_context(|| format!("there is no program `{}`", run.program))?;
        let listed = cargo::ask(Command::new(program).args(&run.arguments).arg("--list"))
            .with_context(|| format!("`{} --list` failed", run.program))?;
        let names: BTreeSet<_> = listed.lines().filter_map(test_name).collect();
        ensure!(!names.is_empty(), "`{} {}` has no test", run.program, run.arguments.join(" "));
        Ok(names)
    }
}

/// The expected names of every run, in the order of the plan.
pub(super) fn expected(programs: &Programs, plan: &[Planned]) -> Result<Vec<BTreeSet<String>>> {
    plan.iter().flat_map(|planned| &planned.runs).map(|run| programs.expected(run)).collect()
}

fn test_name(line: &str) -> Option<String> {
    line.strip_suffix(": test").or_else(|| line.strip_suffix(": bench")).map(str::to_owned)
}
