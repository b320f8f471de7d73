//! P6 over random histories: knocks of all kinds, replays, clock steps, a full disk, and kills at any moment.

use std::collections::BTreeSet;

use proptest::{prelude::*, sample::select};

use super::*;
use crate::clock::BootTime;

const SOURCES: [&str; 4] = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"];

#[derive(Clone, Debug)]
enum Step {
    /// A token is issued, and sent.
    Fresh {
        sub: &'static str,
        life: u64,
        mode: ReplayMode,
        source: &'static str,
        sealed: bool,
        skew: i64,
        verb: Verb,
    },
    /// The client seals its token again, or sends it bare again.
    Again {
        which: usize,
        source: &'static str,
        sealed: bool,
        skew: i64,
        verb: Verb,
    },
    /// Somebody sends what was captured.
    Replay {
        which: usize,
        source: &'static str,
    },
    Sleep(u64),
    SetClock(i64),
    Revoke(&'static str),
    DiskFull(bool),
    MapFull(Option<&'static str>),
    /// What a store forgets when it is compacted.
    Compact,
    Kill,
    /// The controller is killed, and its store is lost.
    Lose,
    /// The host crashes, and the store has lost its latest appends.
    Crash {
        lost: usize,
    },
}

/// What the world has seen.
struct History {
    host: Host,
    captured: Vec<SealedKnock>,
    tokens: Vec<(Arc<VerifiedToken>, ReplayMode)>,
    /// Nonces that were used: accepted, or answered.
    nonces: BTreeSet<u64>,
    /// Of those, the ones that were answered because their date was too far ahead, and did nothing.
    ahead: BTreeSet<u64>,
    /// Once tokens that opened something, and until when at most.
    opened: BTreeMap<TokenId, u64>,
    /// The IPv4 and IPv6 source that a bare `bind-source` token was accepted from.
    bound: BTreeMap<TokenId, [Option<IpAddr>; 2]>,
    number: u64,
}

impl History {
    fn new() -> Self {
        let limits = Limits { replay_entries: 1_000, sources_per_principal: 100, ..LIMITS };
        let (captured, tokens, nonces, ahead) = (Vec::new(), Vec::new(), BTreeSet::new(), BTreeSet::new());
        let mut host = Host::with(limits, 100);
        host.sleep(2_000);
        host.disk.known = Recovered::first(host.now);
        host.restart_with_store();
        Self { host, captured, tokens, nonces, ahead, opened: BTreeMap::new(), bound: BTreeMap::new(), number: 0 }
    }

    fn play(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Fresh { sub, life, mode, source, sealed, skew, verb } => {
                self.number += 1;
                let now = self.host.now.unix.secs();
                let claims = json!({ "sub": sub, "jti": self.number.to_string(), "iat": now, "exp": now + life });
                self.tokens.push((Arc::new(VerifiedToken::for_tests("corp", claims)), mode));
                return self.send(self.tokens.len() - 1, source, sealed, skew, verb);
            }
            Step::Again { which, source, sealed, skew, verb } if !self.tokens.is_empty() => {
                return self.send(which % self.tokens.len(), source, sealed, skew, verb);
            }
            Step::Replay { which, source } if !self.captured.is_empty() => {
                let knock = self.captured[which % self.captured.len()].clone();
                return self.sealed(&knock, source);
            }
            Step::Again { .. } | Step::Replay { .. } => {}
            Step::Sleep(secs) => self.host.sleep(secs),
            Step::SetClock(secs) => self.host.step(secs),
            Step::Revoke(sub) => {
                let selector = Selector { principal: Some(format!("corp:{sub}")), ..Selector::default() };
                self.host.gate.revoke(&selector, "root", self.host.now);
                self.host.run();
            }
            Step::DiskFull(is_full) => self.host.disk.is_full = is_full,
            Step::MapFull(source) => self.host.full_map = source.map(|source| lease::key(&web(0), ip(source))),
            Step::Compact => self.host.disk.compact(self.host.now),
            Step::Kill => {
                // No two things happen in the same nanosecond.
                self.host.sleep(1);
                self.host.restart_with_store();
            }
            Step::Lose => {
                self.host.sleep(1);
                self.host.disk.known = Recovered::nothing(self.host.now);
                self.forget();
                self.host.restart_with_store();
            }
            Step::Crash { lost } => {
                let known = &mut self.host.disk.known;
                known.nonces.truncate(known.nonces.len().saturating_sub(lost));
                known.tokens.truncate(known.tokens.len().saturating_sub(lost));
                (known.origin, known.is_first) = (BootTime(0), false);
                self.host.disk.clear_leases();
                self.forget();
                self.host.map.clear();
                self.host.now.unix = self.host.now.unix.after(Duration::from_secs(20));
                self.host.now.boot = BootTime(19 * SECOND);
                self.host.restart_with_store();
            }
        }
        Ok(())
    }

    /// A loss. Of a knock that was refused because its date was still to come, nobody knows when that has come, if its nonce
    /// was lost: it did nothing yet.
    fn forget(&mut self) {
        self.bound.clear();
        for nonce in std::mem::take(&mut self.ahead) {
            self.nonces.remove(&nonce);
        }
    }

    fn send(
        &mut self,
        which: usize,
        source: &'static str,
        sealed: bool,
        skew: i64,
        verb: Verb,
    ) -> Result<(), TestCaseError> {
        let (token, mode) = self.tokens[which].clone();
        if sealed {
            self.number += 1;
            let time = UnixTime(self.host.now.unix.0.strict_add_signed(skew * SECOND.cast_signed()));
            let knock = SealedKnock { mode, time, verb, ..SealedKnock::new(self.number, &token, self.host.now) };
            self.captured.push(knock.clone());
            return self.sealed(&knock, source);
        }
        // What a worker refuses comes no further.
        if mode == ReplayMode::Proof
            || token.expires() <= self.host.now.unix
            || token.issued_at() > Some(self.host.now.unix)
        {
            return Ok(());
        }
        let before = self.host.accepted.len();
        self.host.knock(&token, mode, source, &[web(30)]);
        prop_assert!(self.host.replies.is_empty(), "a bare knock was answered");
        let results = self.host.accepted[before..].iter().map(|accepted| accepted.result).collect::<Vec<_>>();
        if let [result] = results[..] {
            self.accepted(&token, mode, source, result)?;
            if mode == ReplayMode::BindSource {
                let slots = self.bound.entry(TokenId::clone(token.id())).or_default();
                slots[usize::from(ip(source).is_ipv6())] = Some(ip(source));
            }
        }
        Ok(())
    }

    fn sealed(&mut self, knock: &SealedKnock, source: &'static str) -> Result<(), TestCaseError> {
        // The filter lets nothing else in.
        if knock.time.0.abs_diff(self.host.now.unix.0) > 300 * SECOND {
            return Ok(());
        }
        let before = self.host.accepted.len();
        self.host.send(knock, source);
        let results: Vec<_> = self.host.accepted[before..].iter().map(|accepted| accepted.result).collect();
        let replies = std::mem::take(&mut self.host.replies);
        prop_assert!(results.len() <= 1 && replies.len() <= 1);
        if !results.is_empty() || !replies.is_empty() {
            if replies == [reply::Outcome::Refused("clock_skew".to_owned())] && knock.time > self.host.now.unix {
                self.ahead.insert(knock.nonce);
            }
            prop_assert!(
                self.nonces.insert(knock.nonce),
                "{knock:?} was taken or answered twice: {results:?} {replies:?}"
            );
        }
        if let [result] = results[..] {
            self.accepted(&knock.token, knock.mode, source, result)?;
        }
        Ok(())
    }

    fn accepted(
        &mut self,
        token: &VerifiedToken,
        mode: ReplayMode,
        source: &str,
        result: Taken,
    ) -> Result<(), TestCaseError> {
        let source = ip(source);
        let latest = self.host.map.values().map(GrantValue::end_ns).max().unwrap_or(0);
        match (mode, result) {
            (ReplayMode::Once, Taken::Granted | Taken::Renewed) => {
                prop_assert!(!self.opened.contains_key(token.id()), "{:?} opened twice", token.id());
                self.opened.insert(TokenId::clone(token.id()), latest);
            }
            (ReplayMode::Once, Taken::Repeated) => {
                // Its grant lives, and ends when it ended before; nothing here ends later than 30 s from now.
                prop_assert!(self.opened.contains_key(token.id()));
            }
            (ReplayMode::Once, Taken::Closed) | (ReplayMode::Proof | ReplayMode::BindSource, _) => {}
        }
        if result != Taken::Closed
            && mode == ReplayMode::BindSource
            && let Some(slots) = self.bound.get(token.id())
            && let Some(held) = slots[usize::from(source.is_ipv6())]
        {
            prop_assert_eq!(held, source, "bound bare, and used from elsewhere before exp");
        }
        Ok(())
    }
}

/// Steps of a clock that is set to and fro, with a store that keeps all; or of one that only goes forward, with losses:
/// what a clock said that is nowhere written down, nobody can know.
fn any_step(with_losses: bool) -> impl Strategy<Value = Step> {
    let source = || select(&SOURCES[..]);
    let sub = || select(&["alice", "bob"][..]);
    let mode = || select(&[ReplayMode::Once, ReplayMode::Once, ReplayMode::BindSource, ReplayMode::Proof][..]);
    let skew = || select(&[0_i64, 0, 0, 0, 20, -20, 60, -60, 290, -290][..]);
    let verb = || select(&[Verb::Open, Verb::Open, Verb::Open, Verb::Renew, Verb::Close][..]);
    let fresh = (sub(), select(&[40_u64, 400, 4_000][..]), mode(), source(), any::<bool>(), skew(), verb());
    let again = (any::<prop::sample::Index>(), source(), any::<bool>(), skew(), verb());
    let least = if with_losses { 0 } else { -700 };
    prop_oneof![
        8 => fresh.prop_map(|(sub, life, mode, source, sealed, skew, verb)| Step::Fresh { sub, life, mode, source, sealed, skew, verb }),
        8 => again.prop_map(|(which, source, sealed, skew, verb)| Step::Again { which: which.index(1 << 16), source, sealed, skew, verb }),
        10 => (any::<prop::sample::Index>(), source()).prop_map(|(which, source)| Step::Replay { which: which.index(1 << 16), source }),
        4 => select(&[1_u64, 5, 29, 31, 100, 311][..]).prop_map(Step::Sleep),
        3 => (least..700_i64).prop_map(Step::SetClock),
        1 => sub().prop_map(Step::Revoke),
        1 => any::<bool>().prop_map(move |is_full| Step::DiskFull(is_full && with_losses)),
        1 => prop::option::of(source()).prop_map(Step::MapFull),
        2 => Just(Step::Compact),
        3 => Just(Step::Kill),
        2 => (0..6_usize).prop_map(move |lost| match (with_losses, lost) {
            (false, _) => Step::Kill,
            (true, 5) => Step::Lose,
            (true, lost) => Step::Crash { lost },
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn p6_whatever_the_clock_does_nothing_is_used_twice(steps in prop::collection::vec(any_step(false), 1..80)) {
        let mut history = History::new();
        for step in steps {
            history.play(step)?;
        }
    }

    #[test]
    fn p6_whatever_is_lost_nothing_is_used_twice(steps in prop::collection::vec(any_step(true), 1..80)) {
        let mut history = History::new();
        for step in steps {
            history.play(step)?;
        }
    }
}
