//! What `jpatd check` says.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::HostFacts;
use crate::config::{
    Config,
    error::{ConfigError, Warning},
};

/// Everything found in a configuration. As text: one finding after the other and a closing line. As JSON: version 1,
/// stable.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    version: u32,
    file: PathBuf,
    good: bool,
    errors: Vec<ConfigError>,
    warnings: Vec<Warning>,
}

impl Report {
    /// Whether the configuration can be run.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.good
    }

    /// What must be mended.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// What will surprise.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// Checks a file against itself and a host.
#[must_use]
pub fn report(path: &Path, facts: &HostFacts) -> Report {
    let (mut errors, mut warnings) = match Config::load(path) {
        Ok((config, mut warnings)) => {
            let (mut errors, more) = super::host(&config, facts);
            warnings.extend(more);
            errors.extend(super::rules(&config));
            let keys = super::keys(&config);
            errors.extend(keys.errors);
            warnings.extend(keys.warnings);
            (errors, warnings)
        }
        Err(errors) => (errors, Vec::new()),
    };
    errors.sort_by_key(|error| (error.0.line, error.0.column));
    warnings.sort_by_key(|warning| (warning.0.line, warning.0.column));
    Report { version: 1, file: path.to_owned(), good: errors.is_empty(), errors, warnings }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.errors.iter().try_for_each(|error| writeln!(f, "{error}"))?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "{warning}"))?;
        let verdict = if self.good { "good" } else { "not usable" };
        let counted = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            count => format!("{count} {what}s"),
        };
        let (errors, warnings) = (counted(self.errors.len(), "error"), counted(self.warnings.len(), "warning"));
        write!(f, "{}: {verdict}: {errors}, {warnings}", self.file.display())
    }
}
