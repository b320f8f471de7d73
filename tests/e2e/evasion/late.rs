//! Late last fragments: a stack keeps a first fragment for half a minute (IPv4) or a minute (IPv6) and still puts the
//! datagram together then.

use std::time::Duration;

use anyhow::{Result, ensure};
use jpat_tests::{network::Family, wait};
use libtest_mimic::Trial;

use super::{
    arena::{Aim, Arena, Guard, Way},
    case::{Case, Reach},
    cases,
    shot::Kind,
};
use crate::trial;

/// How late, by family: shortly before the stack gives up (30 s and 60 s).
const LATE: [(Family, Duration); 2] = [(Family::V4, Duration::from_secs(25)), (Family::V6, Duration::from_secs(45))];

/// Cases that are sent with a pause.
const NAMES: [&str; 3] = ["two_fragments", "options_behind_the_fragment_header", "hop_by_hop_in_front"];

pub(super) fn trials() -> Vec<Trial> {
    vec![trial::plain("p2_evasion_late_last_fragments_complete_nothing", late)]
}

fn late() -> Result<()> {
    let mut arenas =
        [Arena::new(Guard::None, "pass", |_stage| Ok(()))?, Arena::new(Guard::Native, "pass", |_stage| Ok(()))?];
    let sent = wait::now();
    let cases: Vec<_> =
        cases::fragments().into_iter().filter(|case| NAMES.iter().any(|name| case.name.ends_with(name))).collect();
    ensure!(cases.len() == 8, "{} cases", cases.len());
    let all: Vec<_> = cases.iter().collect();
    let mut volleys = Vec::new();
    for (at, aim, expected) in
        [(0, Aim::Sealed, Reach::Service), (1, Aim::Sealed, Reach::Device), (1, Aim::Free, Reach::Service)]
    {
        volleys.push((at, arenas[at].volley_in_two(&all, aim, Way::Wire)?, expected));
    }
    for (family, after) in LATE {
        wait::until(sent.after(after));
        let names = [true, false].map(|is_tcp| Kind { family, is_tcp }.name());
        let is_now = |case: &Case| names.iter().any(|name| case.name.starts_with(name));
        for (at, volley, expected) in &volleys {
            let outcomes = arenas[*at].finish_volley(volley, |case| is_now(&cases[case]))?;
            for (case, outcome) in cases.iter().zip(&outcomes.of).filter(|(case, _)| is_now(case)) {
                let reach = outcome.reach();
                ensure!(reach == *expected, "{}: after {after:?} it reaches {reach:?}, not {expected:?}", case.name);
                let is_answered = *expected == Reach::Device && !outcome.answers.is_empty();
                ensure!(!is_answered, "{} is answered: {:02x?}", case.name, outcome.answers);
            }
            ensure!(*at == 0 || outcomes.strays.is_empty(), "{:?}", outcomes.strays);
        }
    }
    Ok(())
}
