//! When this host's addresses are read again, and what stands in the way: `destinations = "local"` follows them.

use std::time::Duration;

use super::runtime::Runtime;
use crate::{
    clock::{self, BootTime},
    config::Destinations,
    datapath::addresses::{Changes, Told},
};

/// Between attempts while the addresses cannot be read.
const RETRY: Duration = Duration::from_secs(1);
/// A tenth of the time goes into reading, however often addresses change and however many routes a router has.
const PAUSE_FACTOR: u32 = 9;
const MIN_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = RETRY;

/// Sans-IO: it says when, somebody else reads.
#[derive(Debug)]
pub(super) struct Follower {
    due: Option<BootTime>,
    /// No reading before.
    rested: BootTime,
    failure: Option<String>,
}

impl Follower {
    /// The first reading is due at once: what changed before the subscription was not told.
    pub(super) const fn new(now: BootTime) -> Self {
        Self { due: Some(now), rested: now, failure: None }
    }

    /// Something changed: it is read now, or together with what else changes while it has to wait.
    pub(super) fn handle_change(&mut self, now: BootTime) {
        let soon = now.max(self.rested);
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// How the reading went that began and ended then. Says whether that is another result than before.
    pub(super) fn handle_result(&mut self, result: Result<(), String>, began: BootTime, ended: BootTime) -> bool {
        let pause = began.until(ended).saturating_mul(PAUSE_FACTOR).clamp(MIN_PAUSE, MAX_PAUSE);
        self.rested = ended.after(pause);
        let failure = result.err();
        self.due = failure.as_ref().map(|_| ended.after(RETRY));
        let is_news = failure != self.failure;
        self.failure = failure;
        is_news
    }

    /// When to read.
    pub(super) const fn poll_timeout(&self) -> Option<BootTime> {
        self.due
    }

    /// What went wrong and what that means, until it goes well.
    pub(super) fn alarm(&self) -> Option<String> {
        self.failure.as_ref().map(|failure| {
            format!(
                "this host's addresses cannot be followed: {failure}; until they can, packets to any destination are \
                 judged, so forwarded traffic to protected ports is dropped"
            )
        })
    }
}

impl Runtime {
    /// Takes what the kernel told.
    pub(super) fn on_changes(&mut self, changes: &Changes) -> Told {
        let told = changes.drain();
        if told.is_change {
            self.follower.handle_change(clock::now().boot);
        }
        told
    }

    /// Brings this host's addresses into force, as they are now.
    pub(super) fn follow_addresses(&mut self) {
        let began = clock::now().boot;
        let result = match self.snapshot().config.listen.destinations {
            Destinations::Local => self.core.judge_local(),
            Destinations::Any | Destinations::Prefixes(_) => Ok(()),
        };
        let result = result.map_err(|error| format!("{:#}", anyhow::Error::from(error)));
        if self.follower.handle_result(result, began, clock::now().boot) {
            match self.follower.alarm() {
                Some(alarm) => tracing::error!("{alarm}"),
                None => tracing::info!("this host's addresses are followed again"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> BootTime {
        BootTime::default().after(Duration::from_millis(millis))
    }

    fn at_rest() -> Follower {
        let mut follower = Follower::new(at(0));
        assert_eq!(follower.poll_timeout(), Some(at(0)), "what changed before the subscription");
        assert!(!follower.handle_result(Ok(()), at(0), at(0)));
        assert_eq!(follower.poll_timeout(), None);
        follower
    }

    #[test]
    fn p2_the_first_change_is_read_at_once_and_a_storm_is_coalesced() {
        let mut follower = at_rest();
        follower.handle_change(at(5000));
        assert_eq!(follower.poll_timeout(), Some(at(5000)));
        follower.handle_result(Ok(()), at(5000), at(5030));
        for change in 5031..5300 {
            follower.handle_change(at(change));
            assert_eq!(follower.poll_timeout(), Some(at(5300)), "nine times the 30 ms that it took");
        }
        follower.handle_result(Ok(()), at(5300), at(5300));
        assert_eq!(follower.poll_timeout(), None);
        follower.handle_change(at(5301));
        assert_eq!(follower.poll_timeout(), Some(at(5310)));
    }

    #[test]
    fn p2_a_failure_is_tried_again_until_it_goes_well() {
        let mut follower = at_rest();
        for second in 1..5 {
            let is_news = follower.handle_result(Err("no".to_owned()), at(second * 1000), at(second * 1000));
            assert_eq!(is_news, second == 1);
            assert_eq!(follower.poll_timeout(), Some(at(second * 1000 + 1000)));
            assert!(follower.alarm().unwrap().contains("followed: no;"));
        }
        follower.handle_change(at(4500));
        assert_eq!(follower.poll_timeout(), Some(at(4500)), "a change does not wait for the timer");
        assert!(follower.handle_result(Ok(()), at(4500), at(4500)));
        assert_eq!((follower.poll_timeout(), follower.alarm()), (None, None));
    }

    #[test]
    fn a_slow_reading_is_not_put_off_for_long() {
        let mut follower = at_rest();
        follower.handle_result(Ok(()), at(0), at(60_000));
        follower.handle_change(at(60_001));
        assert_eq!(follower.poll_timeout(), Some(at(61_000)));
    }
}
