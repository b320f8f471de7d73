//! What must not go wrong when something else does: promises P2, P4 and P8 around starts, reloads and detaching.

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    network::{Family, Member},
    probe::Port,
    process::{Ended, Process},
    wait,
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::{
    config::{Config, DB, HTTPS, db, web},
    stage::Stage,
    trial,
};

/// The address that the stage's SSH session pretends to come from has no grant and is not always allowed.
const SSH: &str = "192.0.2.10 50000 192.0.2.1 8443";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::on("p8_a_trial_over_an_auditing_instance_rolls_back", auditing, trial_over_audit),
        trial::on("p8_a_start_that_begins_to_enforce_spares_the_callers_connection", auditing, start_over_audit),
        trial::on("p8_switching_to_enforce_spares_the_callers_connection", auditing, switch_spares),
        trial::on("p4_a_first_start_that_fails_after_its_attach_leaves_nothing", Config::default, fails_late),
        trial::on("p4_a_restart_that_fails_to_attach_changes_nothing", Config::default, restart_fails),
        trial::on("p4_a_pin_directory_that_was_removed_is_made_again", Config::default, taken_away),
        trial::on("p4_a_reload_on_a_full_disk_changes_nothing", Config::default, full_disk),
        trial::on("p4_a_restart_on_a_full_disk_cuts_nothing", Config::default, full_disk_restart),
        trial::on("p4_detach_leaves_what_others_pinned", Config::default, others_pins),
        trial::on("p2_grants_of_rules_that_changed_while_nobody_ran_are_not_adopted", Config::default, changed_rules),
    ]
}

fn auditing() -> Config {
    Config { mode: "audit", ..Config::default() }
}

fn enforce(stage: &mut Stage) -> Result<()> {
    stage.config.mode = "enforce";
    stage.write_config()
}

fn trial_over_audit(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.end(Signal::SIGTERM)?;
    enforce(stage)?;
    stage.start(&["--try", "60s"])?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    stage.end(Signal::SIGKILL)?;
    stage.expect_tcp_soon(Member::Stranger, Family::V4, HTTPS, Port::Open)?;
    stage.start(&["--try", "60s"])?;
    stage.admin_ok(&["confirm"])?;
    stage.end(Signal::SIGKILL)?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)
}

fn start_over_audit(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.end(Signal::SIGTERM)?;
    enforce(stage)?;
    let mut command = stage.jpatd("run")?;
    command.env("SSH_CONNECTION", SSH);
    let Ended { status, output } = Process::run(&stage.net.host, "jpatd", command)?;
    ensure!(status.code() == Some(1) && output.contains("--force"), "{status}: {output}");
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Open)
}

fn switch_spares(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let ask = |stage: &Stage, arguments: &[&str]| {
        let mut command = std::process::Command::new(jpat_tests::binaries::jpat()?);
        command.args(arguments).arg("--socket").arg(stage.path("admin.sock")).env("SSH_CONNECTION", SSH);
        Process::run(&stage.net.host, "jpat", command)
    };
    let Ended { status, output } = ask(stage, &["mode", "enforce"])?;
    ensure!(status.code() == Some(1) && output.contains("192.0.2.10"), "{status}: {output}");
    enforce(stage)?;
    let Ended { status, output } = ask(stage, &["reload"])?;
    ensure!(status.code() == Some(1) && output.contains("192.0.2.10"), "{status}: {output}");
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Open)?;
    let Ended { status, output } = ask(stage, &["mode", "enforce", "--force"])?;
    ensure!(status.success(), "{status}: {output}");
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)
}

/// The second of two devices has somebody else's program, so that the first was attached when the start fails.
fn fails_late(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let pins = stage.pins.clone();
    stage.net.host.ip("link add name d1 type veth peer name d2\nlink set d1 up\nlink set d2 up")?;
    stage.pins = format!("{}-second", pins.display()).into();
    stage.config.rest = "[limits]\ngrants = 4096\n".to_owned();
    stage.write_config()?;
    let config = stage.path("jpat.toml");
    let text = std::fs::read_to_string(&config)?;
    let text = text.replace("\"eth0\"", "\"d1\", \"eth0\"").replace("admin.sock", "second.sock");
    std::fs::write(&config, text.replace(":9337", ":9338").replace("\"state\"", "\"state2\""))?;
    let Ended { status, output } = Process::run(&stage.net.host, "jpatd", stage.jpatd("run")?)?;
    ensure!(status.code() == Some(1) && output.contains("another XDP program"), "{status}: {output}");
    let left: Vec<_> = std::fs::read_dir(&stage.pins)?.collect();
    ensure!(left.is_empty(), "pins are left: {left:?}");
    std::fs::remove_dir(&stage.pins)?;
    stage.pins = pins;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)
}

