//! One lab at a time: its names are fixed, so that what it prints can be typed.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

const PATH: &str = "/run/jpat-lab.lock";

/// Held until dropped; the kernel lets go of it when the process dies.
pub(crate) struct Lock(#[expect(dead_code, reason = "held for its drop")] Flock<File>);

impl Lock {
    /// Takes it, and writes the pid for the one who finds it taken.
    pub(crate) fn take() -> Result<Self> {
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(PATH);
        let file = open.with_context(|| format!("open {PATH}"))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                file.set_len(0)?;
                writeln!(file, "{}", std::process::id())?;
                Ok(Self(file))
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid)?;
                bail!("a lab is running already (pid {}): end it with Ctrl-C first", pid.trim())
            }
            Err((_, errno)) => Err(errno).with_context(|| format!("lock {PATH}")),
        }
    }
}
