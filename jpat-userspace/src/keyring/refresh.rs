//! Decides when each issuer's keys are fetched. Sans-IO: the caller runs the fetches and reports back.
//!
//! One fetch at a time for each issuer; every [`INTERVAL`] while all is well; after a failure at growing distances.
//! Tokens with an unknown `kid` can bring the next fetch forward, but never closer than [`FLOOR`] to the one before:
//! anybody can send those, at any rate.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use crate::{
    clock::BootTime,
    config::{Issuer, KeySource},
};

/// Longest time between two fetches; up to a tenth shorter, so that hosts do not ask in step.
pub const INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Shortest time from the start of one fetch to another one that an unknown `kid` asked for.
pub const FLOOR: Duration = Duration::from_secs(30);
/// Wait after the first failure; doubled by each further one.
pub const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest wait after a failure.
pub const LAST_RETRY: Duration = Duration::from_secs(60);

/// A fetch to run now. Its outcome goes to [`Refresher::handle_result`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Fetch {
    /// Configured name.
    pub issuer: String,
    ticket: u64,
}

/// The schedule of every issuer whose keys come over the network.
#[derive(Debug)]
pub struct Refresher {
    slots: BTreeMap<String, Slot>,
    tickets: u64,
    jitter: RandomState,
}

#[derive(Debug)]
struct Slot {
    source: Source,
    /// Of the fetch under way.
    ticket: Option<u64>,
    due: BootTime,
    last_start: Option<BootTime>,
    failures: u32,
    wanted: bool,
}

/// What makes keys those of another source.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Source {
    issuer: String,
    keys: KeySource,
    algorithms: Vec<jsonwebtoken::Algorithm>,
    allow_http: bool,
}

impl Refresher {
    /// A schedule in which every issuer is due at once.
    #[must_use]
    pub fn new(issuers: &[Issuer], now: BootTime) -> Self {
        let mut refresher = Self { slots: BTreeMap::new(), tickets: 0, jitter: RandomState::new() };
        let _none_before = refresher.reconfigure(issuers, now);
        refresher
    }

    /// Takes another configuration over. Issuers that are new or whose source has changed are due at once. Returns the names
    /// of those that had keys from a source that is no longer theirs: such keys must leave the key ring.
    #[must_use]
    pub fn reconfigure(&mut self, issuers: &[Issuer], now: BootTime) -> Vec<String> {
        let mut before = std::mem::take(&mut self.slots);
        for issuer in issuers.iter().filter(|issuer| is_remote(issuer)) {
            let source = Source::of(issuer);
            let slot = match before.remove(&*issuer.name) {
                Some(slot) if slot.source == source => slot,
                Some(slot) => {
                    before.insert(issuer.name.to_string(), slot);
                    Slot::new(source, now)
                }
                None => Slot::new(source, now),
            };
            self.slots.insert(issuer.name.to_string(), slot);
        }
        before.into_keys().collect()
    }

    /// The fetches that are due. Each counts as under way until its result is handled.
    pub fn handle_due(&mut self, now: BootTime) -> Vec<Fetch> {
        let mut fetches = Vec::new();
        for (name, slot) in &mut self.slots {
            if slot.ticket.is_none() && slot.due <= now {
                self.tickets += 1;
                slot.ticket = Some(self.tickets);
                slot.last_start = Some(now);
                slot.wanted = false;
                fetches.push(Fetch { issuer: name.clone(), ticket: self.tickets });
            }
        }
        fetches
    }

    /// Plans the next fetch after the result of one. False: the issuer's source has changed meanwhile, and the result
    /// must be dropped.
    #[must_use]
    pub fn handle_result<T, E>(&mut self, fetch: &Fetch, result: &Result<T, E>, now: BootTime) -> bool {
        let jitter = self.jitter.hash_one((&fetch.issuer, fetch.ticket));
        let Some(slot) = self.slots.get_mut(&fetch.issuer).filter(|slot| slot.ticket == Some(fetch.ticket)) else {
            return false;
        };
        slot.ticket = None;
        let wait = match result {
            Ok(_) => {
                slot.failures = 0;
                INTERVAL
            }
            Err(_) => {
                slot.failures = slot.failures.saturating_add(1);
                let doubled = 2_u32.saturating_pow(slot.failures - 1);
                FIRST_RETRY.saturating_mul(doubled).min(LAST_RETRY)
            }
        };
        slot.due = now.after(jittered(wait, jitter));
        if slot.wanted {
            slot.bring_forward(now);
        }
        true
    }

