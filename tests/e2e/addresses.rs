//! `destinations = "local"` is what the kernel takes for its own, now and later: promise P2.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    capture::FENCE_PORT,
    network::{Family, Member},
    probe::{self, Port, SILENCE},
    wait::{self, PATIENCE},
};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::{
    config::{Config, FREE, HTTPS, UDP},
    stage::Stage,
    trial,
};

/// How long a new address may be open on a busy machine; on an idle one it is a few milliseconds.
const WINDOW: Duration = Duration::from_secs(1);
/// Multicast groups that `jpatd` has subscribed to, as /proc/net/netlink writes them.
const GROUPS: &str = "00000550";
/// An address that is nobody's; the stranger has a route to it through the host.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 200));

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (family, added) in [(Family::V4, "192.0.2.77/24"), (Family::V6, "2001:db8::77/64")] {
        let name = format!("p2_an_address_added_while_running_is_judged_{}", family.as_str().to_lowercase());
        trials.push(trial::on(name, Config::default, move |stage| added_while_running(stage, family, added)));
    }
    trials.extend([
        trial::on("p2_a_directed_broadcast_reaches_no_protected_port", Config::default, directed_broadcast),
        trial::on("p2_ipv6_anycast_of_a_forwarding_host_is_judged", Config::default, anycast),
        trial::on("p2_local_routes_are_judged_and_a_proxys_default_is_not", Config::default, any_ip),
        trial::on("p2_an_address_that_came_in_a_storm_is_judged", Config::default, storm),
        trial::on("p2_addresses_that_do_not_fit_close_every_destination", Config::default, too_many),
    ]);
    trials
}

fn added_while_running(stage: &mut Stage, family: Family, added: &str) -> Result<()> {
    const HARDWARE: &str = "02:00:00:00:00:01";
    let address: IpAddr = added.split('/').next().unwrap_or_default().parse()?;
    stage.net.host.ip(&format!("link set eth0 address {HARDWARE}"))?;
    // The stranger lies in wait for the address and needs no neighbour discovery.
    stage.net.stranger.ip(&format!("neigh add {address} lladdr {HARDWARE} dev eth0"))?;
    stage.start(&[])?;
    let stop = AtomicBool::new(false);
    let (open, closed) = std::thread::scope(|scope| {
        let prober = scope.spawn(|| open_for(stage, SocketAddr::new(address, UDP), &stop));
        let added = stage.net.host.ip(&format!("addr add {added} dev eth0"));
        let closed = added.and_then(|()| closes(stage, address, WINDOW));
        stop.store(true, Relaxed);
        (prober.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), closed)
    });
    closed?;
    let open = open?;
    ensure!(open < WINDOW, "{address} was open for {open:?}");
    let port = probe::tcp(&stage.net.stranger, SocketAddr::new(address, HTTPS))?;
    ensure!(port == Port::Silent, "tcp/{HTTPS} on {added}: {port:?}");
    // It is an address like the others: unprotected ports are open, and a knock opens the others.
    for member in [Member::Stranger, Member::Client] {
        let free = probe::tcp(stage.net.of(member), SocketAddr::new(address, FREE))?;
        ensure!(free == Port::Open, "tcp/{FREE} on {added}: {free:?}");
    }
    stage.knock(Member::Client, family, &stage.token()?, "granted")?;
    let web = probe::tcp(&stage.net.client, SocketAddr::new(address, HTTPS))?;
    ensure!(web == Port::Open, "tcp/{HTTPS} on {added} after a knock: {web:?}");
    Ok(())
}

fn directed_broadcast(stage: &mut Stage) -> Result<()> {
    // The interfaces of the stage have no broadcast address; the routing table has one.
    let broadcast = Ipv4Addr::new(192, 0, 2, 255).into();
    ensure!(answers(stage, broadcast, UDP)?, "without jpatd a broadcast reaches the service");
    stage.start(&[])?;
    expect_closed(stage, broadcast)?;
    // A second subnet while it runs.
    stage.net.host.ip("addr add 203.0.113.1/25 dev eth0")?;
    stage.net.stranger.ip("addr add 203.0.113.66/25 dev eth0")?;
    closes(stage, Ipv4Addr::new(203, 0, 113, 127).into(), WINDOW)
}

