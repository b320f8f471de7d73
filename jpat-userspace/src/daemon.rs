//! The controller as a process: start order, privileges, end.
//!
//! Order of a start: configuration, rules, static keys; the locks on pins and state; the program and its tables, with what
//! an earlier controller left; the caller's own connection; sockets; attach; pin; then knocks are read.
//!
//! Whatever fails leaves in force what was in force. New devices come first, because that can fail. Over the maps of an
//! earlier controller its devices get the new program next, under the old rules, and then one write switches the rules.
//! What those rules let in and the new ones may not, grants and flows, ends right before that write, after all else that
//! can fail; `services.json` calls the new rules settled only once they are in force.
//! Maps that are new or copied are brought to their rules before a device of an earlier controller sees them.

pub mod cli;
pub mod load;
mod core;
mod devices;
mod flows;
mod follower;
mod lock;
mod lockout;
mod keys;
mod offline;
mod probes;
mod reload;
mod requests;
mod replies;
mod runtime;
mod sources;
mod sweeper;
mod watch;
mod workers;

use std::{
    collections::BTreeMap, os::unix::fs::DirBuilderExt as _, path::PathBuf, process::ExitCode, sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use jpat_common::{
    grant::HEADROOM_PER_CPU,
    settings::{MODE_AUDIT, MODE_ENFORCE},
};

pub use self::lock::{Lock, LockError};
use self::{
    core::Core,
    flows::Flows,
    load::Loaded,
    replies::Replies,
    runtime::Runtime,
    sources::{Listeners, Signals},
};
use crate::{
    audit::AuditLog,
    clock::{self, Now},
    config::{
        Config, Destinations, MAX_TTL, Mode, ReplayMode,
        secrets::{self, Secrets},
    },
    datapath::{
        self, DataPath, addresses,
        error::DataPathError,
        filter::{FilterKey, FilterRules},
        interfaces::Target,
        pins::PinDir,
        tables::{self, Prepared, Rules},
    },
    gate::{self, Gate},
    knock::{Form, tag::KnockKey},
    metrics::Metrics,
    store::{
        self,
        replay::{ReplayStore, ReplayStoreError},
    },
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
    /// Start even if the caller could not connect again without a knock, or connections that stand would be cut.
    pub force: bool,
}

/// Runs until a signal, or until a trial is over.
///
/// # Errors
/// Whatever keeps it from starting, with what to do about it.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    // From the first moment on: a SIGHUP during the start must not end it, nor a SIGTERM what it promised to take away.
    let signals = Signals::catch()?;
    let Loaded { config, targets, warnings } = load::read(&options.config)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let pins = PinDir::new(&config.pins)?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.state)
        .with_context(|| format!("state directory {}", config.state.display()))?;
    let locks = (Lock::take(&config.pins)?, Lock::take_state(&config.state)?);
    let names: Vec<_> = config.services.iter().map(|service| service.name.as_str()).collect();
    let opened = clock::now();
    let boot_id = clock::boot_id().context("the kernel's boot id")?;
    let (store, recovered) = match ReplayStore::open(&config.state, &boot_id, pins.is_empty(), opened) {
        // Grants and flows that stand are worth more than new ones.
        Err(error @ ReplayStoreError::Io { .. }) => {
            tracing::error!("{error}");
            ReplayStore::unopened(&config.state, &boot_id, pins.is_empty(), opened)
        }
        result => result?,
    };
    if let Some(note) = &recovered.note {
        tracing::warn!("{note}");
    }
    if recovered.floor > opened.unix {
        tracing::error!(
            "sealed knocks and `once` tokens are refused until {}: the replay store began when this host's clock said so\n  remedy: set the clock; if it is right, delete `replay` and `replay.json` in the state directory",
            recovered.floor
        );
    }
    let mut services = store::Services::open(&config.state, &names)?;
    let secrets = secrets::load(&config).map_err(load::Invalid)?;
    let (snapshot, notes) = load::snapshot(Arc::clone(&config), services.ids(&names), 1, None)?;
    for note in &notes {
        tracing::warn!("{note}");
    }

    let request =
        datapath::Request { pins: config.pins.clone(), grants: config.limits.grants, flows: config.limits.flows };
    let mut datapath = DataPath::open(&request).context("opening the data path")?;
    let was_enforcing = datapath.adopted() && datapath.tables().settings()?.mode != MODE_AUDIT;
    if options.trial.is_some() && datapath.adopted() {
        if was_enforcing {
            anyhow::bail!(
                "an earlier controller's enforcement stands on {}, so there is nothing to roll back to\n  remedy: leave --try out; or `jpat mode audit` or `jpatd detach` first",
                config.pins.display()
            );
        }
        // Audit dropped nothing. Without its pins the death of this process is the way back, as at a first start.
        drop(datapath);
        datapath::clear(&config.pins)?;
        datapath = DataPath::open(&request).context("opening the data path")?;
    }
    if !was_enforcing && config.mode == Mode::Enforce {
        lockout::check_start(&config, &options)?;
    }

    let listeners = Listeners::open(&config.admin).await?;
    let started = clock::now();
    let filter_rules = filter_rules(&config, &secrets);
    datapath.filter_mut().write(&filter_rules).context("filling the knock filter")?;
    datapath.filter_mut().set_clock(started).context("filling the knock filter")?;
    let settings = datapath.tables().settings()?;
    let generation = settings.generation.max(1);
    let capacity = datapath.capacity();
    for (map, key, found, wanted) in [
        ("grant", "grants", capacity, config.limits.grants),
        ("flow", "flows", datapath.flow_capacity(), config.limits.flows),
    ] {
        if found != wanted {
            tracing::warn!(
                "the pinned {map} map holds {found} entries, not the {wanted} of `limits.{key}`, until `jpatd detach`"
            );
        }
    }
    let usable = usable(capacity);
    let gate = Gate::new(
        gate::Settings {
            limits: config.limits,
            usable,
            max_ttl: MAX_TTL,
            generation,
            snapshot_generation: snapshot.generation,
            once_leeway: once_leeway(&config),
        },
        recovered,
        started,
    );
    let audit = AuditLog::open(&config.audit)?;
    let mut core = Core {
        store_told: core::Told::default(),
        hints_told: core::Told::default(),
        gate,
        store,
        replies: replies(&config, None),
        datapath,
        filter_rules,
        audit,
        metrics: Metrics::default(),
        usable,
        generation,
        flows: Flows::default(),
        undeleted: Vec::new(),
    };
    let found = core.datapath.tables().grants()?;
    let rules_now = load::adoption_digests(&config);
    // A grant of a service whose rules changed while no controller ran was never allowed by them.
    let openings = openings(&config, &snapshot.service_ids);
    let mut adoptable = openings.clone();
    adoptable
        .retain(|opening| rules_now.get(&*opening.name).is_some_and(|now| services.is_unchanged(&opening.name, now)));
    core.gate.adopt(found, &adoptable, started);
    let rules = rules(&config, &snapshot.service_ids)?;
    let is_first = !core.datapath.adopted();
    let mut runtime =
        Runtime::prepare(runtime::Parts { options: options.clone(), snapshot, core, listeners, signals, started })?;
    let plan = Plan {
        targets,
        rules,
        rules_now,
        openings,
        adoptable,
        config: &config,
        started,
        is_trial: options.trial.is_some(),
        begins_to_enforce: !was_enforcing && config.mode == Mode::Enforce,
        force: options.force,
    };
    if let Err(error) = bring_up(runtime.core(), &plan, &mut services) {
        if is_first {
            // Nobody would be there to open what this closed.
            runtime.core().datapath.unpin()?;
        }
        return Err(error);
    }
    let end = runtime.serve().await?;
    if end.detach {
        let removed = datapath::detach(&config.pins)?;
        tracing::info!("detached: {} links, {} maps", removed.links, removed.maps);
    }
    drop(locks);
    Ok(end.exit)
}

