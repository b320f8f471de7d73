//! A reload: all of it or nothing.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    core::Core, filter_rules, load, lockout, mode_number, openings, put_back, replies, rules, runtime::Runtime,
};
use crate::{
    clock,
    config::{Config, Mode, secrets},
    datapath::{
        filter::FilterRules,
        tables::{Prepared, Rules},
    },
    keyring::{fetch, refresh::is_remote},
    store,
    verify::Opening,
};

/// Brings the file's present state into force and returns its warnings. Grants of a service whose `allow`, `ports`,
/// `prefix` or `issuers` changed are revoked, and so is what a `[[deny]]` rule matches now. `process` is who asks, whose
/// own connection is not cut unasked.
///
/// # Errors
/// Everything that is wrong; the old configuration is in force as it was.
pub(super) fn reload(runtime: &mut Runtime, process: Option<u32>) -> anyhow::Result<Vec<String>> {
    let result = try_reload(runtime, process);
    runtime.reload_error = result.as_ref().err().map(|error| format!("{error:#}"));
    runtime.follow_addresses();
    runtime.settle();
    result
}

fn try_reload(runtime: &mut Runtime, process: Option<u32>) -> anyhow::Result<Vec<String>> {
    let old = runtime.snapshot();
    let load::Loaded { config, warnings, .. } = load::read(&runtime.options.config)?;
    if let Some(key) = fixed(&old.config, &config) {
        anyhow::bail!("`{key}` cannot change while the controller runs\n  remedy: restart it; grants outlive that");
    }
    if config.mode == Mode::Enforce
        && runtime.core.is_auditing()
        && let Some(what) = process.and_then(|process| lockout::would_shut_out(&config, process))
    {
        anyhow::bail!(
            "{what}\n  remedy: add the address to `always_allow.sources`, or `jpat mode enforce --force` first"
        );
    }
    let names: Vec<_> = config.services.iter().map(|service| service.name.as_str()).collect();
    let mut services = store::Services::open(&config.state, &names)?;
    // Keys of an issuer that has changed must not serve under its name; the cache may still know its new source.
    let changed = old.config.issuers.iter().filter(|issuer| !config.issuers.contains(issuer));
    let kept = changed.fold(old.keys.as_ref().clone(), |kept, issuer| kept.without(&issuer.name));
    let secrets = secrets::load(&config).map_err(load::Invalid)?;
    let (snapshot, notes) = load::snapshot(Arc::clone(&config), services.ids(&names), old.generation + 1, Some(&kept))?;
    if runtime.http.is_none() && config.issuers.iter().any(is_remote) {
        runtime.http = Some(fetch::client()?);
    }
    let rules_now = load::rule_digests(&config);
    let changed = load::rule_digests(&old.config);
    let changed: BTreeSet<_> =
        changed.into_iter().filter(|(name, rules)| rules_now.get(name) != Some(rules)).map(|(name, _)| name).collect();
    let rules = rules(&config, &snapshot.service_ids)?;
    let openings = openings(&config, &snapshot.service_ids);
    let begins_to_enforce = config.mode == Mode::Enforce && runtime.core.is_auditing();
    let prepared = runtime.core.datapath.tables_mut().prepare(rules.clone())?;
    let core = &mut runtime.core;
    let settled = services.settled();
    let filter_before = core.filter_rules.clone();
    let ready = make_ready(core, &prepared, &rules, &openings, begins_to_enforce)
        .and_then(|()| Ok(services.unsettle(&changed)?))
        .and_then(|()| core.write_filter(filter_rules(&config, &secrets)));
    if let Err(error) = ready {
        restore_filter(core, &filter_before);
        core.datapath.tables_mut().abandon(prepared)?;
        return Err(error);
    }

    // Grants go before the ports of their services can mean something else. Nothing but the switch can fail from here.
    let revoked: BTreeSet<_> = changed.iter().filter_map(|name| old.service_ids.get(name).copied()).collect();
    let policy = Arc::clone(&snapshot.policy);
    let (generation, limits, now) = (snapshot.generation, config.limits, clock::now());
    runtime.snapshots.store(Arc::new(snapshot));
    let denied = |token: &_, source, form| policy.denies(token, source, form, now).map(ToOwned::to_owned);
    runtime.core.gate.reload(generation, limits, &revoked, &denied, now);
    if old.config.deny != config.deny {
        runtime.core.gate.revoke_unknown("reload", now);
    }
    runtime.settle();

    let core = &mut runtime.core;
    if begins_to_enforce {
        // Connections whose flows have just ended stand all the same.
        core.adopt_or_refuse(&rules, &openings, Some(&prepared), true)?;
    }
    if let Err(error) = core.datapath.tables_mut().switch(&prepared, mode_number(config.mode), core.generation) {
        put_back(&mut services, settled);
        restore_filter(core, &filter_before);
        core.gate.reload(old.generation, old.config.limits, &BTreeSet::new(), &|_, _, _| None, now);
        runtime.snapshots.store(old);
        core.datapath.tables_mut().abandon(prepared)?;
        return Err(error.into());
    }
    follow_switch(core, &rules, &openings, begins_to_enforce);
    let mut notes = notes;
    runtime.core.replies = replies(&config, runtime.core.replies.take());
    if let Err(error) = runtime.core.datapath.tables_mut().finish(prepared) {
        notes.push(format!("left over from the old configuration: {error}"));
    }
    if let Err(error) = services.settle(load::adoption_digests(&config)) {
        notes.push(format!("grants will not outlive a restart: {error}"));
    }
    runtime.admin.send_replace(Arc::new(config.admin.clone()));
    // Their keys were left out of the snapshot above.
    let _changed = runtime.refresher.reconfigure(&config.issuers, now.boot);
    tracing::info!("configuration {} is in force (load {generation})", config.path.display());
    Ok(warnings.iter().map(ToString::to_string).chain(notes).collect())
}