    /// A token named a `kid` that the issuer's keys do not have: it may have a new key.
    pub fn want(&mut self, issuer: &str, now: BootTime) {
        if let Some(slot) = self.slots.get_mut(issuer) {
            slot.wanted = true;
            if slot.ticket.is_none() {
                slot.bring_forward(now);
            }
        }
    }

    /// When [`Self::handle_due`] has something next; none while every issuer's fetch is under way.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootTime> {
        self.slots.values().filter(|slot| slot.ticket.is_none()).map(|slot| slot.due).min()
    }

    /// How often in a row an issuer could not be reached.
    #[must_use]
    pub fn failures(&self, issuer: &str) -> u32 {
        self.slots.get(issuer).map_or(0, |slot| slot.failures)
    }
}

impl Slot {
    const fn new(source: Source, now: BootTime) -> Self {
        Self { source, ticket: None, due: now, last_start: None, failures: 0, wanted: false }
    }

    fn bring_forward(&mut self, now: BootTime) {
        let earliest = self.last_start.map_or(now, |start| start.after(FLOOR).max(now));
        self.due = self.due.min(earliest);
    }
}

impl Source {
    fn of(issuer: &Issuer) -> Self {
        Self {
            issuer: issuer.issuer.clone(),
            keys: issuer.keys.clone(),
            algorithms: issuer.algorithms.clone(),
            allow_http: issuer.allow_http,
        }
    }
}

/// Whether an issuer's keys come over the network.
#[must_use]
pub const fn is_remote(issuer: &Issuer) -> bool {
    match issuer.keys {
        KeySource::Discovery | KeySource::JwksUrl(_) => true,
        KeySource::JwksFile(_) | KeySource::PemFile(_) | KeySource::SecretFile(_) => false,
    }
}