fn anycast(stage: &mut Stage) -> Result<()> {
    let router = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0));
    forward(stage, true)?;
    wait::for_true("anycast without jpatd", PATIENCE, || answers(stage, router, UDP))?;
    stage.start(&[])?;
    expect_closed(stage, router)?;
    // A host that becomes a router while it runs.
    forward(stage, false)?;
    let ends = SocketAddr::new(router, FENCE_PORT);
    wait::for_true("the end of anycast", PATIENCE, || Ok(!answers(stage, router, ends.port())?))?;
    forward(stage, true)?;
    closes(stage, router, WINDOW)
}

fn any_ip(stage: &mut Stage) -> Result<()> {
    stage.net.stranger.ip("route add 198.51.100.0/24 via 192.0.2.1\nroute add 2001:db8:1::/48 via 2001:db8::1")?;
    stage.start(&[])?;
    ensure!(!is_judged(stage, ELSEWHERE)?, "{ELSEWHERE} is not the host's");
    stage.net.host.ip("route add local default dev lo table 100\nroute add local 198.51.100.0/25 dev lo")?;
    stage.net.host.ip("route add local 2001:db8:1::/64 dev lo")?;
    closes(stage, Ipv4Addr::new(198, 51, 100, 7).into(), WINDOW)?;
    closes(stage, Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 7).into(), WINDOW)?;
    ensure!(!is_judged(stage, ELSEWHERE)?, "{ELSEWHERE} is not the host's, whatever is proxied");
    stage.net.host.ip("route del local 198.51.100.0/25 dev lo")?;
    let gone = Ipv4Addr::new(198, 51, 100, 7).into();
    wait::for_true("a removed prefix not to be judged", PATIENCE, || Ok(!is_judged(stage, gone)?))
}

fn storm(stage: &mut Stage) -> Result<()> {
    stage.start(&[])?;
    stage.signal(Signal::SIGSTOP)?;
    let churn: String = (0..3_000)
        .map(|at| {
            let address = format!("100.64.{}.{}/32 dev eth0\n", at / 250, at % 250);
            format!("addr add {address}addr del {address}")
        })
        .collect();
    let stormed = stage.net.host.ip(&format!("{churn}addr add 192.0.2.99/24 dev eth0"));
    let lost = lost_messages(stage);
    stage.signal(Signal::SIGCONT)?;
    stormed?;
    let lost = lost?;
    ensure!(lost > 0, "the storm was too small to overrun the socket");
    closes(stage, Ipv4Addr::new(192, 0, 2, 99).into(), WINDOW)?;
    // It still hears.
    stage.net.host.ip("addr add 192.0.2.98/24 dev eth0")?;
    closes(stage, Ipv4Addr::new(192, 0, 2, 98).into(), WINDOW)
}

fn too_many(stage: &mut Stage) -> Result<()> {
    stage.net.stranger.ip("route add 198.51.100.0/24 via 192.0.2.1")?;
    stage.start(&[])?;
    ensure!(!is_judged(stage, ELSEWHERE)?, "{ELSEWHERE} is not the host's");
    let routes = |verb: &str| -> String {
        (0..4_200).map(|at| format!("route {verb} local 100.64.{}.{} dev lo\n", at / 250, at % 250)).collect()
    };
    stage.net.host.ip(&routes("add"))?;
    let alarm = "addresses cannot be followed";
    wait::for_true("the alarm", PATIENCE, || Ok(stage.admin_ok(&["status"])?.contains(alarm)))?;
    ensure!(is_judged(stage, ELSEWHERE)?, "the list is too long and {ELSEWHERE} is not judged");
    // A reload and a restart change nothing about it.
    stage.admin_ok(&["reload"])?;
    ensure!(stage.admin_ok(&["status"])?.contains(alarm) && is_judged(stage, ELSEWHERE)?, "after a reload");
    stage.end(Signal::SIGKILL)?;
    stage.start(&[])?;
    ensure!(stage.admin_ok(&["status"])?.contains(alarm) && is_judged(stage, ELSEWHERE)?, "after a restart");
    expect_closed(stage, Member::Host.address(Family::V4))?;
    stage.net.host.ip(&routes("del"))?;
    wait::for_true("the end of the alarm", PATIENCE, || Ok(!stage.admin_ok(&["status"])?.contains(alarm)))?;
    ensure!(!is_judged(stage, ELSEWHERE)?, "the list fits again and {ELSEWHERE} is judged");
    expect_closed(stage, Member::Host.address(Family::V4))
}