/// The new file has other rules, and a device that cannot be had: the old rules stay.
fn restart_fails(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.end(Signal::SIGKILL)?;
    stage.net.host.ip("link add name d1 type veth peer name d2\nlink set d1 up\nlink set d2 up")?;
    let other = stage.path("other");
    std::fs::create_dir(&other)?;
    let pins = format!("{}-other", stage.pins.display());
    let text = std::fs::read_to_string(stage.path("jpat.toml"))?;
    let there = text.replace("\"eth0\"", "\"d1\"").replace(&stage.pins.display().to_string(), &pins);
    std::fs::write(stage.path("jpat.toml"), there)?;
    stage.start(&["--detach-on-exit"])?;
    let changed =
        text.replace("\"eth0\"", "\"d1\", \"eth0\"").replace("tcp/8443", "tcp/9443").replace("enforce", "audit");
    let moved = changed.replace("admin.sock", "b.sock").replace(":9337", ":9338").replace("\"state\"", "\"state2\"");
    std::fs::write(stage.path("jpat.toml"), moved)?;
    let Ended { status, output } = Process::run(&stage.net.host, "jpatd", stage.jpatd("run")?)?;
    ensure!(status.code() == Some(1) && output.contains("another XDP program"), "{status}: {output}");
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    let status = stage.end(Signal::SIGTERM)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

fn taken_away(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    jpat_tests::leftovers::remove_tree(&stage.pins)?;
    wait::for_true("the pins to be back", wait::PATIENCE, || {
        Ok(stage.http_status("/readyz")? == 200 && stage.pins.exists())
    })?;
    ensure!(stage.output().contains("pins are gone"), "{}", stage.output());
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    stage.end(Signal::SIGKILL)?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)
}

/// The services swap their ports: with half of it in force, a grant for one would open the other.
fn full_disk(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    let state = stage.path("state");
    let blocked = state.join("services.new");
    // A directory in the place of the file that a new state is written to: it cannot be written.
    std::fs::create_dir(&blocked).context("blocking the state file")?;
    let swap =
        |text: String| text.replace("tcp/8443", "tcp/X").replace("tcp/5432", "tcp/8443").replace("tcp/X", "tcp/5432");
    stage.config.services = vec![swap(web("2s")), swap(db("2s"))];
    stage.write_config()?;
    let Ended { status, output } = stage.admin(&["reload"])?;
    ensure!(status.code() == Some(1) && output.contains("services.json"), "{status}: {output}");
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)?;
    stage.expect_tcp(Member::Stranger, Family::V4, DB, Port::Silent)?;
    let shown = stage.admin_ok(&["status"])?;
    ensure!(shown.contains("web tcp/8443") && shown.contains("load 1"), "{shown}");
    std::fs::remove_dir(&blocked)?;
    stage.admin_ok(&["reload"])?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent)
}

/// The new file changes the rules of a service with a grant, which cannot be noted.
fn full_disk_restart(stage: &mut Stage) -> Result<()> {
    stage.config.services = vec![web("60s"), db("60s")];
    stage.write_config()?;
    stage.start(&[])?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    stage.end(Signal::SIGKILL)?;
    let blocked = stage.path("state").join("services.new");
    std::fs::create_dir(&blocked).context("blocking the state file")?;
    let good = std::fs::read_to_string(stage.path("jpat.toml"))?;
    std::fs::write(stage.path("jpat.toml"), good.replace("tcp/8443", "tcp/9443"))?;
    let Ended { status, output } = Process::run(&stage.net.host, "jpatd", stage.jpatd("run")?)?;
    ensure!(status.code() == Some(1) && output.contains("services.json"), "{status}: {output}");
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    std::fs::remove_dir(&blocked)?;
    std::fs::write(stage.path("jpat.toml"), good)?;
    stage.start(&[])?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open).context("the grant is adopted")
}

fn others_pins(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.end(Signal::SIGKILL)?;
    let foreign = stage.pins.join("other");
    std::fs::create_dir(&foreign)?;
    let Ended { output, .. } = Process::run(&stage.net.host, "jpatd detach", stage.jpatd("detach")?)?;
    ensure!(foreign.exists(), "somebody else's directory is gone: {output}");
    stage.expect_tcp_soon(Member::Stranger, Family::V4, HTTPS, Port::Open)?;
    std::fs::remove_dir(&foreign)?;
    let root = std::fs::read_to_string(stage.path("jpat.toml"))?
        .replace(&format!("\"{}\"", stage.pins.display()), "\"/sys/fs/bpf\"");
    std::fs::write(stage.path("jpat.toml"), root)?;
    let Ended { status, output } = Process::run(&stage.net.host, "jpatd detach", stage.jpatd("detach")?)?;
    ensure!(status.code() == Some(1) && output.contains("directory of its own"), "{status}: {output}");
    Ok(())
}

fn changed_rules(stage: &mut Stage) -> Result<()> {
    stage.config.services = vec![web("60s"), db("60s")];
    stage.write_config()?;
    stage.start(&[])?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    stage.end(Signal::SIGKILL)?;
    stage.config.rest = "[[deny]]\nname = \"left\"\nwhen = '''claims.sub == \"employee:alice\"'''\n".to_owned();
    stage.write_config()?;
    stage.start(&[])?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Silent)
}
