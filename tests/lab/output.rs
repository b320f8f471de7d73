//! What the person at the terminal reads.

use std::{
    fmt::Display,
    io::{Write, stderr, stdout},
};

/// A closed pipe is no reason to leave namespaces behind.
pub(crate) fn say(text: impl Display) {
    let mut out = stdout().lock();
    let _closed = writeln!(out, "{text}").and_then(|()| out.flush());
}

pub(crate) fn complain(text: impl Display) {
    let _closed = writeln!(stderr().lock(), "{text}");
}