/// After a reload that came to nothing.
fn restore_filter(core: &mut Core, before: &FilterRules) {
    if let Err(error) = core.write_filter(before.clone()) {
        tracing::error!("the knock filter is not as it was before the reload: {error:#}");
    }
}

/// What can fail before prepared rules come into force, and ends nothing. Where enforcement begins with them, the
/// connections that stand go on.
fn make_ready(
    core: &mut Core,
    prepared: &Prepared,
    rules: &Rules,
    openings: &[Opening],
    begins_to_enforce: bool,
) -> anyhow::Result<()> {
    if begins_to_enforce {
        core.adopt_or_refuse(rules, openings, Some(prepared), false)?;
    }
    Ok(core.datapath.tables_mut().look_up_flows(&core.flows.adopted, Some(prepared))?)
}

/// What follows from rules that are in force now: where sessions were kept and are not any more, theirs end.
fn follow_switch(core: &mut Core, rules: &Rules, openings: &[Opening], begins_to_enforce: bool) {
    // Those that came about between the last look and the switch.
    if begins_to_enforce && let Err(error) = core.adopt_or_refuse(rules, openings, None, true) {
        tracing::error!("{error:#}");
    }
    core.set_flow_rules(rules);
    // The program refuses them from the switch on; this keeps a later reload from reviving them.
    if let Err(error) = core.end_cut_flows() {
        tracing::error!("ending flows: {:#}", anyhow::Error::from(error));
    }
}

/// A key that needs a restart and differs.
fn fixed(old: &Config, new: &Config) -> Option<&'static str> {
    let checks = [
        ("pins", old.pins != new.pins),
        ("state", old.state != new.state),
        ("listen.interfaces", old.listen.interfaces != new.listen.interfaces),
        ("listen.attach", old.listen.attach != new.listen.attach),
        ("limits.grants", old.limits.grants != new.limits.grants),
        ("limits.flows", old.limits.flows != new.limits.flows),
        ("limits.workers", old.limits.workers != new.limits.workers),
        ("admin.socket", old.admin.socket != new.admin.socket),
        ("admin.metrics", old.admin.metrics != new.admin.metrics),
        ("audit", old.audit != new.audit),
    ];
    checks.into_iter().find(|(_, differs)| *differs).map(|(key, _)| key)
}
