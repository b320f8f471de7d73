//! What is refused before anything is decoded: budgets, and a bound on what waits for verification.

use std::collections::BTreeSet;

use crate::{
    clock::BootTime,
    config::Limits,
    knock::{self, Knock, Received},
    refusal::Refusal,
    verify::Job,
};

const SECOND: u64 = 1_000_000_000;

/// Lets knocks in, and knows which of them wait for their outcome.
#[derive(Debug)]
pub(super) struct Admission {
    bare: Bucket,
    queue: usize,
    waiting: BTreeSet<u64>,
    next_job: u64,
}

impl Admission {
    pub(super) const fn new(limits: &Limits, now: BootTime) -> Self {
        let bare = Bucket::full(limits.bare_per_second, now);
        Self { bare, queue: limits.queue as usize, waiting: BTreeSet::new(), next_job: 1 }
    }

    pub(super) const fn set_limits(&mut self, limits: &Limits) {
        self.bare.per_second = limits.bare_per_second;
        self.queue = limits.queue as usize;
    }

    /// The shape comes first, so that garbage does not use up the budget.
    pub(super) fn admit(&mut self, datagram: &Received, now: BootTime) -> Result<Job, Refusal> {
        let knock = knock::decode(datagram)?;
        self.within_budget(&knock, now)?;
        if self.waiting.len() >= self.queue {
            return Err(Refusal::QueueFull);
        }
        let id = self.next_job;
        self.next_job += 1;
        self.waiting.insert(id);
        Ok(Job { id, knock })
    }

    fn within_budget(&mut self, knock: &Knock, now: BootTime) -> Result<(), Refusal> {
        match knock.form {
            knock::Form::Sealed => Ok(()),
            knock::Form::Bare => self.bare.take(now).then_some(()).ok_or(Refusal::RateLimited),
        }
    }

    pub(super) fn is_waiting(&self, job: u64) -> bool {
        self.waiting.contains(&job)
    }

    pub(super) fn release(&mut self, job: u64) {
        self.waiting.remove(&job);
    }
}

/// Token bucket that holds one second's worth. Its credit is kept in nanoseconds, so that no rate rounds to nothing.
#[derive(Debug)]
struct Bucket {
    per_second: u32,
    credit: u64,
    at: BootTime,
}

impl Bucket {
    const fn full(per_second: u32, now: BootTime) -> Self {
        Self { per_second, credit: SECOND, at: now }
    }

    fn take(&mut self, now: BootTime) -> bool {
        let passed = now.0.saturating_sub(self.at.0);
        self.credit = self.credit.saturating_add(passed).min(SECOND);
        self.at = self.at.max(now);
        let Some(price) = SECOND.checked_div(u64::from(self.per_second)) else {
            return false;
        };
        match self.credit.checked_sub(price.max(1)) {
            Some(left) => {
                self.credit = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_one_second_and_refills_at_its_rate() {
        for (rate, expected) in [(0, [0, 0, 0]), (1, [1, 0, 1]), (3, [3, 1, 3]), (1_000, [1_000, 500, 1_000])] {
            let mut bucket = Bucket::full(rate, BootTime(0));
            let taken =
                [0, SECOND / 2, 100 * SECOND].map(|now| (0..5_000).filter(|_| bucket.take(BootTime(now))).count());
            assert_eq!(taken, expected, "rate {rate}");
        }
    }
}
