//! The shared table of evasions ([`jpat_tests::evasion`]), over a wire: each case on its own, its frames counted one by one
//! at a tap behind the program, its reasons in the metrics, its silence at the stranger.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context, Result, ensure};
use jpat_ebpf::verdict::Verdict;
use jpat_tests::{
    evasion::{self, Case, From, Host, Peer, Scene},
    network::{Family, Member},
    wait,
};
use libtest_mimic::Trial;

use super::{
    arena::{Arena, FREE, Guard, SEALED, Way},
    counters,
    shot::HOST_MAC,
};
use crate::{config::KNOCK_PORT, stage::Stage, trial};

/// Longest frame that the wire takes: its MTU, the Ethernet header and a tag.
const LONGEST: usize = 1_500 + 14 + 4;
const STRANGER_MAC: [u8; 6] = [2, 0x4a, 0x51, 0, 0, 1];
const GRANTED_MAC: [u8; 6] = [2, 0x4a, 0x51, 0, 0, 2];

pub(super) fn trials() -> Vec<Trial> {
    [("native", Guard::Native), ("generic", Guard::Generic)]
        .map(|(name, guard)| {
            trial::plain(format!("p2_evasion_the_shared_table_over_a_wire_{name}"), move || over_a_wire(guard))
        })
        .into()
}

fn over_a_wire(guard: Guard) -> Result<()> {
    let mut cases = evasion::cases(&scene());
    ensure!(cases.len() > 100, "{} cases", cases.len());
    cases.sort_by_key(|case| case.drop_tunnels);
    let mut arena = Arena::new(guard, "pass", patient)?;
    let mut tunnels_dropped = false;
    let (mut sent, mut faults) = (0, Vec::new());
    for case in cases.iter().filter(|case| case.frames.iter().all(|expected| expected.frame.len() <= LONGEST)) {
        if case.drop_tunnels && !tunnels_dropped {
            let path = arena.stage.path("jpat.toml");
            let text = std::fs::read_to_string(&path)?;
            std::fs::write(path, text.replace("tunnels = \"pass\"", "tunnels = \"drop\""))?;
            arena.stage.admin_ok(&["reload"])?;
            tunnels_dropped = true;
        }
        if let Err(error) = judge(&mut arena, case) {
            faults.push(format!("{}: {error:#}", case.name));
        }
        sent += 1;
    }
    ensure!(faults.is_empty(), "{} of {sent} cases:\n{}", faults.len(), faults.join("\n"));
    ensure!(sent > 100, "only {sent} cases fit the wire");
    Ok(())
}

/// First fragments that no port is read from pass; the host tells half a minute later that nothing completed them, and
/// that would be an answer to another case.
fn patient(stage: &Stage) -> Result<()> {
    stage.net.host.run(|| {
        for key in ["ipv4/ipfrag_time", "ipv6/ip6frag_time"] {
            std::fs::write(format!("/proc/sys/net/{key}"), "600")?;
        }
        Ok(())
    })
}

fn judge(arena: &mut Arena, case: &Case) -> Result<()> {
    let is_granted = case.from == From::Granted;
    for family in Family::ALL.into_iter().filter(|_| is_granted) {
        let source = Member::Client.address(family).to_string();
        arena.stage.admin_ok(&["grants", "add", &source, "sealed"])?;
    }
    let before = counters::read(&arena.stage)?;
    for expected in &case.frames {
        arena.send(Way::Wire, &expected.frame)?;
    }
    let sight = arena.settle(Way::Wire)?;
    let passing = case.frames.iter().filter(|expected| matches!(expected.verdict, Verdict::Pass(_))).count();
    let own = |frame: &&Vec<u8>| case.frames.iter().any(|expected| expected.frame.get(6..12) == frame.get(6..12));
    let passed = sight.behind.iter().filter(own).count();
    ensure!(passed == passing, "{passed} frames pass, not {passing}");
    let mut expected: BTreeMap<&str, f64> = BTreeMap::new();
    for frame in &case.frames {
        *expected.entry(counters::label(frame.verdict)).or_default() += 1.0;
    }
    counters::expect(&arena.stage, &before, &expected, wait::PATIENCE / 5, |reason| reason)?;
    if is_granted {
        arena.stage.admin_ok(&["grants", "flush"])?;
    } else {
        let leaks = sight.leaks();
        ensure!(leaks.is_empty(), "LEAK: {leaks:?}");
    }
    // What passes may be answered: an echo request is, and so is an unprotected port.
    ensure!(passing > 0 || sight.before.is_empty(), "answered with {:02x?}", sight.before);
    let connections = arena.connections()?;
    ensure!(is_granted || connections.is_empty(), "the host has connections: {connections:?}");
    Ok(())
}

fn scene() -> Scene {
    let peer = |member: Member, mac| -> Result<Peer> {
        let v4: Ipv4Addr = member.address(Family::V4).to_string().parse().context("an IPv4 address")?;
        let v6: Ipv6Addr = member.address(Family::V6).to_string().parse().context("an IPv6 address")?;
        Ok(Peer { mac, v4: v4.octets(), v6: v6.octets() })
    };
    let nobody = Peer { mac: [0; 6], v4: [0; 4], v6: [0; 16] };
    let peer = |member, mac| peer(member, mac).unwrap_or(nobody);
    Scene {
        host: Host {
            peer: peer(Member::Host, HOST_MAC),
            broadcast: [192, 0, 2, 255],
            port: SEALED,
            free_port: FREE,
            knock_port: KNOCK_PORT,
        },
        stranger: peer(Member::Stranger, STRANGER_MAC),
        granted: peer(Member::Client, GRANTED_MAC),
    }
}
