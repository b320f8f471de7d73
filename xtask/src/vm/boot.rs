//! One guest, from its start to its power-off.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};

use super::{
    BOOT_BOUND,
    group::Planned,
    kernel::{Files, Kernel},
    programs::{self, Programs},
    report::Results,
    tools::Tools,
    transcript::Transcript,
};
use crate::{clock::Stopwatch, output};

/// Boots `kernel`, runs the plan in it and returns how it went.
pub(super) fn run(
    kernel: Kernel,
    files: &Files,
    initramfs: &Path,
    tools: &Tools,
    programs: &Programs,
    plan: &[Planned],
) -> Result<Results> {
    let expected = programs::expected(programs, plan)?;
    let log = files.work.join("log");
    let console = files.work.join("console");
    output::step(format_args!("vm: boots {}; logs {} and {}", kernel.name(), log.display(), console.display()));
    let mut command = command(tools, files, initramfs, &console);
    let mut guest = Guest::start(&mut command)?;
    let mut transcript = Transcript::new(kernel, plan, expected);
    let outcome = follow(&mut guest, &mut transcript, bound(plan), &log);
    drop(guest);
    Ok(transcript.finish(outcome, &fs::read_to_string(&console).unwrap_or_default()))
}

fn command(tools: &Tools, files: &Files, initramfs: &Path, console: &Path) -> Command {
    let mut command = tools.qemu();
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none"]);
    // Without KVM: it is not there in every virtual machine, and nothing is measured here.
    // Without `cmpxchg16b`: the emulated one now and then leaves wrong flags behind (QEMU 7.2), and the kernel falls.
    command.args([
        "-machine",
        "pc,hpet=off",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max,-cx16",
        "-smp",
        "2",
        "-m",
        "1536",
    ]);
    command.args(["-rtc", "base=utc", "-chardev", "file,id=results,path=/dev/stdout", "-chardev"]);
    command.arg(format!("file,id=console,path={}", console.display()));
    command.args(["-serial", "chardev:console", "-serial", "chardev:results"]);
    command.arg("-kernel").arg(&files.image).arg("-initrd").arg(initramfs);
    command.args(["-append", "console=ttyS0 panic=-1 loglevel=6 jpat.vm no_console_suspend"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn bound(plan: &[Planned]) -> Duration {
    BOOT_BOUND + plan.iter().flat_map(|planned| &planned.runs).map(|run| run.bound).sum::<Duration>()
}

/// A running QEMU; ended when dropped.
struct Guest(Child);

impl Guest {
    fn start(command: &mut Command) -> Result<Self> {
        command.spawn().map(Self).with_context(|| format!("cannot start {}", crate::cargo::show(command)))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only when it has powered itself off.
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Reads what the guest reports until it powers off.
fn follow(guest: &mut Guest, transcript: &mut Transcript<'_>, bound: Duration, log: &Path) -> Result<()> {
    let stdout = guest.0.stdout.take().context("QEMU has no standard output")?;
    let mut log = fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()).is_err() {
                break;
            }
        }
    });
    let watch = Stopwatch::start();
    loop {
        match receiver.recv_timeout(bound.saturating_sub(watch.elapsed())) {
            Ok(line) => {
                let at = watch.elapsed().as_secs_f64();
                writeln!(log, "{at:7.2} {line}").context("cannot write the log")?;
                transcript.read(&line);
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => return Err(anyhow!("not done after {} s", bound.as_secs())),
        }
    }
}
