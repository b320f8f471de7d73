//! What a packet costs in a plain test run, harness included. Run with `--bench`.

use anyhow::{Result, ensure};
use jpat_ebpf::verdict::{XDP_DROP, XDP_PASS};
use jpat_tests::{
    knocks::{FOREIGN, STAFF, Sealed, TagKey},
    packet::{ETHER_IPV4, ETHER_IPV6, SYN, TCP, UDP, ethernet, ipv4, ipv6, tcp, udp},
    world::{FREE_PORT, GRANTED, HOST4, HOST6, KNOCK_PORT, OTHER4, STRANGER, WEB_PORT},
};
use libtest_mimic::{Measurement, Trial};

use crate::kernel::{self, Kernel};

const REPEAT: u32 = 1_000_000;

pub(crate) fn trials() -> Vec<Trial> {
    let v4 =
        |source, destination, port| ethernet(ETHER_IPV4, &ipv4(source, destination, TCP, 0, &[], &tcp(port, SYN, &[])));
    let v6 = |source, port| ethernet(ETHER_IPV6, &ipv6(source, HOST6, TCP, &tcp(port, SYN, &[])));
    [
        ("cost_not_ip", ethernet(0x0806, &[0; 46]), XDP_PASS),
        ("cost_unprotected_v4", v4(STRANGER.v4, HOST4, FREE_PORT), XDP_PASS),
        ("cost_unprotected_v6", v6(STRANGER.v6, FREE_PORT), XDP_PASS),
        ("cost_another_destination_v4", v4(STRANGER.v4, OTHER4, WEB_PORT), XDP_PASS),
        ("cost_no_grant_v4", v4(STRANGER.v4, HOST4, WEB_PORT), XDP_DROP),
        ("cost_no_grant_v6", v6(STRANGER.v6, WEB_PORT), XDP_DROP),
        ("cost_grant_v4", v4(GRANTED.v4, HOST4, WEB_PORT), XDP_PASS),
        ("cost_grant_v6", v6(GRANTED.v6, WEB_PORT), XDP_PASS),
        ("cost_knock_unknown_key_800", knock(FOREIGN, 800), XDP_DROP),
        ("cost_knock_bad_tag_128", knock(FORGED, 128), XDP_DROP),
        ("cost_knock_bad_tag_800", knock(FORGED, 800), XDP_DROP),
        ("cost_knock_bad_tag_1232", knock(FORGED, 1_232), XDP_DROP),
    ]
    .into_iter()
    .map(|(name, frame, action)| {
        Trial::bench(name, move |is_test| {
            measure(&frame, action, if is_test { 1 } else { REPEAT })
                .map(|avg| Some(Measurement { avg, variance: 0 }))
                .map_err(|error| format!("{error:#}").into())
        })
    })
    .collect()
}

/// Under an id that the host has, and another secret.
const FORGED: TagKey = TagKey { secret: FOREIGN.secret, ..STAFF };

fn knock(key: TagKey, length: usize) -> Vec<u8> {
    // A test run begins a moment later.
    let sealed = Sealed::new(key, kernel::boot_ns().unwrap_or_default(), length, 1);
    ethernet(ETHER_IPV4, &ipv4(STRANGER.v4, HOST4, UDP, 0, &[], &udp(KNOCK_PORT, &sealed.bytes())))
}

/// Nanoseconds per packet: the best of five, because other work on the machine only ever adds.
fn measure(frame: &[u8], action: u32, repeat: u32) -> Result<u64> {
    let mut world = kernel::world()?;
    world.settings.flags = 0;
    let kernel = Kernel::load(&world)?;
    let mut best = u64::MAX;
    for _ in 0..5 {
        let (done, ns) = kernel.run_times(frame, repeat)?;
        ensure!(done == action, "action {done}, not {action}");
        best = best.min(ns);
    }
    Ok(best)
}
