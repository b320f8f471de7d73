//! The first minutes on a host: `jpatd init`, the commands it prints, and the caller's own connection.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    binaries,
    network::{Family, Member},
    probe::Port,
    process::{self, Process},
    services::{Service, Services},
    wait,
};
use libtest_mimic::Trial;

use crate::{
    config::{Config, HTTPS},
    stage::Stage,
    trial,
};

const SSH: u16 = 22;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::on("init_writes_what_check_accepts_and_its_three_commands_work", Config::default, init),
        trial::on("p8_the_callers_own_connection_is_not_cut_unasked", Config::default, own_connection),
    ]
}

fn init(stage: &mut Stage) -> Result<()> {
    let _ssh = Services::start(&stage.net.host, vec![Service::TcpEcho(SSH)])?;
    let mut command = Command::new(binaries::jpatd()?);
    command.args(["init", "--interface", "eth0", "--out"]).arg(stage.path("first"));
    let printed = process::stdout_of(command)?;
    let commands: Vec<_> =
        printed.lines().map(str::trim).filter(|line| line.starts_with("jpat") || line.starts_with("(umask")).collect();
    let [run, sign, knock] = commands[..] else { anyhow::bail!("not three commands: {printed}") };
    ensure!(run.starts_with("jpatd run"), "{run}");

    // As written it would use this machine's own directories.
    let written = std::fs::read_to_string(stage.path("first/jpat.toml"))?;
    let mode = "mode = \"audit\"\n";
    ensure!(written.contains(mode), "{written}");
    let moved = format!("{mode}state = \"state\"\npins = \"{}\"\n", stage.pins.display());
    let own = format!("{}\n[admin]\nsocket = \"admin.sock\"\n", written.replacen(mode, &moved, 1));
    std::fs::write(stage.path("jpat.toml"), own)?;
    for name in ["jwks.json", "server.key", "knock-1.key"] {
        std::fs::copy(stage.path("first").join(name), stage.path(name))?;
    }
    let checked = Process::run(&stage.net.host, "jpatd check", stage.jpatd("check")?)?;
    ensure!(checked.status.success(), "{}", checked.output);
    stage.start(&[])?;
    let started = wait::now();
    stage.expect_tcp(Member::Stranger, Family::V4, SSH, Port::Open).context("audit mode")?;
    stage.admin_ok(&["mode", "enforce"])?;
    stage.expect_tcp(Member::Client, Family::V4, SSH, Port::Silent)?;

    // Tokens are dated to the second, and of those dated before the start it is not known whether they were used.
    wait::until(started.after(std::time::Duration::from_millis(1_100)));
    shell(stage, Member::Host, sign)?;
    let name = knock.split(' ').nth(2).context("a host to knock at")?;
    let host = Member::Host.address(Family::V4).to_string();
    shell(stage, Member::Client, &knock.replacen(name, &host, 1))?;
    stage.expect_tcp(Member::Client, Family::V4, SSH, Port::Open)?;
    stage.expect_tcp(Member::Stranger, Family::V4, SSH, Port::Silent)
}

/// Runs a line as somebody who types it, in the stage's directory.
fn shell(stage: &Stage, member: Member, line: &str) -> Result<()> {
    let jpat = binaries::jpat()?;
    let path = format!("{}:/usr/bin:/bin", jpat.parent().unwrap_or(Path::new("/")).display());
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("PATH", path).current_dir(stage.dir.path());
    let ended = Process::run(stage.net.of(member), "sh", command)?;
    ensure!(ended.status.success(), "{line}: {}: {}", ended.status, ended.output);
    Ok(())
}

fn own_connection(stage: &mut Stage) -> Result<()> {
    let started_over_ssh = |stage: &Stage, arguments: &[&str]| -> Result<Command> {
        let mut command = stage.jpatd("run")?;
        command.args(arguments).env("SSH_CONNECTION", format!("192.0.2.66 50000 192.0.2.1 {HTTPS}"));
        Ok(command)
    };
    let ended = Process::run(&stage.net.host, "jpatd run", started_over_ssh(stage, &[])?)?;
    let (code, text) = (ended.status.code(), &ended.output);
    ensure!(code == Some(1) && text.contains("192.0.2.66") && text.contains("--force"), "{code:?}: {text}");
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Open).context("nothing was attached")?;
    // Break-glass sources are not cut.
    stage.config.rest = "[always_allow]\nsources = [\"192.0.2.66\"]\n".to_owned();
    stage.write_config()?;
    let mut covered = Process::start(&stage.net.host, "jpatd run", started_over_ssh(stage, &["--detach-on-exit"])?)?;
    stage.wait_ready(&mut covered)?;
    covered.signal(nix::sys::signal::Signal::SIGTERM)?;
    ensure!(covered.wait_end()?.success(), "{}", covered.output().text());
    stage.config.rest.clear();
    stage.write_config()?;
    let mut forced = Process::start(&stage.net.host, "jpatd run", started_over_ssh(stage, &["--force"])?)?;
    stage.wait_ready(&mut forced)?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)
}
