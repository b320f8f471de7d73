//! What is refused before anything is decoded: budgets, and a bound on what waits for verification.
//!
//! Nothing here holds anything against a source: a sealed knock's source can be forged by whoever replays it, and a bare one's
//! by anybody. Sources only share what there is.

mod queue;

use std::collections::BTreeMap;

use self::queue::FairQueue;
use crate::{
    clock::BootTime,
    config::Limits,
    knock::{self, Form, Knock, Received},
    refusal::Refusal,
    table::{self, Table},
    verify::Job,
};

const SECOND: u64 = 1_000_000_000;
/// Jobs under way for each worker: those that it works on and hands back at once, and the next.
const JOBS_PER_WORKER: usize = 64;

/// Lets knocks in, hands them out in turn, and knows which of them are at work.
#[derive(Debug)]
pub(super) struct Admission {
    bare: Bucket,
    knocks_per_second: u32,
    groups: BTreeMap<u32, Bucket>,
    sealed_queue: FairQueue<Knock>,
    bare_queue: FairQueue<Knock>,
    /// Whose turn it is.
    bare_is_next: bool,
    most_at_work: usize,
    at_work: Table<u64, ()>,
    next_job: u64,
}

/// A knock that has lost its place, or did not get one.
#[derive(Debug)]
pub(super) struct TurnedAway {
    pub(super) source: std::net::IpAddr,
    pub(super) refusal: Refusal,
}

impl Admission {
    pub(super) fn new(limits: &Limits, now: BootTime) -> Self {
        let queue = limits.queue as usize;
        Self {
            bare: Bucket::full(limits.bare_per_second, now),
            knocks_per_second: limits.knocks_per_second,
            groups: BTreeMap::new(),
            sealed_queue: FairQueue::new(queue),
            bare_queue: FairQueue::new(queue),
            bare_is_next: false,
            most_at_work: (limits.workers.max(1) as usize).saturating_mul(JOBS_PER_WORKER),
            at_work: table::empty(),
            next_job: 1,
        }
    }

    pub(super) fn set_limits(&mut self, limits: &Limits) {
        self.bare.per_second = limits.bare_per_second;
        self.knocks_per_second = limits.knocks_per_second;
        for bucket in self.groups.values_mut() {
            bucket.per_second = limits.knocks_per_second;
        }
        self.sealed_queue.set_capacity(limits.queue as usize);
        self.bare_queue.set_capacity(limits.queue as usize);
    }

    /// Takes a datagram, and says who has no place for it: its sender, or somebody who waits with more.
    ///
    /// The shape comes first, so that garbage does not use up a budget.
    pub(super) fn admit(&mut self, datagram: Received, now: BootTime) -> Result<(), TurnedAway> {
        let (source, received) = (datagram.source.ip(), datagram.received);
        let away = |refusal| TurnedAway { source, refusal };
        let knock = knock::decode(datagram).map_err(away)?;
        let (bucket, queue) = match knock.form {
            Form::Bare => (&mut self.bare, &mut self.bare_queue),
            Form::Sealed => {
                let fresh = || Bucket::full(self.knocks_per_second, now);
                (self.groups.entry(knock.group).or_insert_with(fresh), &mut self.sealed_queue)
            }
        };
        // When it came, not when it was read: a stall must not cost what came in time.
        if !bucket.take(received.min(now)) {
            return Err(away(Refusal::RateLimited));
        }
        match queue.push(knock.group, source.to_canonical(), knock) {
            None => Ok(()),
            Some(last) => Err(TurnedAway { source: last.source, refusal: Refusal::QueueFull }),
        }
    }

    /// The next job, if one waits and a worker has room. Sealed and bare knocks take turns, so do the groups, and the
    /// sources in each of them.
    pub(super) fn next_job(&mut self) -> Option<Job> {
        if self.at_work.len() >= self.most_at_work {
            return None;
        }
        let (first, second) = match self.bare_is_next {
            true => (&mut self.bare_queue, &mut self.sealed_queue),
            false => (&mut self.sealed_queue, &mut self.bare_queue),
        };
        let knock = first.pop().or_else(|| second.pop())?;
        self.bare_is_next = match knock.form {
            Form::Sealed => true,
            Form::Bare => false,
        };
        let id = self.next_job;
        self.next_job += 1;
        self.at_work.insert(id, ());
        Some(Job { id, knock })
    }

    pub(super) fn at_work(&self) -> usize {
        self.at_work.len()
    }

    pub(super) fn is_at_work(&self, job: u64) -> bool {
        self.at_work.contains_key(&job)
    }

    pub(super) fn release(&mut self, job: u64) {
        self.at_work.remove(&job);
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
