//! Which refusals get a line of the audit log. All are counted; what is left out here is counted in the next line.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use crate::{clock::BootTime, verify::Who};

const SECOND: u64 = 1_000_000_000;
/// Refusals of strangers that get a line in any second.
const STRANGERS: usize = 10;
/// Refusals of verified tokens whose repeats are known as such. Of more than these in a second, each gets its line.
const KNOWN: usize = 1_024;

/// Chooses: of strangers at most ten in any second, of verified tokens all but the repeats within a second.
#[derive(Debug)]
pub(super) struct Sampler {
    strangers: VecDeque<BootTime>,
    recent: VecDeque<(BootTime, Arc<Told>)>,
    told: BTreeSet<Arc<Told>>,
    suppressed: u64,
}

/// What a line said of whom.
type Told = (Who, &'static str);

impl Sampler {
    pub(super) const fn new() -> Self {
        Self { strangers: VecDeque::new(), recent: VecDeque::new(), told: BTreeSet::new(), suppressed: 0 }
    }

    /// How many refusals were left out since the last line, if this one of a stranger gets a line.
    pub(super) fn stranger(&mut self, now: BootTime) -> Option<u64> {
        while self.strangers.front().is_some_and(|line| is_past(*line, now)) {
            self.strangers.pop_front();
        }
        if self.strangers.len() >= STRANGERS {
            return self.leave_out();
        }
        self.strangers.push_back(now);
        Some(self.tell())
    }

    /// As [`Self::stranger`], of a token whose signature verified.
    pub(super) fn verified(&mut self, who: Who, code: &'static str, now: BootTime) -> Option<u64> {
        while self.recent.len() >= KNOWN || self.recent.front().is_some_and(|(line, _)| is_past(*line, now)) {
            let Some((_, forgotten)) = self.recent.pop_front() else { break };
            self.told.remove(&forgotten);
        }
        let told = Arc::new((who, code));
        if !self.told.insert(Arc::clone(&told)) {
            return self.leave_out();
        }
        self.recent.push_back((now, told));
        Some(self.tell())
    }

    /// As [`Self::stranger`], of what always gets a line.
    pub(super) const fn tell(&mut self) -> u64 {
        std::mem::replace(&mut self.suppressed, 0)
    }

    const fn leave_out(&mut self) -> Option<u64> {
        self.suppressed = self.suppressed.saturating_add(1);
        None
    }
}

const fn is_past(line: BootTime, now: BootTime) -> bool {
    now.0.saturating_sub(line.0) >= SECOND
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Principal, TokenId};

    #[test]
    fn no_second_holds_more_than_ten_samples_and_none_is_lost_from_the_count() {
        let mut sampler = Sampler::new();
        let step = SECOND / 100;
        let lines: Vec<_> =
            (0..1_000).filter_map(|at| sampler.stranger(BootTime(at * step)).map(|more| (at * step, more))).collect();
        for window in lines.windows(STRANGERS + 1) {
            assert!(window[STRANGERS].0 - window[0].0 >= SECOND);
        }
        let told: u64 = lines.iter().map(|(_, more)| more + 1).sum();
        assert_eq!(told + sampler.suppressed, 1_000);
    }

    #[test]
    fn a_token_sent_a_thousand_times_a_second_gets_a_line_a_second() {
        let mut sampler = Sampler::new();
        let lines: Vec<_> = (0..3_000)
            .filter_map(|at| sampler.verified(who("alice", "1"), "expired", BootTime(at * SECOND / 1_000)))
            .collect();
        assert_eq!((lines, sampler.suppressed), (vec![0, 999, 999], 999));
    }

    #[test]
    fn another_principal_token_or_refusal_is_no_repeat() {
        let mut sampler = Sampler::new();
        let cases = [("alice", "1", "expired"), ("alice", "2", "expired"), ("bob", "1", "expired")];
        for (sub, jti, refusal) in cases.into_iter().chain([("alice", "1", "not_allowed")]) {
            assert_eq!(sampler.verified(who(sub, jti), refusal, BootTime(0)), Some(0), "{sub} {jti} {refusal}");
            assert_eq!(sampler.verified(who(sub, jti), refusal, BootTime(1)), None, "{sub} {jti} {refusal}");
            assert_eq!(sampler.stranger(BootTime(1)), Some(1), "the next line tells of it");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_forgotten_is_told_again() {
        let mut sampler = Sampler::new();
        for jti in 0..3 * KNOWN {
            assert!(sampler.verified(who("alice", &jti.to_string()), "expired", BootTime(0)).is_some());
            assert!(sampler.recent.len() <= KNOWN && sampler.told.len() == sampler.recent.len());
        }
        assert!(sampler.verified(who("alice", "0"), "expired", BootTime(0)).is_some());
        assert!(sampler.verified(who("alice", "0"), "expired", BootTime(SECOND)).is_some());
        assert_eq!((sampler.recent.len(), sampler.told.len()), (1, 1));
    }

    fn who(sub: &str, jti: &str) -> Who {
        let issuer = Arc::<str>::from("corp");
        let token = TokenId::Jti(issuer.clone(), jti.into());
        Who { principal: Arc::new(Principal { issuer, subject: sub.to_owned() }), token: Arc::new(token) }
    }
}
