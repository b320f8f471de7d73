//! When the flow map is looked through: a thread reads it, the loop decides.

mod fate;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use jpat_common::grant::GrantKey;
use tokio::{sync::mpsc, task};

pub(super) use self::fate::{Fate, Judge, grant_key, is_looked_up};
use super::runtime::Runtime;
use crate::{
    clock::{self, BootTime},
    datapath::{
        error::DataPathError,
        flows::{FlowReader, Found},
        sock_diag::{self, Sockets},
    },
};

/// A tenth of the time at most goes into reading.
const PAUSE_FACTOR: u32 = 9;
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Between readings of all flows while none is opened or on its way to its end.
const QUIET: Duration = Duration::from_secs(5);

/// Sans-IO: it says when, somebody else reads.
#[derive(Debug)]
pub(super) struct Sweeper {
    /// Nothing while somebody reads.
    due: Option<BootTime>,
    /// When all flows must be read again, whatever was opened.
    whole: BootTime,
    opened: Arc<BTreeMap<GrantKey, u64>>,
    failure: Option<String>,
}

/// What a thread is to find out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Task {
    /// Read the flows only if what was opened is not this.
    pub(super) known: Option<Arc<BTreeMap<GrantKey, u64>>>,
}

/// What a thread found out.
#[derive(Debug)]
pub(super) struct Swept {
    began: BootTime,
    found: anyhow::Result<(Found, Option<Sockets>)>,
}

impl Sweeper {
    pub(super) fn new(now: BootTime) -> Self {
        Self { due: Some(now), whole: now, opened: Arc::default(), failure: None }
    }

    pub(super) const fn poll_timeout(&self) -> Option<BootTime> {
        self.due
    }

    /// What to read now, if it is time. Until the result comes it is not time again.
    pub(super) fn begin(&mut self, now: BootTime) -> Option<Task> {
        self.due.take_if(|due| *due <= now)?;
        let is_whole = self.whole <= now;
        Some(Task { known: (!is_whole).then(|| Arc::clone(&self.opened)) })
    }

    /// All flows are to be read the next time.
    pub(super) fn handle_change(&mut self, now: BootTime) {
        self.whole = self.whole.min(now);
    }

    /// How it went: what was opened, and whether flows were read and all of them are at rest.
    pub(super) fn handle_result(
        &mut self,
        result: Result<(BTreeMap<GrantKey, u64>, Option<Rest>), String>,
        began: BootTime,
        ended: BootTime,
    ) -> bool {
        let pause = began.until(ended).saturating_mul(PAUSE_FACTOR).clamp(MIN_PAUSE, MAX_PAUSE);
        self.due = Some(ended.after(pause));
        let failure = match result {
            Ok((opened, rest)) => {
                self.opened = Arc::new(opened);
                match rest {
                    Some(Rest::Quiet) => self.whole = ended.after(QUIET),
                    Some(Rest::Busy) => self.whole = ended,
                    None => {}
                }
                None
            }
            Err(failure) => Some(failure),
        };
        let is_news = failure != self.failure;
        self.failure = failure;
        is_news
    }

    /// What went wrong, until it goes well.
    pub(super) fn alarm(&self) -> Option<String> {
        let failure = self.failure.as_ref()?;
        Some(format!("flows cannot be looked through: {failure}; those that are over stay in the table until they can"))
    }
}

/// What the flows are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rest {
    /// None is about to end, as far as can be seen.
    Quiet,
    /// Some were removed, or may have to be soon.
    Busy,
}

impl Runtime {
    /// Has a thread look, if it is time.
    pub(super) fn sweep_due(&mut self) {
        let now = clock::now().boot;
        if std::mem::take(&mut self.core.flows.is_stale) {
            self.sweeper.handle_change(now);
        }
        let Some(task) = self.sweeper.begin(now) else { return };
        let (reader, swept) = (Arc::clone(&self.flow_reader), self.swept.clone());
        let began = clock::now().boot;
        let looking = task::spawn_blocking(move || look(&reader, &task));
        tokio::spawn(async move {
            let found = looking.await.context("the thread that reads flows").flatten();
            // The loop may be over.
            drop(swept.send(Swept { began, found }));
        });
    }

