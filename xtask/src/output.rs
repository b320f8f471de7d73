//! What the user reads. Progress goes to stderr, beside cargo's own; results go to stdout.

use std::fmt::Display;

/// Says what is done now, and what it costs.
#[expect(clippy::print_stderr, reason = "progress is for the person at the terminal")]
pub(crate) fn step(text: impl Display) {
    eprintln!("xtask: {text}");
}

/// Prints one line of a result.
#[expect(clippy::print_stdout, reason = "results are what stdout is for")]
pub(crate) fn line(text: impl Display) {
    println!("{text}");
}

/// Prints an error with its causes, the outermost first.
#[expect(clippy::print_stderr, reason = "errors are for the person at the terminal")]
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("xtask: error: {error:#}");
}
