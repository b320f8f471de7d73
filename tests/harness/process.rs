//! A child process that cannot outlive its owner and whose output is kept.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{netns::NetNs, wait};

/// Lines that are kept of each process.
const KEPT: usize = 2_000;

/// A running child; killed and reaped on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Output,
}

/// What a process wrote on standard output and standard error, line by line, last lines first to stay.
#[derive(Clone, Debug, Default)]
pub struct Output(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    dropped: usize,
}

/// What is left of a process that ended.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// All that it wrote.
    pub output: String,
}

impl Process {
    /// Starts `command` inside `ns`.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(ns: &NetNs, name: &str, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C at the terminal is for the owner, who ends the child in its turn.
        command.process_group(0);
        let mut child = ns.spawn(&mut command)?;
        let output = Output::default();
        output.collect(child.stdout.take())?;
        output.collect(child.stderr.take())?;
        Ok(Self { name: name.to_owned(), child, output })
    }

    /// Runs `command` inside `ns` to its end.
    ///
    /// # Errors
    /// If it does not start, or has not ended after [`wait::PATIENCE`].
    pub fn run(ns: &NetNs, name: &str, command: Command) -> Result<Ended> {
        let mut process = Self::start(ns, name, command)?;
        let status = process.wait_end()?;
        // The readers see the end of the pipes just after the process has ended.
        wait::for_true("the end of its output", wait::PATIENCE, || Ok(Arc::strong_count(&process.output.0) == 1))?;
        Ok(Ended { status, output: process.output.text() })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its output so far.
    #[must_use]
    pub const fn output(&self) -> &Output {
        &self.output
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("pid")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("wait for {}", self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// With its output, if it has not ended after [`wait::PATIENCE`].
    pub fn wait_end(&mut self) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        let child = &mut self.child;
        wait::for_some(&what, wait::PATIENCE, || Ok(child.try_wait()?))
            .map_err(|error| anyhow!("{error:#}; it wrote:\n{}", self.output.text()))
    }

    /// Waits until `check` says yes, for which this process has to live.
    ///
    /// # Errors
    /// With its output, if that takes too long or the process ends.
    pub fn wait_until(&mut self, what: &str, mut check: impl FnMut() -> bool) -> Result<()> {
        let (child, name) = (&mut self.child, &self.name);
        wait::for_true(what, wait::PATIENCE, || {
            if let Some(status) = child.try_wait()? {
                bail!("{name} ended: {status}");
            }
            Ok(check())
        })
        .map_err(|error| anyhow!("{error:#}; it wrote:\n{}", self.output.text()))
    }
}

/// Runs a command of this machine to its end and returns its standard output.
///
/// # Errors
/// If it does not start or fails, with what it said.
pub fn stdout_of(mut command: Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Output {
    /// Everything kept, as text.
    #[must_use]
    pub fn text(&self) -> String {
        let lines = self.lines();
        let mut text = String::new();
        if lines.dropped > 0 {
            text.push_str(&format!("[{} lines before]\n", lines.dropped));
        }
        for line in &lines.kept {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// The lines that came after the first `seen` ones, and how many there are now: for following.
    #[must_use]
    pub fn since(&self, seen: usize) -> (Vec<String>, usize) {
        let lines = self.lines();
        let new = lines.kept.iter().skip(seen.saturating_sub(lines.dropped)).cloned().collect();
        (new, lines.dropped + lines.kept.len())
    }

    fn collect(&self, pipe: Option<impl Read + Send + 'static>) -> Result<()> {
        let Some(pipe) = pipe else { bail!("the child has no pipe") };
        let output = self.clone();
        let read = move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                output.push(String::from_utf8_lossy(&line).into_owned());
            }
        };
        std::thread::Builder::new().name("output".to_owned()).spawn(read).context("start a thread")?;
        Ok(())
    }

    fn push(&self, line: String) {
        let mut lines = self.lines();
        if lines.kept.len() == KEPT {
            lines.kept.pop_front();
            lines.dropped += 1;
        }
        lines.kept.push_back(line);
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
