//! What is wrong with a configuration: where, what, and what to do.

use std::{fmt, path::PathBuf};

use serde::Serialize;

/// Something to say about one place of a configuration file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// The file, as it was named by the caller.
    pub file: PathBuf,
    /// Line, counted from 1; 0 when the file could not be read.
    pub line: u32,
    /// Column in characters, counted from 1; 0 when the file could not be read.
    pub column: u32,
    /// The key, as `service[0].ttl`; empty when it concerns the whole file.
    pub key: String,
    /// What is wrong, and with which value.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn print(&self, f: &mut fmt::Formatter<'_>, kind: &str) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        write!(f, "{kind}")?;
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)?;
        self.remedy.iter().try_for_each(|remedy| write!(f, "\n  remedy: {remedy}"))
    }
}

/// A reason to refuse a configuration. It prints as `FILE:LINE:COL: KEY: MESSAGE`, the remedy indented below.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct ConfigError(pub Finding);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.print(f, "")
    }
}

impl std::error::Error for ConfigError {}

/// Something that works but will surprise. It prints as `FILE:LINE:COL: warning: KEY: MESSAGE`, the remedy below.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(transparent)]
pub struct Warning(pub Finding);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.print(f, " warning:")
    }
}
