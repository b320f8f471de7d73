//! Nothing that is written can be: the programs do their work, or fail, but never by a panic.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    fs::File,
    process::{Command, Stdio},
};

#[test]
fn a_full_standard_error_changes_no_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    let absent = absent.to_str().unwrap();
    for (program, arguments, expected) in [
        (env!("CARGO_BIN_EXE_jpatd"), ["run", "--config", absent], 1),
        (env!("CARGO_BIN_EXE_jpatd"), ["check", "--config", absent], 1),
        (env!("CARGO_BIN_EXE_jpatd"), ["run", "--no-such-option", absent], 2),
        (env!("CARGO_BIN_EXE_jpat"), ["status", "--socket", absent], 1),
        (env!("CARGO_BIN_EXE_jpat"), ["knock", "--token-file", absent], 2),
    ] {
        assert_eq!(code(Command::new(program).args(arguments)), Some(expected), "{program} {arguments:?}");
    }
}

#[test]
fn a_full_standard_output_is_no_panic() {
    for arguments in [&["schema"][..], &["--help"], &["run", "--help"]] {
        assert_ne!(code(Command::new(env!("CARGO_BIN_EXE_jpatd")).args(arguments)), Some(101), "{arguments:?}");
    }
}

/// Runs a command whose output finds no room.
fn code(command: &mut Command) -> Option<i32> {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    command.env_remove("JPAT_CONFIG").stdin(Stdio::null()).stdout(full()).stderr(full()).status().unwrap().code()
}
