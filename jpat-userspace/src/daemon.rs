//! The controller as a process: start order, privileges, end.
//!
//! Order of a start: configuration, rules, static keys; the lock on the pins; the caller's own connection; sockets;
//! the program and its tables; what an earlier controller granted; attach; pin; then knocks are read. Whatever fails
//! before the attach leaves the host as it was.

pub mod cli;
pub mod load;
mod core;
mod follower;
mod lock;
mod lockout;
mod offline;
mod reload;
mod requests;
mod runtime;
mod watch;
mod workers;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use jpat_common::settings::{MODE_AUDIT, MODE_ENFORCE};

pub use self::lock::{Lock, LockError};
use self::{
    core::Core,
    load::Loaded,
    runtime::{Listeners, Runtime},
};
use crate::{
    audit::AuditLog,
    clock,
    config::{Config, Destinations, MAX_TTL, Mode},
    datapath::{self, DataPath, addresses, tables::Rules},
    gate::{self, Gate},
    metrics::Metrics,
    store,
    verify::Opening,
};

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Roll back after this time unless confirmed; nothing is pinned until then.
    pub trial: Option<Duration>,
    /// Take enforcement away at an orderly exit.
    pub detach_on_exit: bool,
    /// Start even if that cuts the caller's own connection.
    pub force: bool,
}

/// Runs until a signal, or until a trial is over.
///
/// # Errors
/// Whatever keeps it from starting, with what to do about it.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let Loaded { config, interfaces, warnings } = load::read(&options.config)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let names: Vec<_> = config.services.iter().map(|service| service.name.as_str()).collect();
    std::fs::create_dir_all(&config.state).with_context(|| format!("state directory {}", config.state.display()))?;
    let mut services = store::Services::open(&config.state, &names)?;
    let (snapshot, notes) = load::snapshot(Arc::clone(&config), services.ids(&names), 1, None)?;
    for note in &notes {
        tracing::warn!("{note}");
    }

    let lock = Lock::take(&config.pins)?;
    let datapath = DataPath::open(&datapath::Request { pins: config.pins.clone(), grants: config.limits.grants })
        .context("opening the data path")?;
    if datapath.adopted() && options.trial.is_some() {
        anyhow::bail!(
            "an earlier controller's enforcement stands on {}, so there is nothing to roll back to\n  remedy: leave --try out; or `jpat mode audit`, or `jpatd detach` first",
            config.pins.display()
        );
    }
    if !datapath.adopted() {
        lockout::check(&config, &options)?;
    }

    let listeners = Listeners::open(&config.admin).await?;
    let started = clock::now();
    let settings = datapath.tables().settings()?;
    let generation = settings.generation.max(1);
    let capacity = datapath.capacity();
    if capacity != config.limits.grants {
        tracing::warn!(
            "the pinned grant map holds {capacity} entries, not the {} of `limits.grants`, until `jpatd detach`",
            config.limits.grants
        );
    }
    let usable = usable(capacity);
    let gate = Gate::new(
        gate::Settings {
            limits: config.limits,
            usable,
            max_ttl: MAX_TTL,
            generation,
            snapshot_generation: snapshot.generation,
            once_since: started.unix,
        },
        started,
    );
    let audit = AuditLog::open(&config.audit)?;
    let mut core = Core { gate, datapath, audit, metrics: Metrics::default(), usable, generation };
    let found = core.datapath.tables().grants()?;
    let rules_now = load::rule_digests(&config);
    // A grant of a service whose rules changed while no controller ran was never allowed by them.
    let mut adoptable = openings(&config, &snapshot.service_ids);
    adoptable
        .retain(|opening| rules_now.get(&*opening.name).is_some_and(|now| services.is_unchanged(&opening.name, now)));
    core.gate.adopt(found, &adoptable, started);
    let prepared = core.datapath.tables_mut().prepare(rules(&config, &snapshot.service_ids)?)?;
    // What was not adopted goes before the ports of its service can mean something else.
    core.settle();
    services.settle(rules_now)?;
    core.datapath.tables_mut().switch(prepared, mode_number(config.mode), generation)?;

    for interface in interfaces {
        let attached = core.datapath.attach(&interface, config.listen.attach)?;
        match &attached.why {
            None => tracing::info!("attached to {interface} ({} mode)", attached.hook.as_str()),
            Some(why) => tracing::warn!("attached to {interface} ({} mode): {why}", attached.hook.as_str()),
        }
    }
    if options.trial.is_none() {
        core.datapath.pin().context("pinning")?;
        for ifindex in core.datapath.drop_stale_links()? {
            tracing::warn!("detached from interface {ifindex}: `listen.interfaces` does not name it any more");
        }
    }
    let runtime = Runtime::prepare(runtime::Parts { options: options.clone(), snapshot, core, listeners, started })?;
    let end = runtime.serve().await?;
    if end.detach {
        let removed = datapath::detach(&config.pins)?;
        tracing::info!("detached: {} links, {} maps", removed.links, removed.maps);
    }
    drop(lock);
    Ok(end.exit)
}

/// Takes enforcement away, unless a controller is at work.
///
/// # Errors
/// A controller that runs, or pins that cannot be removed.
pub fn detach(config: &Config) -> anyhow::Result<datapath::pins::Removed> {
    let lock = Lock::take(&config.pins)?;
    let removed = datapath::detach(&config.pins)?;
    drop(lock);
    Ok(removed)
}

/// Entries that may be in use, so that the LRU map never evicts a live one: each CPU's free list takes up to 128
/// (`LOCAL_FREE_TARGET` in kernel/bpf/bpf_lru_list.c).
fn usable(capacity: u32) -> u32 {
    let cpus = u32::try_from(aya::util::nr_cpus().unwrap_or(1024)).unwrap_or(1024);
    capacity.saturating_sub(cpus.saturating_mul(128))
}

const fn mode_number(mode: Mode) -> u32 {
    match mode {
        Mode::Enforce => MODE_ENFORCE,
        Mode::Audit => MODE_AUDIT,
    }
}

/// What every service of a configuration opens.
fn openings(config: &Config, ids: &load::ServiceIds) -> Vec<Opening> {
    let opening = |service: &crate::config::Service| {
        Some(Opening {
            service: *ids.get(&service.name)?,
            name: service.name.as_str().into(),
            ttl: service.ttl,
            prefix: service.prefix,
        })
    };
    config.services.iter().filter_map(opening).collect()
}

/// A configuration as the data path needs it.
fn rules(config: &Config, ids: &load::ServiceIds) -> anyhow::Result<Rules> {
    let destinations = match &config.listen.destinations {
        Destinations::Any => None,
        // Without them every destination is judged; the loop tries again and tells of it.
        Destinations::Local => addresses::local().ok(),
        Destinations::Prefixes(prefixes) => Some(prefixes.iter().copied().collect()),
    };
    let services = config
        .services
        .iter()
        .filter_map(|service| ids.get(&service.name).map(|id| (*id, service.ports.clone(), service.prefix)));
    Ok(Rules {
        services: services.collect(),
        always_allow: config.always_allow.iter().copied().collect(),
        destinations,
        drop_tunnels: config.listen.drop_tunnels,
        knock_port: config.listen.port,
        max_ttl: MAX_TTL,
    })
}