    pub(super) fn on_swept(&mut self, swept: Swept) {
        let Swept { began, found } = swept;
        let result = found.and_then(|(found, sockets)| {
            let rest = match &found.flows {
                Some(flows) => Some(self.core.sweep(flows, &found.opened, sockets.as_ref(), began)?),
                None => None,
            };
            Ok((found.opened, rest))
        });
        let result = result.map_err(|error| format!("{error:#}"));
        if self.sweeper.handle_result(result, began, clock::now().boot) {
            match self.sweeper.alarm() {
                Some(alarm) => tracing::error!("{alarm}"),
                None => tracing::info!("flows are looked through again"),
            }
        }
    }
}

/// Where results come from and go to.
pub(super) fn channel() -> (mpsc::UnboundedSender<Swept>, mpsc::UnboundedReceiver<Swept>) {
    mpsc::unbounded_channel()
}

fn look(reader: &FlowReader, task: &Task) -> anyhow::Result<(Found, Option<Sockets>)> {
    let found = reader.read(task.known.as_deref())?;
    let is_asked_for = found.flows.iter().flatten().any(|(_, flow)| fate::is_closing(flow));
    let sockets = if is_asked_for { Some(sock_diag::tcp().map_err(DataPathError::Sockets)?) } else { None };
    Ok((found, sockets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> BootTime {
        BootTime::default().after(Duration::from_millis(millis))
    }

    #[test]
    fn one_reading_at_a_time_and_a_tenth_of_the_time_at_most() {
        let mut sweeper = Sweeper::new(at(0));
        assert_eq!(sweeper.begin(at(0)), Some(Task { known: None }));
        assert_eq!((sweeper.poll_timeout(), sweeper.begin(at(9_000))), (None, None), "under way");
        sweeper.handle_result(Ok((BTreeMap::new(), Some(Rest::Busy))), at(0), at(500));
        assert_eq!(sweeper.poll_timeout(), Some(at(5_000)));
        assert_eq!(sweeper.begin(at(4_999)), None);
        assert_eq!(sweeper.begin(at(5_000)), Some(Task { known: None }), "some flows are about to end");
        sweeper.handle_result(Ok((BTreeMap::new(), Some(Rest::Busy))), at(5_000), at(5_001));
        assert_eq!(sweeper.poll_timeout(), Some(at(6_001)));
    }

    #[test]
    fn flows_at_rest_are_read_every_five_seconds_or_when_one_is_opened() {
        let mut sweeper = Sweeper::new(at(0));
        let opened = BTreeMap::from([(GrantKey::new(&[1; 16], &[255; 16], 1), 7)]);
        let mut whole = Vec::new();
        for second in 0..12 {
            let task = sweeper.begin(at(second * 1000)).unwrap();
            whole.push(task.known.is_none());
            let rest = task.known.is_none().then_some(Rest::Quiet);
            if let Some(known) = task.known {
                assert_eq!(*known, opened);
            }
            sweeper.handle_result(Ok((opened.clone(), rest)), at(second * 1000), at(second * 1000));
        }
        let seconds: Vec<_> = (0..12).filter(|second| whole[*second]).collect();
        assert_eq!(seconds, [0, 5, 10]);
    }

    #[test]
    fn a_failure_is_told_once_and_until_it_goes_well() {
        let mut sweeper = Sweeper::new(at(0));
        for (result, is_news) in [(Err("no".to_owned()), true), (Err("no".to_owned()), false), (Ok(()), true)] {
            let result = result.map(|()| (BTreeMap::new(), None));
            assert_eq!(sweeper.handle_result(result, at(0), at(0)), is_news);
        }
        assert_eq!(sweeper.alarm(), None);
    }
}
