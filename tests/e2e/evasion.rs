//! Evasion over real wires: more than a hundred named ways to get a packet to a protected port without a grant, sent as
//! raw frames at real listeners. Promise P2: none of them reaches a listener, and what the program passes of them is
//! counted. Promise P1: the stranger's capture holds no frame in answer.
//!
//! Each case is also sent at a host without the program, where it must get as far as it claims, and at an unprotected
//! port of the guarded host, where it must not be harmed; so none of them is silent because it never worked.

mod arena;
mod case;
mod cases;
mod counters;
mod ground;
mod late;
mod outcome;
mod shot;
mod table;
mod upkeep;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use jpat_common::reason::DropReason;
use libtest_mimic::Trial;

use self::{
    arena::{Aim, Arena, Guard, Way},
    case::{Case, Reach},
    cases::{Answers, Group},
    counters::Counted,
    outcome::Outcomes,
};
use crate::trial;

/// The arenas of all cases, made when they are first needed and removed by [`Shared::end`].
#[derive(Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    arenas: BTreeMap<(Guard, &'static str), Arena>,
    /// By group and case, what went wrong.
    done: BTreeMap<&'static str, Result<Faults, String>>,
}

/// By case name, and under [`WHOLE`] what belongs to no single one.
type Faults = BTreeMap<String, Vec<String>>;

const WHOLE: &str = "as_a_whole";

/// Cases that are named one by one when a group is not counted as it should be.
const FEW: usize = 5;

impl Shared {
    pub(crate) fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).arenas.clear();
    }

    /// Sends the case's group if that has not been done, and tells what became of the case.
    fn judge(&self, group: &Group, case: &str) -> Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let done = state
            .done
            .entry(group.name)
            .or_insert_with(|| play(group, &mut state.arenas).map_err(|error| format!("{error:#}")));
        match done {
            Ok(faults) => match faults.get(case) {
                Some(faults) => bail!("{}", faults.join("\n")),
                None => Ok(()),
            },
            Err(error) => bail!("{error}"),
        }
    }
}

pub(crate) fn trials(shared: &Shared) -> Vec<Trial> {
    let mut trials = late::trials();
    trials.extend(upkeep::trials());
    trials.extend(table::trials());
    for group in cases::groups() {
        let group = Arc::new(group);
        let names = group.cases.iter().map(|case| case.name.clone()).chain([WHOLE.to_owned()]).collect::<Vec<_>>();
        for name in names {
            let (shared, group) = (shared.clone(), Arc::clone(&group));
            let title = format!("p2_evasion_{}_{name}", group.name);
            trials.push(trial::plain(title, move || shared.judge(&group, &name)));
        }
    }
    trials
}

/// Sends a group at every guard.
fn play(group: &Group, arenas: &mut BTreeMap<(Guard, &'static str), Arena>) -> Result<Faults> {
    let mut faults = Faults::new();
    let distinct: BTreeSet<_> = group.cases.iter().map(|case| &case.name).collect();
    ensure!(distinct.len() == group.cases.len(), "two cases of one name");
    for guard in [Guard::None, Guard::Native, Guard::Generic] {
        let arena = match arenas.entry((guard, group.tunnels)) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Arena::new(guard, group.tunnels, group.prepare)?)
            }
        };
        let result = match guard {
            Guard::None => open(arena, group, &mut faults),
            Guard::Native => guarded(arena, group, Way::Wire, &mut faults)
                .and_then(|()| guarded(arena, group, Way::Switch, &mut faults)),
            Guard::Generic => guarded(arena, group, Way::Wire, &mut faults),
        };
        result.with_context(|| format!("{guard:?}"))?;
    }
    Ok(faults)
}

/// Without the program each case gets as far as it claims.
fn open(arena: &mut Arena, group: &Group, faults: &mut Faults) -> Result<()> {
    let cases: Vec<_> = group.cases.iter().collect();
    let outcomes = arena.volley(&cases, Aim::Sealed, Way::Wire)?;
    for (case, outcome) in cases.iter().zip(&outcomes.of) {
        let reach = outcome.reach();
        if reach != case.open {
            fault(faults, &case.name, format!("without the program it reaches {reach:?}, not {:?}", case.open));
        }
    }
    Ok(())
}

