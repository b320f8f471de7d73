//! Somebody else's XDP program is there first.

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf,
    programs::{Xdp, XdpMode},
};
use jpat_tests::{
    network::{Family, Member},
    probe::Port,
    process::{Ended, Process},
    wait::{self, PATIENCE},
};
use jpat_userspace::datapath::object::OBJECT;
use libtest_mimic::Trial;

use super::{bring_up, expect_closed, expect_open, host, link, on, tell, wait_alarm, wait_attached};
use crate::{config::HTTPS, stage::Stage, trial};

/// As long as the name in the object that it takes the place of.
const NAME: &str = "evil";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::on("p2_a_foreign_program_is_named_at_the_start", || on("\"eth0\""), at_the_start),
        trial::on(
            "p2_a_foreign_program_on_a_new_device_is_an_alarm_until_it_goes",
            || on("\"eth0\", \"new*\""),
            on_a_new_device,
        ),
        trial::on("p2_another_instance_of_jpat_is_named_as_such", || on("\"eth0\", \"new0\""), our_own),
    ]
}

/// Our object with its program under another name. Loaded alone it has empty tables, and so drops nothing.
fn foreign() -> Result<Ebpf> {
    let mut object = OBJECT.to_vec();
    // Once among the symbols, once in the type information.
    let names = object.windows(6).enumerate().filter(|(_, bytes)| *bytes == b"\0jpat\0").map(|(at, _)| at + 1);
    for at in names.collect::<Vec<_>>() {
        object[at..at + NAME.len()].copy_from_slice(NAME.as_bytes());
    }
    let mut ebpf = Ebpf::load(&object)?;
    program(&mut ebpf)?.load()?;
    Ok(ebpf)
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    Ok(ebpf.program_mut(NAME).context("no program")?.try_into()?)
}

/// Puts it on a device of the host for as long as the value lives.
fn attached(stage: &Stage, device: &str) -> Result<Ebpf> {
    stage.net.host.run(|| {
        let mut ebpf = foreign()?;
        program(&mut ebpf)?.attach(device, XdpMode::Driver)?;
        Ok(ebpf)
    })
}

fn at_the_start(stage: &mut Stage) -> Result<()> {
    let foreign = attached(stage, "eth0")?;
    let id = *wait_attached(stage, "eth0")?.xdp_programs.first().context("no program")?;
    let Ended { status, output } = Process::run(&stage.net.host, "jpatd", stage.jpatd("run")?)?;
    tell(&output);
    ensure!(status.code() == Some(1), "{status}: {output}");
    for said in [
        "another XDP program is attached to eth0",
        &format!("`{NAME}` (id {id}"),
        "held by BPF link",
        "bpftool link detach id",
    ] {
        ensure!(output.contains(said), "`{said}` is not in: {output}");
    }
    drop(foreign);
    wait::for_true("the end of the foreign program", PATIENCE, || {
        Ok(super::device(stage, "eth0")?.is_some_and(|device| device.xdp_programs.is_empty()))
    })?;
    stage.start(&[])?;
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Silent)
}

fn on_a_new_device(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    // It does not match yet.
    link(stage, "old0")?;
    let foreign = attached(stage, "old0")?;
    stage.net.host.ip("link set old0 name new0")?;
    stage.net.stranger.ip("link set old0 name new0")?;
    bring_up(stage, "new0", 1)?;
    expect_open(stage, host(1))?;
    let alarm = wait_alarm(stage, "new0 is not protected", true)?;
    ensure!(alarm.contains(&format!("`{NAME}` (id ")) && alarm.contains("remedy"), "{alarm}");
    ensure!(stage.http_status("/readyz")? == 503, "/readyz is content");
    ensure!(stage.metrics()?.sum("jpat_devices", &[("state", "failing")]) == 1.0, "it is not in the metrics");
    drop(foreign);
    wait_alarm(stage, "new0", false)?;
    expect_closed(stage, host(1))?;
    ensure!(stage.http_status("/readyz")? == 200, "/readyz is not content");
    Ok(())
}

fn our_own(stage: &mut Stage) -> Result<()> {
    link(stage, "new0")?;
    let mut ebpf = Ebpf::load(OBJECT)?;
    let other: &mut Xdp = ebpf.program_mut(jpat_common::map_name::PROGRAM).context("no program")?.try_into()?;
    other.load()?;
    stage.net.host.run(|| Ok(other.attach("new0", XdpMode::Driver)?))?;
    let Ended { status, output } = Process::run(&stage.net.host, "jpatd", stage.jpatd("run")?)?;
    ensure!(status.code() == Some(1) && output.contains("another instance protects new0"), "{status}: {output}");
    stage.expect_tcp(Member::Stranger, Family::V4, HTTPS, Port::Open)
}
