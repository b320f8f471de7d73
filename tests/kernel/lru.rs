//! The grant map at the headroom limit: what is renewed there is still there afterwards.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use aya::{
    EbpfLoader,
    maps::{HashMap, MapData},
};
use jpat_common::{
    addr,
    grant::{GrantKey, GrantValue, HEADROOM_PER_CPU},
    map_name,
};
use jpat_userspace::datapath::object::OBJECT;
use libtest_mimic::Trial;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::{Outcome, trial};

/// Rounds in which every live grant is renewed.
const ROUNDS: u64 = 20;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials: Vec<_> = [1_024, 4_096, 65_536]
        .into_iter()
        .map(|capacity| {
            let name = format!("lru_p4_a_renewal_storm_at_the_headroom_loses_no_live_grant_of_{capacity}");
            trial(name, move || storm(capacity))
        })
        .collect();
    trials.push(trial("lru_control_a_full_map_loses_live_grants", full));
    trials
}

type Grants = HashMap<MapData, GrantKey, GrantValue>;

/// Renewals in changing order from changing CPUs, with a twentieth of the grants given up for new ones in each round.
fn storm(capacity: u32) -> Result<Outcome> {
    let cpus = u32::try_from(aya::util::nr_cpus().map_err(|(_, error)| error)?)?;
    let headroom = cpus * HEADROOM_PER_CPU;
    ensure!(headroom < capacity, "{cpus} CPUs leave no room in a map of {capacity}");
    let usable = capacity - headroom;
    let mut grants = grants(capacity)?;
    let mut live: Vec<u32> = (0..usable).collect();
    let mut fresh = usable;
    let mut storm = Storm::new()?;
    storm.write(&mut grants, &live, 0)?;
    let mut renewals = u64::from(usable);
    for round in 1..=ROUNDS {
        storm.shuffle(&mut live)?;
        for number in live.iter_mut().take(usize::try_from(usable / 20)?) {
            grants.remove(&key(*number)).context("give a grant up")?;
            *number = fresh;
            fresh += 1;
        }
        storm.write(&mut grants, &live, round)?;
        renewals += u64::from(usable);
        let lost = live.iter().filter(|number| grants.get(&key(**number), 0).is_err()).count();
        ensure!(lost == 0, "round {round} of {ROUNDS}: {lost} of {usable} live grants are gone");
    }
    let held = grants.keys().collect::<Result<BTreeSet<_>, _>>().context("list the grants")?;
    let expected: BTreeSet<_> = live.iter().map(|number| key(*number)).collect();
    ensure!(held == expected, "the map holds {} grants, {} are live", held.len(), expected.len());
    println!("lru: capacity {capacity}, {cpus} CPUs, {usable} live, {renewals} writes, 0 lost");
    Ok(Outcome::Passed)
}

/// Without headroom live grants are lost: the storm could see it.
fn full() -> Result<Outcome> {
    let capacity = 4_096;
    let mut grants = grants(capacity)?;
    let live: Vec<u32> = (0..capacity).collect();
    let mut storm = Storm::new()?;
    storm.write(&mut grants, &live, 0)?;
    storm.write(&mut grants, &live, 1)?;
    let held = grants.keys().filter(Result::is_ok).count();
    ensure!(held < live.len(), "a full map kept all {held} of {capacity} grants");
    println!("lru: capacity {capacity} filled to the brim: {held} left");
    Ok(Outcome::Passed)
}

/// Writes from one CPU after the other.
struct Storm {
    allowed: CpuSet,
    cpus: Vec<usize>,
    state: u64,
}

impl Storm {
    fn new() -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
        Ok(Self { allowed, cpus, state: 0x9e37_79b9_7f4a_7c15 })
    }

    /// Writes each grant from a CPU of its own: neighbours in the list come from different ones.
    fn write(&mut self, grants: &mut Grants, live: &[u32], round: u64) -> Result<()> {
        const RUN: usize = 61;
        for chunk in live.chunks(RUN) {
            let at = usize::try_from(self.random())? % self.cpus.len();
            let mut one = CpuSet::new();
            one.set(self.cpus[at])?;
            sched_setaffinity(Pid::from_raw(0), &one).context("move to another CPU")?;
            for number in chunk {
                grants.insert(key(*number), GrantValue::new(round, 0), 0).context("write a grant")?;
            }
        }
        Ok(())
    }

    fn shuffle(&mut self, live: &mut [u32]) -> Result<()> {
        for last in (1..live.len()).rev() {
            live.swap(last, usize::try_from(self.random())? % (last + 1));
        }
        Ok(())
    }

    const fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        // Other trials run on this thread; where this fails, they run on one CPU.
        let _stays = sched_setaffinity(Pid::from_raw(0), &self.allowed);
    }
}

/// The object's own grant map, in this size.
fn grants(capacity: u32) -> Result<Grants> {
    let mut loader = EbpfLoader::new();
    loader.map_max_entries(map_name::GRANTS, capacity);
    let mut object = loader.load(OBJECT).context("load the maps")?;
    Ok(object.take_map(map_name::GRANTS).context("no grant map")?.try_into()?)
}

fn key(number: u32) -> GrantKey {
    GrantKey::new(&addr::from_v4(number.to_be_bytes()), &addr::mask(128), 1)
}
