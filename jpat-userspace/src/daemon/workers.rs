//! Threads that verify, so that the loop never waits for more than one signature. Where there is but one CPU a thread would
//! only take it from the loop, knock by knock: there the loop verifies by itself, some at a time.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread,
};

use arc_swap::ArcSwap;
use tokio::sync::mpsc as async_mpsc;

use crate::{
    clock,
    snapshot::Snapshot,
    verify::{self, Job, Judged, NoRecord},
};

/// Most jobs that are handed back at once, where more wait: to wake the loop costs a good part of a signature, and what is
/// written for several costs little more than for one.
const AT_ONCE: usize = 32;

/// What a worker hands back.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) job: Job,
    /// Nothing if the verification panicked: the job is to be given up.
    pub(super) found: Option<Found>,
}

/// An outcome, and the generation of the snapshot that led to it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) snapshot_generation: u64,
    pub(super) outcome: Judged,
}

/// The threads' inboxes. The gate bounds how many jobs are under way.
pub(super) struct Workers {
    /// None if the loop is to verify.
    inboxes: Vec<mpsc::Sender<Job>>,
    next: usize,
    /// What waits for the loop.
    here: VecDeque<Job>,
    snapshots: Arc<ArcSwap<Snapshot>>,
}

impl Workers {
    /// Starts `count` threads that read `snapshots` anew for every job.
    pub(super) fn start(
        count: u32,
        snapshots: &Arc<ArcSwap<Snapshot>>,
    ) -> std::io::Result<(Self, async_mpsc::UnboundedReceiver<Vec<Done>>)> {
        let (done, results) = async_mpsc::unbounded_channel();
        let mut inboxes = Vec::new();
        for number in 0..count {
            let (inbox, jobs) = mpsc::channel::<Job>();
            let (done, snapshots) = (done.clone(), Arc::clone(snapshots));
            let verify = move |job: &Job| found(&snapshots, job);
            thread::Builder::new().name(format!("verify-{number}")).spawn(move || work(&jobs, &done, verify))?;
            inboxes.push(inbox);
        }
        Ok((Self { inboxes, next: 0, here: VecDeque::new(), snapshots: Arc::clone(snapshots) }, results))
    }

    /// Does a job on the caller's thread.
    pub(super) fn verify_here(&self, job: Job) -> Done {
        done(job, |job| found(&self.snapshots, job))
    }

    /// Hands a job to the next thread in turn, or keeps it for [`Self::verify_waiting`]. False when that thread is gone.
    pub(super) fn verify(&mut self, job: Job) -> bool {
        if self.inboxes.is_empty() {
            self.here.push_back(job);
            return true;
        }
        self.next = (self.next + 1) % self.inboxes.len();
        self.inboxes[self.next].send(job).is_ok()
    }

    /// Whether jobs wait for the caller's thread.
    pub(super) fn is_waiting(&self) -> bool {
        !self.here.is_empty()
    }

    /// Does some of the jobs that wait for the caller's thread.
    pub(super) fn verify_waiting(&mut self) -> Vec<Done> {
        let mut finished = Vec::with_capacity(self.here.len().min(AT_ONCE));
        while finished.len() < AT_ONCE
            && let Some(job) = self.here.pop_front()
        {
            finished.push(self.verify_here(job));
        }
        finished
    }
}

fn found(snapshots: &ArcSwap<Snapshot>, job: &Job) -> Found {
    let snapshot = snapshots.load();
    let outcome = verify::judge(&job.knock, &snapshot, clock::now(), &mut NoRecord);
    Found { snapshot_generation: snapshot.generation, outcome }
}

fn done(job: Job, verify: impl Fn(&Job) -> Found) -> Done {
    // What a verification reads it does not change, so that nothing is left half done.
    let found = catch_unwind(AssertUnwindSafe(|| verify(&job))).ok();
    Done { job, found }
}

/// A panic costs the one knock: its job is handed back without an outcome, and the next is taken.
fn work(jobs: &mpsc::Receiver<Job>, back: &async_mpsc::UnboundedSender<Vec<Done>>, verify: impl Fn(&Job) -> Found) {
    while let Ok(job) = jobs.recv() {
        let (mut next, mut finished) = (Some(job), Vec::new());
        while let Some(job) = next {
            finished.push(done(job, &verify));
            next = if finished.len() < AT_ONCE { jobs.try_recv().ok() } else { None };
        }
        if back.send(finished).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::BootTime,
        knock::Knock,
        refusal::Refusal,
        verify::{Denied, Outcome},
    };

    #[test]
    fn a_panic_gives_its_job_back_and_the_thread_goes_on() {
        let (inbox, jobs) = mpsc::channel();
        let (done, mut results) = async_mpsc::unbounded_channel();
        let verify = |job: &Job| {
            assert!(job.id.is_multiple_of(2), "this one is meant to panic");
            let denied = Denied { refusal: Refusal::Expired, issuer: None, who: None, rule: None };
            Found { snapshot_generation: 7, outcome: Outcome::Denied(denied).into() }
        };
        let thread = thread::spawn(move || work(&jobs, &done, verify));
        for id in 1..=4 {
            inbox.send(job(id)).unwrap();
        }
        drop(inbox);
        let back: Vec<_> = std::iter::from_fn(|| results.blocking_recv())
            .flatten()
            .map(|done| (done.job.id, done.found.map(|found| found.snapshot_generation)))
            .collect();
        assert_eq!(back, [(1, None), (2, Some(7)), (3, None), (4, Some(7))]);
        thread.join().unwrap();
    }

    fn job(id: u64) -> Job {
        let source = "192.0.2.1".parse().unwrap();
        Job { id, knock: Knock::bare("a.b.c".to_owned(), source, BootTime(0)) }
    }
}