/// Requires that the protected service at `address` falls silent in time and stays so.
fn closes(stage: &Stage, address: IpAddr, patience: Duration) -> Result<()> {
    // The first answer takes neighbour discovery.
    wait::for_true(&format!("{address} to be used"), PATIENCE, || answers(stage, address, FENCE_PORT))?;
    wait::for_true(&format!("{address} to be closed"), patience, || Ok(!answers(stage, address, UDP)?))?;
    expect_closed(stage, address)
}

/// Asks without a pause until it is told to stop: the time from the first answer to the last.
fn open_for(stage: &Stage, to: SocketAddr, stop: &AtomicBool) -> Result<Duration> {
    stage.net.stranger.run(|| {
        let socket = probe::udp_socket(to)?;
        socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        let mut answers = None;
        while !stop.load(Relaxed) {
            if socket.send(b"open?").is_ok() && socket.recv(&mut [0; 16]).is_ok() {
                let now = wait::now();
                answers = Some((answers.map_or(now, |(first, _)| first), now));
            }
        }
        Ok(answers.map_or(Duration::ZERO, |(first, last)| first.until(last)))
    })
}

/// Requires that the unprotected service is there and the protected one is not.
fn expect_closed(stage: &Stage, address: IpAddr) -> Result<()> {
    ensure!(answers(stage, address, FENCE_PORT)?, "udp/{FENCE_PORT} on {address} does not answer");
    for _ in 0..3 {
        ensure!(!answers(stage, address, UDP)?, "udp/{UDP} on {address} answers the stranger");
    }
    Ok(())
}

/// Whether the stranger gets any answer: one to a broadcast or an anycast comes from another address.
fn answers(stage: &Stage, address: IpAddr, port: u16) -> Result<bool> {
    let stranger = &stage.net.stranger;
    stranger.run(|| {
        let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.set_broadcast(true)?;
        socket.set_read_timeout(Some(SILENCE))?;
        socket.send_to(b"anybody?", (address, port)).with_context(|| format!("send to {address}"))?;
        Ok(socket.recv(&mut [0; 16]).is_ok())
    })
}

/// Whether the program judges what the stranger sends to a protected port of `address`.
fn is_judged(stage: &Stage, address: IpAddr) -> Result<bool> {
    let before = stage.metrics()?;
    probe::send(&stage.net.stranger, SocketAddr::new(address, UDP), b"anybody?")?;
    wait::for_some("the packet to be counted", PATIENCE, || {
        let now = stage.metrics()?;
        let came = |reason| now.packets(reason) > before.packets(reason);
        Ok((came("no_grant") || came("other_destination")).then(|| came("no_grant")))
    })
}

fn forward(stage: &Stage, is_router: bool) -> Result<()> {
    let value = if is_router { "1" } else { "0" };
    stage.net.host.run(|| Ok(std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", value)?))
}

/// Messages that `jpatd`'s subscription lost.
fn lost_messages(stage: &Stage) -> Result<u64> {
    let table = stage.net.host.run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/netlink")?))?;
    let mut rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.get(3) == Some(&GROUPS)).with_context(|| format!("no subscription in\n{table}"))?;
    Ok(row.get(8).context("no drops")?.parse()?)
}
