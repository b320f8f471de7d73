//! Calls of cargo from within cargo.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::output;

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let own = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    own.parent().map_or_else(|| own.clone(), Path::to_path_buf)
}

/// The cargo that started xtask, without what `cargo run` exported for xtask alone.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    forget_own_package(&mut command);
    command
}

/// A program of another tool chain than the one that started xtask: nothing that selects or tunes that one may reach it.
pub(crate) fn foreign(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    forget_own_package(&mut command);
    const SELECTORS: [&str; 9] = [
        "RUSTUP_TOOLCHAIN",
        "CARGO",
        "RUSTC",
        "RUSTDOC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "LD_LIBRARY_PATH",
    ];
    for name in SELECTORS {
        command.env_remove(name);
    }
    command
}

fn forget_own_package(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let own = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "CARGO_PRIMARY_PACKAGE"
        });
        if own {
            command.env_remove(name);
        }
    }
}

/// Runs a command to its end and fails unless it succeeded.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", show(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", show(command));
    }
    Ok(())
}

/// Runs a command to its end and returns its standard output; `None` when it cannot start or fails.
pub(crate) fn ask(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command as one could type it.
pub(crate) fn show(command: &Command) -> String {
    let program = command.get_program();
    let program = if env::var_os("CARGO").is_some_and(|own| own == program) { "cargo".as_ref() } else { program };
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Builds with `cargo ARGS` and returns the path of each executable by the name of its target.
pub(crate) fn executables(args: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let mut command = cargo();
    command.args(args);
    output::step(format_args!("cargo {}", args.join(" ")));
    command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("cargo has no standard output")?;
    let mut found = BTreeMap::new();
    for line in BufReader::new(stdout).lines() {
        found.extend(executable(&line.context("cannot read what cargo says")?));
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() {
        bail!("cargo {} ended with {status}", args.join(" "));
    }
    Ok(found)
}

fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let path = message.get("executable")?.as_str()?;
    let name = message.get("target")?.get("name")?.as_str()?;
    Some((name.to_owned(), path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executable_is_found_in_an_artifact_message() {
        let message = r#"{"reason":"compiler-artifact","target":{"name":"jpatd"},"executable":"/t/debug/jpatd"}"#;
        assert_eq!(executable(message), Some(("jpatd".to_owned(), "/t/debug/jpatd".into())));
    }

    #[test]
    fn messages_without_an_executable_are_passed_over() {
        assert_eq!(executable(r#"{"reason":"compiler-artifact","target":{"name":"a"},"executable":null}"#), None);
        assert_eq!(executable("not JSON"), None);
    }

    #[test]
    fn a_shown_command_can_be_pasted() {
        let mut command = Command::new("sudo");
        command.args(["A=/tmp/x", "it's", "two words", ""]);
        assert_eq!(show(&command), r"sudo A=/tmp/x 'it'\''s' 'two words' ''");
    }

    #[test]
    fn a_foreign_program_does_not_see_the_tool_chain_of_cargo_run() {
        let command = foreign(Path::new("/usr/bin/cargo"));
        let removed: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        assert!(removed.contains(&"RUSTUP_TOOLCHAIN".as_ref()));
        assert!(removed.contains(&"CARGO_PKG_NAME".as_ref()));
    }
}
