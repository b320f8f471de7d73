//! How late a grant ends when only the program is there to end it: promise P3, measured over many grants.
//!
//! The verdict hangs on no schedule. A probe carries the boot time that was read before it was sent, and one that arrives
//! proves that the program let it pass later than that. So "sent later than end plus one tick, and arrived" is a late end
//! whatever else ran; and "sent before the end, and lost" is an early one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use jpat_common::{
    addr,
    grant::{GrantKey, GrantValue},
    map_name,
};
use jpat_tests::{
    network::Family,
    wait::{self, PATIENCE},
};
use jpat_userspace::clock::BootTime;
use libtest_mimic::Trial;
use nix::{
    sys::{
        signal::Signal,
        socket::{setsockopt, sockopt::RcvBufForce},
    },
    time::{ClockId, clock_getres},
};
use serde_json::json;

use crate::{
    config::{Config, KNOCK_PORT},
    stage::{Stage, address},
    trial,
};

/// Grants that must be measured.
const MEASURED: usize = 200;
/// Grants that are written: a prober that did not run just before an end measures nothing there.
const GRANTS: u16 = 300;
/// Protected, with a listener that counts.
const PORT: u16 = 7_443;
/// Probing begins so long before an end, and goes on until one is sent so long after it.
const BEFORE: Duration = Duration::from_millis(60);
const AFTER: Duration = Duration::from_millis(40);
/// Time between two knocks, so that few ends are near at a time; not a whole number of ticks.
const PACE: Duration = Duration::from_micros(8_300);

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial::on("p3_overrun_of_200_grants_with_the_controller_dead", config, overrun)]
}

fn config() -> Config {
    let service = format!(
        "[[service]]\nname = \"probed\"\nissuers = [\"corp\"]\nports = [\"udp/{PORT}\"]\nttl = \"5s\"\nallow = 'true'\n\
         sessions = \"cut\"\n"
    );
    Config { services: vec![service], ..Config::default() }
}

/// One probe: when the clock was read for it, and when its send had returned.
#[derive(Clone, Copy)]
struct Probe {
    grant: u16,
    before: BootTime,
    after: BootTime,
}

