//! Raising one command to root: directly, with sudo, or not at all.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    io::{IsTerminal, stdin},
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Stdio},
};

use crate::cargo;

/// By what a command can become root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Means {
    /// Already root.
    Root,
    /// `sudo` without a question.
    Sudo,
    /// `sudo` that may ask for a password at this terminal.
    SudoAsks,
}

/// How this user can become root here; `None` when neither root, nor allowed by sudo without a password, nor at a terminal
/// where sudo could ask.
pub(crate) fn means() -> Option<Means> {
    if is_root() {
        return Some(Means::Root);
    }
    // `sudo -n true` also finds that there is no sudo.
    let silent = Command::new("sudo").args(["-n", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    match silent {
        Ok(status) if status.success() => Some(Means::Sudo),
        Ok(_) if stdin().is_terminal() => Some(Means::SudoAsks),
        Ok(_) | Err(_) => None,
    }
}

/// `/proc/self` belongs to the effective user.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// The command `program`, raised by `means`, with these variables set (sudo would drop them).
pub(crate) fn command(means: Means, program: &Path, variables: &[(&str, &OsStr)]) -> Command {
    // What a test or a daemon may be told from outside.
    const KEPT: [&str; 4] = ["CI", "RUST_BACKTRACE", "RUST_LOG", "NO_COLOR"];
    let mut command = match means {
        Means::Root => {
            let mut command = Command::new(program);
            command.envs(variables.iter().copied());
            return command;
        }
        Means::Sudo | Means::SudoAsks => Command::new("sudo"),
    };
    if means == Means::Sudo {
        command.arg("-n");
    }
    command.arg("env");
    let kept = KEPT.iter().filter_map(|name| Some((*name, env::var_os(name)?)));
    for (name, value) in kept {
        command.arg(assignment(name, &value));
    }
    for (name, value) in variables {
        command.arg(assignment(name, value));
    }
    command.arg(program);
    command
}

fn assignment(name: &str, value: &OsStr) -> OsString {
    let mut word = OsString::from(name);
    word.push("=");
    word.push(value);
    word
}

/// What to type when xtask cannot raise it.
pub(crate) fn by_hand(program: &Path, variables: &[(&str, &OsStr)], args: &[OsString]) -> String {
    let mut command = Command::new("sudo");
    command.arg("env");
    for (name, value) in variables {
        command.arg(assignment(name, value));
    }
    cargo::show(command.arg(program).args(args))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudo_gets_the_variables_as_arguments() {
        let command = command(Means::Sudo, Path::new("/t/lab"), &[("JPATD", OsStr::new("/t/jpatd"))]);
        let shown = cargo::show(&command);
        assert!(shown.starts_with("sudo -n env "), "{shown}");
        assert!(shown.ends_with("JPATD=/t/jpatd /t/lab"), "{shown}");
    }

    #[test]
    fn root_runs_the_program_itself() {
        let command = command(Means::Root, Path::new("/t/lab"), &[("JPATD", OsStr::new("/t/jpatd"))]);
        assert_eq!(command.get_program(), "/t/lab");
        assert_eq!(command.get_envs().count(), 1);
    }
}
