//! Threads that verify, so that the loop never waits for a signature.

use std::{
    sync::{Arc, mpsc},
    thread,
};

use arc_swap::ArcSwap;
use tokio::sync::mpsc as async_mpsc;

use crate::{
    clock,
    snapshot::Snapshot,
    verify::{self, Job, NoRecord, Outcome},
};

/// What a worker hands back.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) job: Job,
    pub(super) snapshot_generation: u64,
    pub(super) outcome: Outcome,
}

/// The threads' inboxes. The gate bounds how many jobs are under way.
#[derive(Debug)]
pub(super) struct Workers {
    inboxes: Vec<mpsc::Sender<Job>>,
    next: usize,
}

impl Workers {
    /// Starts `count` threads (at least one) that read `snapshots` anew for every job.
    pub(super) fn start(
        count: u32,
        snapshots: &Arc<ArcSwap<Snapshot>>,
    ) -> std::io::Result<(Self, async_mpsc::UnboundedReceiver<Done>)> {
        let (done, results) = async_mpsc::unbounded_channel();
        let mut inboxes = Vec::new();
        for number in 0..count.max(1) {
            let (inbox, jobs) = mpsc::channel::<Job>();
            let (done, snapshots) = (done.clone(), Arc::clone(snapshots));
            thread::Builder::new().name(format!("verify-{number}")).spawn(move || work(&jobs, &snapshots, &done))?;
            inboxes.push(inbox);
        }
        Ok((Self { inboxes, next: 0 }, results))
    }

    /// Hands a job to the next thread in turn. False when that thread is gone.
    pub(super) fn verify(&mut self, job: Job) -> bool {
        self.next = (self.next + 1) % self.inboxes.len();
        self.inboxes[self.next].send(job).is_ok()
    }
}

fn work(jobs: &mpsc::Receiver<Job>, snapshots: &ArcSwap<Snapshot>, done: &async_mpsc::UnboundedSender<Done>) {
    while let Ok(job) = jobs.recv() {
        let snapshot = snapshots.load();
        let outcome = verify::verify(&job.knock, &snapshot, clock::now(), &mut NoRecord);
        if done.send(Done { job, snapshot_generation: snapshot.generation, outcome }).is_err() {
            return;
        }
    }
}
