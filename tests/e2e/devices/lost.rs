//! A program, a link or a pin that somebody else takes away.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf,
    programs::{
        Xdp,
        links::{FdLink, PinnedLink},
        xdp::XdpLink,
    },
};
use jpat_tests::{
    network::{Family, Member},
    privileges,
    probe::{Leak, Port},
    process::stdout_of,
    wait::{self, PATIENCE},
};
use jpat_userspace::datapath::object::OBJECT;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use super::{device, on, pin_name, pins, status, tell, wait_attached};
use crate::{
    config::{Config, HTTPS, UDP, web},
    stage::{Stage, address},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::needing(
            "p4_a_program_that_is_taken_away_is_put_back",
            privileges::bpftool,
            || on("\"eth0\""),
            |stage, ()| detached(stage),
        ),
        trial::on("p4_a_link_that_somebody_switched_over_is_switched_back_in_one_step", || on("\"eth0\""), switched),
        trial::on("p4_pins_that_somebody_removed_are_made_again_and_nothing_opens", minutes, unpinned),
        trial::on("p4_a_link_that_cannot_be_pinned_stays_at_work", minutes, unpinnable),
    ]
}

fn minutes() -> Config {
    Config { services: vec![web("60s")], ..on("\"eth0\"") }
}

fn restored(stage: &Stage) -> Result<f64> {
    Ok(stage.metrics()?.sum("jpat_restored_total", &[]))
}

fn detached(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let program = *wait_attached(stage, "eth0")?.xdp_programs.first().context("no program")?;
    let leak = Leak::watch(&stage.net.stranger, address(Family::V4, UDP))?;
    let mut bpftool = Command::new("bpftool");
    bpftool.args(["link", "show", "-j"]);
    let links: Vec<serde_json::Value> = serde_json::from_str(&stdout_of(bpftool)?)?;
    let link = links.iter().find(|link| link["prog_id"] == program).context("no link")?["id"].to_string();
    let mut bpftool = Command::new("bpftool");
    bpftool.args(["link", "detach", "id", &link]);
    let taken = wait::now();
    stdout_of(bpftool)?;
    wait::for_true("the program to be put back", PATIENCE, || Ok(restored(stage)? == 1.0))?;
    let back = taken.until(wait::now());
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    let (asked, answered) = leak.finish()?;
    tell(&format!(
        "a detached link was replaced within {back:?}; {answered} of {asked} packets of a stranger were answered"
    ));
    ensure!(stage.output().contains("the program was taken away from eth0"), "{}", stage.output());
    ensure!(stage.http_status("/readyz")? == 200, "/readyz is not content");
    // The new link is pinned like the old one.
    stage.end(Signal::SIGKILL)?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)
}

/// Somebody gives our pinned link another program: here another load of the same object, whose tables are empty.
fn switched(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    let before = wait_attached(stage, "eth0")?;
    let mut ebpf = Ebpf::load(OBJECT)?;
    let other: &mut Xdp = ebpf.program_mut(privileges::ethernet_program()).context("no program")?.try_into()?;
    other.load()?;
    let pin = pins(stage)?.into_iter().find(|pin| pin_name(pin).starts_with("link-")).context("no pinned link")?;
    let link = XdpLink::try_from(FdLink::from(PinnedLink::from_pin(pin)?))?;
    let id = other.attach_to_link(link)?;
    drop(other.take_link(id)?);
    wait::for_true("our program to be back", PATIENCE, || {
        Ok(device(stage, "eth0")?.is_some_and(|device| device.xdp_programs == before.xdp_programs))
    })?;
    wait::for_true("the count", PATIENCE, || Ok(restored(stage)? == 1.0))?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)
}

fn unpinned(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    let leak = Leak::watch(&stage.net.stranger, address(Family::V4, UDP))?;
    for version in std::fs::read_dir(&stage.pins)?.filter_map(Result::ok) {
        jpat_tests::leftovers::remove_tree(&version.path())?;
    }
    wait::for_true("the pins to be back", PATIENCE, || Ok(status(stage)?["pinned"] == true))?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open).context("a live grant")?;
    wait::for_true("/readyz", PATIENCE, || Ok(stage.http_status("/readyz")? == 200))?;
    stage.end(Signal::SIGKILL)?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent).context("after the controller's death")?;
    stage.start(&[])?;
    let (asked, answered) = leak.finish()?;
    ensure!(asked > 50 && answered == 0, "{answered} of {asked} packets leaked");
    Ok(())
}

/// Its place is taken, and nothing but the controller holds it.
fn unpinnable(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    let leak = Leak::watch(&stage.net.stranger, address(Family::V4, UDP))?;
    let now = jpat_tests::earlier::now(&stage.pins);
    let link = jpat_tests::earlier::links(&now)?.pop().context("no link")?;
    // A name that leads nowhere is no pin, and there is no room for one. It comes in one step, or the controller is first.
    let taken = now.join("link-999999-taken");
    std::os::unix::fs::symlink(now.join("nowhere"), &taken)?;
    std::fs::rename(&taken, &link)?;
    super::wait_alarm(stage, "link-", true)?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open).context("a live grant")?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)?;
    std::fs::remove_file(&link)?;
    wait::for_true("the pin to be made", PATIENCE, || Ok(link.is_file() && status(stage)?["pinned"] == true))?;
    super::wait_alarm(stage, "link-", false)?;
    stage.end(Signal::SIGKILL)?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent).context("after the controller's death")?;
    let (asked, answered) = leak.finish()?;
    ensure!(asked > 50 && answered == 0, "{answered} of {asked} packets leaked");
    Ok(())
}
