//! The one loop. It owns every mutable thing and executes what the gate decides; threads and tasks only hand it events.

use std::{collections::BTreeMap, future::pending, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::{
    io::unix::AsyncFd,
    sync::{mpsc, watch},
    task::yield_now,
};

use super::{
    Options,
    core::Core,
    devices::{Devices, LastIpsec},
    follower::Follower,
    keys::Answer,
    reload,
    sources::{Listeners, Signals},
    sweeper::{self, Sweeper, Swept},
    watch::readable,
    workers::{Done, Found, Workers},
};
use crate::{
    admin::{self, server::Asked},
    clock::{self, BootTime, Now},
    config::Admin,
    datapath::{addresses, flows::FlowReader, interfaces, ring::Ring},
    keyring::{
        fetch,
        refresh::{Refresher, is_remote},
    },
    metrics::{self, server::Probe},
    refusal::Refusal,
    snapshot::Snapshot,
    table::{self, Table},
    token::Principal,
    verify::{Job, Outcome},
};

/// Knocks taken from the ring before others get their turn.
const BATCH: usize = 64;

/// Longest sleep: timeouts are in boot time, which a suspended host's timers do not follow.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// What the loop starts with.
pub(super) struct Parts {
    pub(super) options: Options,
    pub(super) snapshot: Snapshot,
    pub(super) core: Core,
    pub(super) listeners: Listeners,
    pub(super) signals: Signals,
    pub(super) started: Now,
}

/// How the loop ended.
pub(super) struct End {
    pub(super) exit: ExitCode,
    pub(super) detach: bool,
}

/// The loop's state.
pub(super) struct Runtime {
    pub(super) options: Options,
    pub(super) snapshots: Arc<ArcSwap<Snapshot>>,
    pub(super) core: Core,
    pub(super) refresher: Refresher,
    pub(super) follower: Follower,
    pub(super) sweeper: Sweeper,
    pub(super) flow_reader: Arc<FlowReader>,
    pub(super) swept: mpsc::UnboundedSender<Swept>,
    pub(super) devices: Devices,
    pub(super) ipsec: LastIpsec,
    pub(super) started: Now,
    pub(super) trial_ends: Option<BootTime>,
    pub(super) reload_error: Option<String>,
    pub(super) admin: watch::Sender<Arc<Admin>>,
    workers: Workers,
    /// Made where some issuer's keys are fetched.
    pub(super) http: Option<reqwest::Client>,
    /// What ends the loop.
    pub(super) fatal: Option<String>,
    pub(super) fetched: mpsc::UnboundedSender<Answer>,
    /// Why the last fetch of an issuer's keys failed.
    pub(super) fetch_errors: BTreeMap<String, String>,
}

/// Where events come from.
struct Sources {
    sealed: AsyncFd<Ring>,
    bare: AsyncFd<Ring>,
    addresses: AsyncFd<addresses::Changes>,
    devices: AsyncFd<interfaces::Changes>,
    done: mpsc::UnboundedReceiver<Vec<Done>>,
    asked: mpsc::Receiver<Asked>,
    probes: mpsc::Receiver<Probe>,
    fetched: mpsc::UnboundedReceiver<Answer>,
    swept: mpsc::UnboundedReceiver<Swept>,
    signals: Signals,
}

impl Runtime {
    pub(super) fn prepare(parts: Parts) -> anyhow::Result<Starting> {
        let Parts { options, snapshot, mut core, listeners, signals, started } = parts;
        let config = Arc::clone(&snapshot.config);
        let rings = core.datapath.take_rings().context("the knock rings were taken before")?;
        let snapshots = Arc::new(ArcSwap::from_pointee(snapshot));
        let (workers, done) =
            Workers::start(config.limits.workers, &snapshots).context("starting verification threads")?;
        let (fetched, fetched_events) = mpsc::unbounded_channel();
        let (swept, swept_events) = sweeper::channel();
        let (admin, admin_changes) = watch::channel(Arc::new(config.admin.clone()));
        #[cfg(feature = "debug-log")]
        tokio::spawn(print_log(readable(core.datapath.log().context("the program's log")?)?));
        let (ask, asked) = mpsc::channel(16);
        let (probe, probes) = mpsc::channel(16);
        tokio::spawn(admin::server::serve(listeners.admin, admin_changes, ask));
        if let Some(metrics) = listeners.metrics {
            tokio::spawn(metrics::server::serve(metrics, probe));
        }
        let sources = Sources {
            sealed: readable(rings.sealed).context("watching the ring of sealed knocks")?,
            bare: readable(rings.bare).context("watching the ring of bare knocks")?,
            addresses: readable(addresses::Changes::subscribe()?).context("watching this host's addresses")?,
            devices: interfaces::Changes::subscribe().and_then(readable).context("watching this host's devices")?,
            done,
            asked,
            probes,
            fetched: fetched_events,
            swept: swept_events,
            signals,
        };
        let runtime = Self {
            trial_ends: options.trial.map(|trial| clock::now().boot.after(trial)),
            flow_reader: Arc::new(core.datapath.flow_reader()?),
            sweeper: Sweeper::new(started.boot),
            swept,
            options,
            snapshots,
            core,
            refresher: Refresher::new(&config.issuers, started.boot),
            follower: Follower::new(started.boot),
            devices: Devices::new(started.boot),
            ipsec: LastIpsec::default(),
            started,
            reload_error: None,
            admin,
            workers,
            http: if config.issuers.iter().any(is_remote) { Some(fetch::client()?) } else { None },
            fatal: None,
            fetched,
            fetch_errors: BTreeMap::new(),
        };
        Ok(Starting { runtime, sources })
    }

    /// The snapshot in force.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.load_full()
    }

    /// Executes what the gate wants done.
    pub(super) fn settle(&mut self) {
        self.core.settle();
    }

    async fn run(mut self, mut sources: Sources) -> anyhow::Result<End> {
        loop {
            self.on_time();
            self.settle();
            if self.trial_ends.is_some_and(|end| end <= clock::now().boot) {
                tracing::error!("the trial was not confirmed: rolled back");
                return Ok(End { exit: ExitCode::FAILURE, detach: true });
            }
            if let Some(error) = self.fatal.take() {
                tracing::error!("{error}: rolled back");
                return Ok(End { exit: ExitCode::FAILURE, detach: true });
            }
            let is_waiting = self.workers.is_waiting();
            tokio::select! {
                // In the order of their urgency: no flood keeps a new device or address open; a knock that was verified
                // goes before one that waits.
                biased;
                guard = sources.devices.readable() => {
                    let mut guard = guard.context("device changes")?;
                    if self.on_device_changes(guard.get_inner()).is_all {
                        guard.clear_ready();
                    }
                }
                guard = sources.addresses.readable() => {
                    let mut guard = guard.context("address changes")?;
                    if self.on_changes(guard.get_inner()).is_all {
                        guard.clear_ready();
                    }
                }
                Some(done) = sources.done.recv() => {
                    self.on_done(done);
                    for _ in 1..BATCH {
                        let Ok(done) = sources.done.try_recv() else { break };
                        self.on_done(done);
                    }
                    // While workers always have something to hand back, nobody else would look at the rings.
                    self.take_batch(sources.sealed.get_mut());
                    self.take_batch(sources.bare.get_mut());
                }
                _ = sources.signals.terminate.recv() => return Ok(self.stopped()),
                _ = sources.signals.interrupt.recv() => return Ok(self.stopped()),
                _ = sources.signals.hangup.recv() => self.on_hangup(),
                // Whoever has asked is answered while it yields; then it goes before whoever asks next.
                () = yield_now(), if is_waiting => {
                    let done = self.workers.verify_waiting();
                    self.on_done(done);
                    self.take_batch(sources.sealed.get_mut());
                    self.take_batch(sources.bare.get_mut());
                }
                Some(asked) = sources.asked.recv() => self.on_asked(asked),
                Some(probe) = sources.probes.recv() => self.on_probe(probe),
                Some(fetched) = sources.fetched.recv() => self.on_fetched(fetched),
                Some(swept) = sources.swept.recv() => self.on_swept(swept),
                guard = sources.sealed.readable_mut(), if !is_waiting => {
                    let mut guard = guard.context("the ring of sealed knocks")?;
                    if self.take_batch(guard.get_inner_mut()) {
                        guard.clear_ready();
                    }
                }
                guard = sources.bare.readable_mut(), if !is_waiting => {
                    let mut guard = guard.context("the ring of bare knocks")?;
                    if self.take_batch(guard.get_inner_mut()) {
                        guard.clear_ready();
                    }
                }
                () = sleep(self.next_timeout()) => {}
            }
        }
    }

    fn next_timeout(&self) -> Option<BootTime> {
        let timeouts = [
            self.core.gate.poll_timeout(),
            self.core.datapath.tables().hints_due(),
            self.refresher.poll_timeout(),
            self.follower.poll_timeout(),
            self.sweeper.poll_timeout(),
            Some(self.devices.poll_timeout()),
            self.trial_ends,
        ];
        timeouts.into_iter().flatten().min()
    }

    fn on_time(&mut self) {
        let now = clock::now();
        if let Err(error) = self.core.datapath.filter_mut().set_clock(now) {
            tracing::error!("setting the program's wall clock: {error:#}");
        }
        if let Err(error) = self.core.store.compact(now) {
            tracing::error!("{error}");
        }
        if self.devices.poll_timeout() <= now.boot {
            self.look_at_devices();
        }
        if self.follower.poll_timeout().is_some_and(|due| due <= now.boot) {
            self.follow_addresses();
        }
        if self.core.gate.poll_timeout().is_some_and(|due| due <= now.boot) {
            self.core.gate.handle_timeout(now);
        }
        self.sweep_due();
        self.fetch_due(now);
    }

    /// Takes knocks from a ring until it is empty, or others are to have their turn. Says whether it is empty.
    fn take_batch(&mut self, ring: &mut Ring) -> bool {
        let (mut jobs, now) = (Vec::new(), clock::now());
        let is_empty = (0..BATCH).any(|_| match ring.next_knock() {
            Some(datagram) => {
                self.core.gate.admit(datagram, now);
                jobs.extend(std::iter::from_fn(|| self.core.gate.next_job()));
                false
            }
            None => true,
        });
        self.hand_out(jobs);
        is_empty
    }

    /// One job alone is done here: to wake a thread and to be woken by it takes as long as many a signature.
    fn hand_out(&mut self, mut jobs: Vec<Job>) {
        if let Some(job) = jobs.pop_if(|_| self.core.gate.at_work() == 1) {
            let done = self.workers.verify_here(job);
            return self.on_done(vec![done]);
        }
        for job in jobs {
            self.verify(job);
        }
    }

    fn verify(&mut self, job: Job) {
        let id = job.id;
        if !self.workers.verify(job) {
            tracing::error!("a verification thread is gone");
            self.core.gate.abandon(id);
        }
    }

    fn on_done(&mut self, done: Vec<Done>) {
        let mut principals: Table<Arc<Principal>, ()> = table::empty();
        let mut now = clock::now();
        for Done { job, found } in done {
            let Some(found) = found else {
                tracing::error!("a knock from {} is given up: its verification panicked", job.knock.source);
                self.core.gate.abandon(job.id);
                continue;
            };
            if let Outcome::Allowed(allowed) = &found.outcome.outcome {
                let principal = allowed.token.principal();
                // What the knock before did must be there for the next of the same sender.
                if principals.contains_key(principal) {
                    self.settle();
                    principals.clear();
                    now = clock::now();
                }
                principals.insert(Arc::clone(principal), ());
            }
            self.conclude(job, found, now);
        }
        let jobs = std::iter::from_fn(|| self.core.gate.next_job()).collect();
        self.settle();
        self.hand_out(jobs);
    }

    fn conclude(&mut self, job: Job, found: Found, now: Now) {
        let Found { snapshot_generation, outcome } = found;
        if let Outcome::Denied(denied) = &outcome.outcome
            && matches!(denied.refusal, Refusal::UnknownKid | Refusal::NoKeys)
            && let Some(issuer) = &denied.issuer
        {
            self.refresher.want(issuer, now.boot);
        }
        if let Some(again) = self.core.gate.conclude(job, snapshot_generation, outcome, now) {
            self.verify(again);
        }
    }

    fn on_hangup(&mut self) {
        if let Err(error) = self.core.audit.reopen() {
            tracing::error!("{error}");
        }
        match reload::reload(self, None) {
            Ok(warnings) => {
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
            }
            Err(error) => {
                tracing::error!("the reload was refused, and the old configuration stays in force:\n{error:#}")
            }
        }
    }

    fn stopped(&mut self) -> End {
        let detach = self.options.detach_on_exit || self.trial_ends.is_some();
        if let Err(error) = self.core.datapath.tables_mut().finish_hints() {
            tracing::warn!("writing which sources can have a grant: {error:#}; until the next start drops cost more");
        }
        match (self.trial_ends, detach) {
            (Some(_), _) => tracing::info!("stopping in an unconfirmed trial: rolled back"),
            (None, true) => tracing::info!("stopping"),
            (None, false) => tracing::info!("stopping; enforcement stays in place (`jpatd detach` takes it away)"),
        }
        End { exit: ExitCode::SUCCESS, detach }
    }
}

/// A runtime whose sources are open and whose loop has not begun.
pub(super) struct Starting {
    runtime: Runtime,
    sources: Sources,
}

impl Starting {
    /// Gate and data path, to bring them up.
    pub(super) const fn core(&mut self) -> &mut Core {
        &mut self.runtime.core
    }

    /// Serves until the end.
    pub(super) async fn serve(self) -> anyhow::Result<End> {
        let listen = &self.runtime.snapshots.load().config.listen;
        tracing::info!("ready: knocks on udp/{}", listen.port);
        self.runtime.run(self.sources).await
    }
}

/// Prints the program's own log lines as they come.
#[cfg(feature = "debug-log")]
async fn print_log(mut logger: AsyncFd<aya_log::EbpfLogger<&'static dyn log::Log>>) {
    while let Ok(mut guard) = logger.readable_mut().await {
        guard.get_inner_mut().flush();
        guard.clear_ready();
    }
}

async fn sleep(until: Option<BootTime>) {
    match until {
        Some(until) => tokio::time::sleep(clock::now().boot.until(until).min(MAX_SLEEP)).await,
        None => pending().await,
    }
}