fn overrun(stage: &mut Stage) -> Result<()> {
    let sources: Vec<IpAddr> = (1..=GRANTS).map(source).collect();
    let lines: String = sources.iter().map(|source| format!("addr add {source} dev eth0\n")).collect();
    stage.net.client.ip(&lines)?;
    stage.start(&[])?;
    knock_from_all(stage, &sources)?;
    let ends = ends(stage, &sources)?;
    stage.end(Signal::SIGKILL)?;
    let first = ends.iter().min().copied().context("no grants")?;
    ensure!(wait::now().after(BEFORE) < first, "the first grant ended before the controller was dead");

    let stop = Arc::new(AtomicBool::new(false));
    let (probes, arrived) = std::thread::scope(|scope| {
        let (ready, listening) = std::sync::mpsc::channel();
        let listener = scope.spawn(|| stage.net.host.run(|| listen(ready, &stop)));
        let probes = listening.recv().context("no listener").and_then(|()| {
            let probes = stage.net.client.run(|| probe_all(&sources, &ends));
            wait::until(wait::now().after(AFTER));
            probes
        });
        stop.store(true, Relaxed);
        (probes, listener.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    judge(&probes?, &arrived?, &ends)
}

fn source(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    if number.is_multiple_of(2) {
        Ipv4Addr::new(198, 18, high, low).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, number).into()
    }
}

const fn family(source: IpAddr) -> Family {
    match source {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

fn knock_from_all(stage: &Stage, sources: &[IpAddr]) -> Result<()> {
    let mut next = wait::now();
    for (number, source) in sources.iter().enumerate() {
        next = next.after(PACE);
        let claims = stage.claims_with(json!({ "sub": format!("employee:{number}") }));
        let token = stage.key.token(&claims)?;
        wait::until(next);
        stage.net.client.run(|| {
            let socket = UdpSocket::bind((*source, 0))?;
            socket.send_to(token.as_bytes(), address(family(*source), KNOCK_PORT))?;
            Ok(())
        })?;
    }
    wait::for_true("all grants", PATIENCE, || Ok(stage.metrics()?.knocks("granted") == f64::from(GRANTS)))
}

/// The ends that the program goes by, from the map that outlives the controller.
fn ends(stage: &Stage, sources: &[IpAddr]) -> Result<Vec<BootTime>> {
    let layouts = std::fs::read_dir(&stage.pins)?.filter_map(|layout| Some(layout.ok()?.path().join(map_name::GRANTS)));
    let pin = layouts.into_iter().find(|pin| pin.exists()).context("no pinned grants")?;
    let map = Map::LruHashMap(MapData::from_pin(&pin).with_context(|| pin.display().to_string())?);
    let map: HashMap<MapData, GrantKey, GrantValue> = HashMap::try_from(map)?;
    let mut ends = BTreeMap::new();
    for entry in map.iter() {
        let (key, value) = entry?;
        ends.insert(*key.source(), BootTime(value.end_ns()));
    }
    sources
        .iter()
        .map(|source| {
            let key = match source {
                IpAddr::V4(source) => addr::from_v4(source.octets()),
                IpAddr::V6(source) => source.octets(),
            };
            ends.get(&key).copied().with_context(|| format!("{source} has no grant"))
        })
        .collect()
}

/// Sends probes from every source whose end is near, as fast as it goes.
fn probe_all(sources: &[IpAddr], ends: &[BootTime]) -> Result<Vec<Probe>> {
    let mut sockets = Vec::new();
    for source in sources {
        let socket = UdpSocket::bind((*source, 0))?;
        socket.connect(address(family(*source), PORT))?;
        sockets.push(socket);
    }
    let mut probes = Vec::new();
    let mut is_done = vec![false; ends.len()];
    while is_done.contains(&false) {
        let now = wait::now();
        let mut is_idle = true;
        for (grant, (socket, end)) in sockets.iter().zip(ends).enumerate() {
            if now.after(BEFORE) < *end || is_done[grant] {
                continue;
            }
            is_idle = false;
            let (before, number) = (wait::now(), grant as u16);
            socket.send(&[&number.to_be_bytes()[..], &before.0.to_be_bytes()].concat())?;
            probes.push(Probe { grant: number, before, after: wait::now() });
            is_done[grant] = before > end.after(AFTER);
        }
        if is_idle {
            let next = ends.iter().filter(|end| **end > now).min().copied().unwrap_or(now);
            wait::until(BootTime(next.0.saturating_sub(BEFORE.as_nanos() as u64)));
        }
    }
    Ok(probes)
}

/// What arrives: grant and time of each probe.
fn listen(ready: std::sync::mpsc::Sender<()>, stop: &AtomicBool) -> Result<BTreeSet<(u16, u64)>> {
    let socket = UdpSocket::bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT))?;
    setsockopt(&socket, RcvBufForce, &(64 << 20))?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    ready.send(()).context("nobody waits for the listener")?;
    let (mut arrived, mut buffer) = (BTreeSet::new(), [0; 16]);
    while !stop.load(Relaxed) {
        if let Ok(10) = socket.recv(&mut buffer) {
            let sent = buffer[2..10].try_into().map(u64::from_be_bytes)?;
            arrived.insert((u16::from_be_bytes([buffer[0], buffer[1]]), sent));
        }
    }
    Ok(arrived)
}

#[expect(clippy::print_stdout, reason = "the figures are the test's result")]
fn judge(probes: &[Probe], arrived: &BTreeSet<(u16, u64)>, ends: &[BootTime]) -> Result<()> {
    let tick = Duration::from(clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)?);
    let signed = |moment: BootTime, end: BootTime| (moment.0 as i128 - end.0 as i128) as f64 / 1e6;
    let (mut overruns, mut bounds, mut steps, mut early) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for (grant, end) in ends.iter().enumerate() {
        let own: Vec<_> = probes.iter().filter(|probe| usize::from(probe.grant) == grant).collect();
        let passed = |probe: &Probe| arrived.contains(&(probe.grant, probe.before.0));
        if !own.iter().any(|probe| probe.after < *end) {
            continue;
        }
        let last =
            own.iter().rposition(|probe| passed(probe)).with_context(|| format!("grant {grant} passed nothing"))?;
        let next = own.get(last + 1).with_context(|| format!("grant {grant} never ended"))?;
        early += own.iter().filter(|probe| probe.after < *end && !passed(probe)).count();
        overruns.push(signed(own[last].before, *end));
        bounds.push(signed(next.after, *end));
        steps.push(signed(next.before, own[last].before));
    }
    for figures in [&mut overruns, &mut bounds, &mut steps] {
        figures.sort_by(f64::total_cmp);
    }
    let (median, maximum) = (|of: &[f64]| of[of.len() / 2], |of: &[f64]| of[of.len() - 1]);
    println!(
        "grant end overrun over {} grants, controller dead, {} probes, tick {tick:?}: last passing probe sent \
         {:+.3} ms after the end (median {:+.3}, minimum {:+.3}); first dropped one done by {:+.3} ms (median {:+.3}); \
         time between the two {:.3} ms (median {:.3}); lost before the end: {early}",
        overruns.len(),
        probes.len(),
        maximum(&overruns),
        median(&overruns),
        overruns[0],
        maximum(&bounds),
        median(&bounds),
        maximum(&steps),
        median(&steps),
    );
    ensure!(overruns.len() >= MEASURED, "only {} grants were probed just before their end", overruns.len());
    ensure!(early == 0, "{early} probes were lost before the end of their grant");
    let late = maximum(&overruns);
    ensure!(late <= tick.as_secs_f64() * 1e3, "a probe sent {late:.3} ms after the end passed; the tick is {tick:?}");
    Ok(())
}