/// What knocks must be to reach the controller.
fn filter_rules(config: &Config, secrets: &Secrets) -> FilterRules {
    let takes = |form| config.issuers.iter().any(|issuer| issuer.accept.contains(&form));
    let Some(server) = secrets.server.as_ref().filter(|_| takes(Form::Sealed)) else {
        return FilterRules { bare_per_second: config.limits.bare_per_second, ..FilterRules::default() };
    };
    let key =
        |(key, group): &(KnockKey, u32)| FilterKey { id: key.id, tag_key: key.tag_key(&server.id), group: *group };
    FilterRules {
        bare_per_second: if takes(Form::Bare) { config.limits.bare_per_second } else { 0 },
        groups: vec![config.limits.knocks_per_second; secrets.groups.len()],
        keys: secrets.knock_keys.iter().map(key).collect(),
    }
}

/// Where replies leave from, if knocks are answered. What was bound before stays, if it is the same.
fn replies(config: &Config, before: Option<Replies>) -> Option<Replies> {
    config.server.as_ref().filter(|server| server.reply)?;
    let port = config.listen.port;
    before.filter(|before| before.port() == port).or_else(|| {
        let (replies, notes) = Replies::open(port);
        for note in notes {
            tracing::warn!("{note}");
        }
        Some(replies)
    })
}

/// What a start brings into force.
struct Plan<'a> {
    targets: Vec<Target>,
    rules: Rules,
    rules_now: BTreeMap<String, String>,
    openings: Vec<Opening>,
    /// Services whose rules are those under which an earlier controller let anybody in.
    adoptable: Vec<Opening>,
    config: &'a Config,
    started: Now,
    is_trial: bool,
    begins_to_enforce: bool,
    force: bool,
}