/// Nine tenths of `wait` and a random part of the last one.
fn jittered(wait: Duration, random: u64) -> Duration {
    let tenth = wait / 10;
    let part = u32::try_from(random % 1024).unwrap_or(0);
    wait - tenth + tenth * part / 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::fetch::tests::issuer;

    const OK: Result<(), ()> = Ok(());
    const FAILED: Result<(), ()> = Err(());

    #[test]
    fn each_issuer_is_due_at_once_then_every_five_minutes() {
        let mut refresher = Refresher::new(&[remote("a"), remote("b"), local("c")], at(0));
        let first = refresher.handle_due(at(0));
        assert_eq!(first.iter().map(|fetch| &*fetch.issuer).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(refresher.handle_due(at(100)), [], "one fetch at a time for each issuer");
        assert_eq!(refresher.poll_timeout(), None);
        assert!(refresher.handle_result(&first[0], &OK, at(1)));
        let next = refresher.poll_timeout().unwrap();
        assert!(at(1 + 270) <= next && next <= at(1 + 300), "{next:?}");
        assert_eq!(refresher.handle_due(BootTime(next.0 - 1)), []);
        assert_eq!(refresher.handle_due(next).len(), 1);
    }

    #[test]
    fn failures_back_off_from_one_second_to_one_minute_and_a_success_forgets_them() {
        let mut refresher = Refresher::new(&[remote("a")], at(0));
        let mut now = at(0);
        for wait in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            let fetch = refresher.handle_due(now).remove(0);
            assert!(refresher.handle_result(&fetch, &FAILED, now));
            let next = refresher.poll_timeout().unwrap();
            let (shortest, longest) = (Duration::from_millis(wait * 900), Duration::from_secs(wait));
            assert!((shortest..=longest).contains(&now.until(next)), "{wait} s: {:?}", now.until(next));
            now = next;
        }
        assert_eq!(refresher.failures("a"), 9);
        let fetch = refresher.handle_due(now).remove(0);
        assert!(refresher.handle_result(&fetch, &OK, now));
        assert_eq!(refresher.failures("a"), 0);
        assert!(now.until(refresher.poll_timeout().unwrap()) >= Duration::from_secs(270));
    }

    #[test]
    fn a_storm_of_unknown_kids_causes_one_fetch_in_thirty_seconds() {
        let mut refresher = Refresher::new(&[remote("a")], at(0));
        let mut starts = Vec::new();
        let mut under_way: Option<(Fetch, u64)> = None;
        // Ten minutes in steps of 10 ms, a thousand unknown kids a second or more, each fetch takes 700 ms.
        for ms in (0..600_000).step_by(10) {
            let now = BootTime(ms * 1_000_000);
            (0..10).for_each(|_| refresher.want("a", now));
            if let Some((fetch, _)) = under_way.take_if(|(_, end)| *end <= ms) {
                assert!(refresher.handle_result(&fetch, &OK, now));
            }
            for fetch in refresher.handle_due(now) {
                starts.push(ms);
                assert!(under_way.replace((fetch, ms + 700)).is_none());
            }
        }
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] >= 30_000), "{starts:?}");
        assert_eq!(starts.len(), 20, "and a new key is still found within 30 s: {starts:?}");
    }

    #[test]
    fn one_unknown_kid_brings_a_distant_fetch_forward_and_an_unknown_issuer_nothing() {
        let mut refresher = Refresher::new(&[remote("a")], at(0));
        let fetch = refresher.handle_due(at(0)).remove(0);
        assert!(refresher.handle_result(&fetch, &OK, at(0)));
        refresher.want("nobody", at(100));
        assert!(refresher.poll_timeout().unwrap() > at(200));
        refresher.want("a", at(100));
        assert_eq!(refresher.poll_timeout(), Some(at(100)));
    }

    #[test]
    fn unknown_kids_do_not_shorten_the_back_off_below_the_floor() {
        let mut refresher = Refresher::new(&[remote("a")], at(0));
        let mut now = at(0);
        let mut starts = Vec::new();
        for _ in 0..20 {
            let fetch = refresher.handle_due(now).remove(0);
            starts.push(now);
            refresher.want("a", now);
            assert!(refresher.handle_result(&fetch, &FAILED, now));
            refresher.want("a", now);
            now = refresher.poll_timeout().unwrap();
        }
        // Once the back-off is longer than the floor, the floor is what remains.
        assert!(starts[8..].windows(2).all(|pair| pair[0].until(pair[1]) >= FLOOR));
    }

    #[test]
    fn a_changed_source_is_fetched_at_once_and_the_old_result_dropped() {
        let mut refresher = Refresher::new(&[remote("a"), remote("b"), remote("c")], at(0));
        let fetches = refresher.handle_due(at(0));
        let mut moved = remote("b");
        moved.keys = KeySource::JwksUrl("https://elsewhere.example/jwks.json".into());
        let gone = refresher.reconfigure(&[remote("a"), moved], at(5));
        assert_eq!(gone, ["b", "c"]);
        assert!(refresher.handle_result(&fetches[0], &OK, at(6)), "a goes on as it was");
        assert!(!refresher.handle_result(&fetches[1], &OK, at(6)));
        assert!(!refresher.handle_result(&fetches[2], &OK, at(6)));
        let again = refresher.handle_due(at(6));
        assert_eq!(again.iter().map(|fetch| &*fetch.issuer).collect::<Vec<_>>(), ["b"]);
        assert!(!refresher.handle_result(&fetches[1], &OK, at(7)), "nor for the new one");
    }

    const fn at(secs: u64) -> BootTime {
        BootTime(secs * 1_000_000_000)
    }

    fn remote(name: &str) -> Issuer {
        Issuer { name: name.into(), ..issuer("https://idp.example", KeySource::Discovery) }
    }

    fn local(name: &str) -> Issuer {
        Issuer { name: name.into(), ..issuer("x", KeySource::PemFile("/nowhere".into())) }
    }
}
