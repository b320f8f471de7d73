//! The named vectors and their truncations, on the host.

#[path = "../../tests/harness/knocks.rs"]
pub mod knocks;
#[path = "../../tests/harness/packet.rs"]
pub mod packet;
#[path = "../../tests/harness/vectors/mod.rs"]
pub mod vectors;
#[path = "../../tests/harness/world.rs"]
pub mod world;

use std::collections::BTreeSet;

use jpat_common::reason::PassReason;
use jpat_ebpf::{
    decide::decide,
    frame::Cursor,
    parse::parse,
    verdict::{Decision, Verdict},
};
use vectors::Vector;
use world::World;

const NOW_NS: u64 = 1_000_000_000_000;

fn judge(world: &World, vector: &Vector, frame: &[u8]) -> Decision {
    decide(&parse(Cursor::over(frame)), &vector.settings(&world.settings), world)
}

#[test]
fn p2_every_vector_has_its_verdict() {
    let world = World::new(NOW_NS);
    let mut names = BTreeSet::new();
    let wrong: Vec<_> = vectors::all()
        .iter()
        .filter(|vector| {
            assert!(names.insert(vector.name.clone()), "twice: {}", vector.name);
            judge(&world, vector, &vector.frame) != vector.expected
        })
        .map(|vector| format!("{}: {:?}, not {:?}", vector.name, judge(&world, vector, &vector.frame), vector.expected))
        .collect();
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), names.len(), wrong.join("\n"));
}

/// A frame cut anywhere never passes for a reason that its whole did not have, but as another host's.
#[test]
fn p2_no_truncation_opens_what_the_whole_frame_does_not() {
    let world = World::new(NOW_NS);
    for vector in vectors::all() {
        if matches!(vector.expected.verdict, Verdict::Pass(_)) {
            continue;
        }
        for length in 0..vector.frame.len() {
            let cut = &vector.frame[..length];
            let verdict = judge(&world, &vector, cut).verdict;
            assert!(
                matches!(verdict, Verdict::Drop(_) | Verdict::Knock),
                "{} cut at {length}: {verdict:?}",
                vector.name
            );
        }
    }
}

/// Of a granted segment, nothing passes under the grant unless the packet is whole.
#[test]
fn p2_a_grant_passes_whole_packets_only() {
    let world = World::new(NOW_NS);
    for vector in vectors::all() {
        if vector.expected.verdict != Verdict::Pass(PassReason::Grant) || vector.name.contains("padding") {
            continue;
        }
        for length in 0..vector.frame.len() {
            let verdict = judge(&world, &vector, &vector.frame[..length]).verdict;
            assert!(matches!(verdict, Verdict::Drop(_)), "{} cut at {length}: {verdict:?}", vector.name);
        }
    }
}
