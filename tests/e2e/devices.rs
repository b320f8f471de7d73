//! Devices through which a protected port could be reached: attached, or told of. Promises P2, P4 and P8.

mod alarms;
mod foreign;
mod forwarding;
mod hotplug;
mod jumbo;
mod lost;
mod tun;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    network::Member,
    probe::{self, Port},
    wait::{self, PATIENCE},
};
use jpat_userspace::datapath::interfaces::{self, Device};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::{
    config::{Config, FREE, HTTPS, KNOCK_PORT, UDP, listen},
    stage::Stage,
};

/// How long something new may be open on a busy machine; on an idle one it is some milliseconds.
const WINDOW: Duration = Duration::from_secs(2);

pub(crate) fn trials() -> Vec<Trial> {
    [
        hotplug::trials(),
        lost::trials(),
        foreign::trials(),
        tun::trials(),
        alarms::trials(),
        jumbo::trials(),
        forwarding::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A configuration with these devices in `listen.interfaces`, in automatic mode.
fn on(interfaces: &str) -> Config {
    Config { listen: listen(interfaces, "auto"), ..Config::default() }
}

/// The host's address on the link of this number.
fn host(link: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, link * 8 + 1)
}

/// Lines of `ip` that join the host and the stranger by one more device of this name on both sides, which stays down.
fn link(stage: &Stage, name: &str) -> Result<()> {
    let stranger = stage.net.stranger.name();
    stage.net.host.ip(&format!("link add name {name} type veth peer name {name} netns {stranger}"))
}

/// Gives both ends of such a link their addresses and brings it up.
fn bring_up(stage: &Stage, name: &str, number: u8) -> Result<()> {
    let [a, b, c, d] = host(number).octets();
    let peer = Ipv4Addr::new(a, b, c, d + 1);
    stage.net.stranger.ip(&format!("addr add {peer}/29 dev {name}\nlink set {name} up"))?;
    stage.net.host.ip(&format!("addr add {}/29 dev {name}\nlink set {name} up", host(number)))
}

/// Requires that the stranger is shut out there, and that unprotected ports are open.
fn expect_closed(stage: &Stage, address: impl Into<IpAddr>) -> Result<()> {
    let address = address.into();
    wait::for_true(&format!("tcp/{FREE} on {address}"), PATIENCE, || Ok(tcp(stage, address, FREE)? == Port::Open))?;
    // An address that is as new as its device is followed in a moment of its own.
    let found = || anyhow::Ok((tcp(stage, address, HTTPS)?, udp(stage, address)?));
    wait::for_true(&format!("{address} to be closed"), PATIENCE, || Ok(found()? == (Port::Silent, Port::Silent)))?;
    let found = found()?;
    ensure!(found == (Port::Silent, Port::Silent), "the stranger finds {found:?} on {address}");
    Ok(())
}

/// Requires that the stranger gets in, once: then what keeps it out is the program.
fn expect_open(stage: &Stage, address: impl Into<IpAddr>) -> Result<()> {
    let address = address.into();
    wait::for_true(&format!("tcp/{HTTPS} on {address}"), PATIENCE, || Ok(tcp(stage, address, HTTPS)? == Port::Open))
}

/// Lets the stranger, who borrows a token, in through a knock to that address; then the grant ends.
fn expect_opened_by_a_knock(stage: &Stage, address: impl Into<IpAddr>) -> Result<()> {
    let address = address.into();
    let before = stage.metrics()?;
    probe::send(&stage.net.stranger, SocketAddr::new(address, KNOCK_PORT), stage.token()?.as_bytes())?;
    wait::for_true("the knock to be granted", PATIENCE, || {
        Ok(stage.metrics()?.knocks("granted") > before.knocks("granted"))
    })?;
    ensure!(tcp(stage, address, HTTPS)? == Port::Open, "tcp/{HTTPS} on {address} after a knock");
    wait::for_true("the end of the grant", PATIENCE, || Ok(tcp(stage, address, HTTPS)? == Port::Silent))
}

fn tcp(stage: &Stage, address: IpAddr, port: u16) -> Result<Port> {
    probe::tcp(stage.net.of(Member::Stranger), SocketAddr::new(address, port))
}

fn udp(stage: &Stage, address: IpAddr) -> Result<Port> {
    probe::udp(stage.net.of(Member::Stranger), SocketAddr::new(address, UDP))
}

/// A device of the host, as the kernel has it now.
fn device(stage: &Stage, name: &str) -> Result<Option<Device>> {
    stage.net.host.run(|| Ok(interfaces::list()?.into_iter().find(|device| device.name == name)))
}

/// Waits until a program is on a device of the host, and returns it.
fn wait_attached(stage: &Stage, name: &str) -> Result<Device> {
    wait::for_some(&format!("a program on {name}"), PATIENCE, || {
        Ok(device(stage, name)?.filter(|device| !device.xdp_programs.is_empty()))
    })
}

/// How long a device that is about to appear is without a program, from when its name is known: that can be asked
/// without the lock that others need to change devices.
fn watch_window(stage: &Stage, name: &str) -> Result<Duration> {
    stage.net.host.run(|| {
        let deadline = wait::now().after(PATIENCE);
        while nix::net::if_::if_nametoindex(name).is_err() {
            ensure!(wait::now() < deadline, "{name} does not appear");
        }
        let appeared = wait::now();
        while wait::now() < deadline {
            let found = interfaces::list()?.into_iter().find(|device| device.name == name);
            if found.is_some_and(|device| !device.xdp_programs.is_empty()) {
                return Ok(appeared.until(wait::now()));
            }
        }
        anyhow::bail!("no program on {name}")
    })
}

/// Everything that is pinned, in whatever layout.
fn pins(stage: &Stage) -> Result<Vec<PathBuf>> {
    let layouts = std::fs::read_dir(&stage.pins)?.filter_map(Result::ok).map(|layout| layout.path());
    let pins = layouts.filter_map(|layout| std::fs::read_dir(layout).ok()).flatten();
    Ok(pins.filter_map(|pin| Some(pin.ok()?.path())).collect())
}

fn pin_name(pin: &Path) -> String {
    pin.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// `jpat status -o json`.
fn status(stage: &Stage) -> Result<Value> {
    let text = stage.admin_ok(&["status", "-o", "json"])?;
    serde_json::from_str(&text).with_context(|| text.clone())
}

/// What `status` says of an interface.
fn interface(status: &Value, name: &str) -> Option<Value> {
    status["interfaces"].as_array()?.iter().find(|interface| interface["name"] == name).cloned()
}

/// Alarms that speak of `what`.
fn alarms(status: &Value, what: &str) -> Vec<String> {
    let alarms = status["alarms"].as_array().into_iter().flatten().filter_map(Value::as_str);
    alarms.filter(|alarm| alarm.contains(what)).map(str::to_owned).collect()
}

/// Waits until `status` raises an alarm that speaks of `what`, or none, and returns it.
fn wait_alarm(stage: &Stage, what: &str, is_raised: bool) -> Result<String> {
    let claim = if is_raised { "an alarm" } else { "no alarm" };
    wait::for_some(&format!("{claim} about {what}"), PATIENCE, || {
        let found = alarms(&status(stage)?, what);
        Ok((found.is_empty() != is_raised).then(|| found.concat()))
    })
}

/// What was measured.
#[expect(clippy::print_stdout, reason = "figures are shown whatever the verdict")]
fn tell(text: &str) {
    println!("{text}");
}