/// See the module's order.
fn bring_up(core: &mut Core, plan: &Plan<'_>, services: &mut store::Services) -> anyhow::Result<()> {
    let Plan { targets, rules, openings, config, .. } = plan;
    let (is_shared, older) = (core.datapath.is_shared(), core.datapath.migrated_from());
    let settled = services.settled();
    let prepared = core.datapath.tables_mut().prepare(rules.clone())?;
    if let Err(error) = switch(core, plan, &prepared, services) {
        put_back(services, settled);
        core.datapath.tables_mut().abandon(prepared)?;
        return Err(error);
    }
    if plan.begins_to_enforce {
        // Those that came about between the first look and the switch.
        core.adopt_or_refuse(rules, openings, None, true)?;
    }
    let mut finished = core.datapath.tables_mut().finish(prepared);
    if !is_shared {
        finished = finished.and_then(|()| adopt(core, targets, config));
        if let Err(error) = finished {
            put_back(services, settled);
            return Err(error.into());
        }
    }
    if let Err(error) = services.settle(plan.rules_now.clone()) {
        tracing::warn!("grants of services that changed will not outlive a restart: {error}");
    }
    finished?;
    if let Some(older) = older {
        tracing::info!("layout {older} of an earlier version was taken over, with its grants and counters");
    }
    core.datapath.attached().for_each(devices::tell);
    for degraded in core.datapath.degraded() {
        tracing::warn!("{degraded}");
    }
    if !plan.is_trial {
        core.datapath.pin().context("pinning")?;
        for ifindex in core.datapath.drop_stale_links()? {
            tracing::warn!("detached from interface {ifindex}: `listen.interfaces` does not name it any more");
        }
        if let Err(error) = core.datapath.remove_older() {
            tracing::warn!("the maps of an older version stay: {error}");
        }
    }
    Ok(())
}

/// Brings prepared rules into force in these maps. What can fail comes first; what ends grants and flows, last.
fn switch(core: &mut Core, plan: &Plan<'_>, prepared: &Prepared, services: &mut store::Services) -> anyhow::Result<()> {
    let Plan { targets, rules, openings, config, started, .. } = plan;
    core.datapath.attach_new(targets, config.listen.attach)?;
    if core.datapath.is_shared() {
        adopt(core, targets, config)?;
    }
    if plan.begins_to_enforce {
        core.adopt_or_refuse(rules, openings, Some(prepared), plan.force)?;
    }
    core.look_up_left(prepared).context("looking for flows")?;
    let mut changed = services.settled();
    changed.retain(|name, rules| plan.rules_now.get(name) != Some(rules));
    services.unsettle(&changed.into_keys().collect())?;

    // What was not adopted goes before the ports of its service can mean something else.
    core.settle();
    let left = core.reconcile_flows(rules, &plan.adoptable, started.boot).context("taking flows over")?;
    if left > 0 {
        tracing::info!("flows of an earlier controller that go on: {left}");
    }
    if plan.begins_to_enforce {
        // Their connections stand all the same.
        core.adopt_or_refuse(rules, openings, Some(prepared), true)?;
    }
    Ok(core.datapath.tables_mut().switch(prepared, mode_number(config.mode), core.generation)?)
}

/// The old rules stay in force, and their grants are adopted as before.
fn put_back(services: &mut store::Services, settled: BTreeMap<String, String>) {
    if let Err(error) = services.settle(settled) {
        tracing::error!("grants of services that were to change will not outlive a restart: {error}");
    }
}

/// Puts this program in the place of an earlier controller's.
fn adopt(core: &mut Core, targets: &[Target], config: &Config) -> Result<(), DataPathError> {
    core.datapath.take_over()?;
    core.datapath.adopt(targets, config.listen.attach)
}

/// A `once` token that was used before a crash may be dated after this start by the leeway of its issuer.
fn once_leeway(config: &Config) -> Duration {
    let once = config.issuers.iter().filter(|issuer| issuer.replay == ReplayMode::Once);
    once.map(|issuer| issuer.leeway).max().unwrap_or_default()
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

/// Entries that may be in use, so that the LRU map never evicts a live one.
fn usable(capacity: u32) -> u32 {
    let cpus = u32::try_from(aya::util::nr_cpus().unwrap_or(1024)).unwrap_or(1024);
    capacity.saturating_sub(cpus.saturating_mul(HEADROOM_PER_CPU))
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
    let services = config.services.iter().filter_map(|service| {
        let id = *ids.get(&service.name)?;
        Some(tables::Service { id, ports: service.ports.clone(), prefix: service.prefix, sessions: service.sessions })
    });
    Ok(Rules {
        services: services.collect(),
        always_allow: config.always_allow.iter().copied().collect(),
        destinations,
        drop_tunnels: config.listen.drop_tunnels,
        knock_port: config.listen.port,
        max_ttl: MAX_TTL,
        flows_per_grant: config.limits.flows_per_grant,
    })
}