/// With the program nothing for a protected port or the knock port arrives, and what is for other ports does. A switch
/// may drop frames itself, so that nothing is counted behind one.
fn guarded(arena: &mut Arena, group: &Group, way: Way, faults: &mut Faults) -> Result<()> {
    let all: Vec<_> = group.cases.iter().collect();
    let datagrams: Vec<_> = group.cases.iter().filter(|case| case.is_udp).collect();
    for (cases, aim) in [(&all, Aim::Sealed), (&datagrams, Aim::Knock)] {
        let place = format!("{:?}, {way:?}, {aim:?}", arena.guard);
        let before = counters::read(&arena.stage)?;
        let outcomes = arena.volley(cases, aim, way)?;
        expect_sealed(cases, &outcomes, way, group.answers, &place, faults);
        let connections = arena.connections()?;
        if !connections.is_empty() {
            fault(faults, WHOLE, format!("{place}: the host has connections: {connections:?}"));
        }
        let Err(error) = expect_counted(arena, &before, cases, aim, way) else { continue };
        fault(faults, WHOLE, format!("{place}: {error:#}"));
        // One by one, to tell whose it was; the first few are enough.
        let mut found = 0;
        for case in cases {
            if found == FEW {
                break;
            }
            let before = counters::read(&arena.stage)?;
            arena.volley(&[case], aim, way)?;
            if let Err(error) = expect_counted(arena, &before, &[case], aim, way) {
                fault(faults, &case.name, format!("{place}: {error:#}"));
                found += 1;
            }
        }
    }
    if way == Way::Wire {
        let place = format!("{:?}, free", arena.guard);
        let outcomes = arena.volley(&all, Aim::Free, way)?;
        expect_unharmed(&all, &outcomes, &place, faults);
    }
    Ok(())
}

fn expect_sealed(cases: &[&Case], outcomes: &Outcomes, way: Way, answers: Answers, place: &str, faults: &mut Faults) {
    for (case, outcome) in cases.iter().zip(&outcomes.of) {
        if outcome.reach() > Reach::Device {
            fault(faults, &case.name, format!("{place}: LEAK, it reaches {:?}", outcome.reach()));
        }
        let passing = case.passing();
        if outcome.passed > passing || (way == Way::Wire && outcome.passed != passing) {
            fault(faults, &case.name, format!("{place}: {} frames pass, not {passing}", outcome.passed));
        }
        let is_expected = |answer: &Vec<u8>| answers == Answers::Unreachable && outcome::is_icmp_error(answer);
        if !outcome.answers.iter().all(is_expected) {
            fault(faults, &case.name, format!("{place}: answered with {:02x?}", outcome.answers));
        }
    }
    for stray in &outcomes.strays {
        fault(faults, WHOLE, format!("{place}: {stray}"));
    }
}

fn expect_unharmed(cases: &[&Case], outcomes: &Outcomes, place: &str, faults: &mut Faults) {
    for (case, outcome) in cases.iter().zip(&outcomes.of) {
        let reach = outcome.reach();
        if reach != case.free {
            fault(faults, &case.name, format!("{place}: it reaches {reach:?}, not {:?}", case.free));
        }
    }
}

fn expect_counted(arena: &Arena, before: &Counted, cases: &[&Case], aim: Aim, way: Way) -> Result<()> {
    if way == Way::Switch {
        return Ok(());
    }
    let mut expected: BTreeMap<&str, f64> = BTreeMap::new();
    for verdict in cases.iter().flat_map(|case| &case.judged) {
        *expected.entry(merged(counters::label(*verdict), aim)).or_default() += 1.0;
    }
    let patience = Duration::from_secs(if cases.len() == 1 { 1 } else { 3 });
    counters::expect(&arena.stage, before, &expected, patience, |reason| merged(reason, aim))
}

/// The knock port has reasons of its own for what a protected port has one for: there a drop is a drop.
fn merged(reason: &'static str, aim: Aim) -> &'static str {
    let is_drop = DropReason::ALL.iter().any(|drop| drop.as_str() == reason);
    if is_drop && aim == Aim::Knock { "dropped" } else { reason }
}

fn fault(faults: &mut Faults, name: &str, message: String) {
    faults.entry(name.to_owned()).or_default().push(message);
}
