//! Where the programs under test are.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// `jpatd`: `$JPATD`, else beside this program.
///
/// # Errors
/// If there is none.
pub fn jpatd() -> Result<PathBuf> {
    find("JPATD", "jpatd")
}

/// `jpat`: `$JPAT`, else beside this program.
///
/// # Errors
/// If there is none.
pub fn jpat() -> Result<PathBuf> {
    find("JPAT", "jpat")
}

fn find(variable: &str, name: &str) -> Result<PathBuf> {
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => {
            let own = std::env::current_exe().context("find this program's own path")?;
            let directory = own.parent().context("this program lies in no directory")?;
            // Test programs lie one level below the others.
            let up = if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory };
            up.join(name)
        }
    };
    if !path.is_file() {
        bail!("{} does not exist: build it (`cargo xtask build`) or set {variable}", path.display());
    }
    std::path::absolute(&path).with_context(|| format!("make {} absolute", path.display()))
}
