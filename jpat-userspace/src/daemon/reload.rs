//! A reload: all of it or nothing.

use std::{collections::BTreeSet, sync::Arc};

use jpat_common::grant::ServiceId;

use super::{load, rules, runtime::Runtime};
use crate::{
    clock,
    config::{Config, Service},
    store,
};

/// Brings the file's present state into force and returns its warnings. Grants of a service whose `allow`, `ports`,
/// `prefix` or `issuers` changed are revoked, and so is what a `[[deny]]` rule matches now.
///
/// # Errors
/// Everything that is wrong; the old configuration is in force as it was.
pub(super) fn reload(runtime: &mut Runtime) -> anyhow::Result<Vec<String>> {
    let result = try_reload(runtime);
    runtime.reload_error = result.as_ref().err().map(|error| format!("{error:#}"));
    runtime.settle();
    result
}

fn try_reload(runtime: &mut Runtime) -> anyhow::Result<Vec<String>> {
    let old = runtime.snapshot();
    let load::Loaded { config, warnings, .. } = load::read(&runtime.options.config)?;
    if let Some(key) = fixed(&old.config, &config) {
        anyhow::bail!("`{key}` cannot change while the controller runs\n  remedy: restart it; grants outlive that");
    }
    let names: Vec<_> = config.services.iter().map(|service| service.name.as_str()).collect();
    let ids = store::service_ids(&config.state, &names)?;
    // Keys of an issuer that has changed must not serve under its name; the cache may still know its new source.
    let changed = old.config.issuers.iter().filter(|issuer| !config.issuers.contains(issuer));
    let kept = changed.fold(old.keys.as_ref().clone(), |kept, issuer| kept.without(&issuer.name));
    let (snapshot, notes) = load::snapshot(Arc::clone(&config), ids, old.generation + 1, Some(&kept))?;
    let prepared = runtime.datapath.tables_mut().prepare(rules(&config, &snapshot.service_ids)?)?;

    // Grants go before the ports of their services can mean something else.
    let revoked = revoked(&old.config, &config, &old.service_ids);
    let policy = Arc::clone(&snapshot.policy);
    let (generation, limits, now) = (snapshot.generation, config.limits, clock::now());
    runtime.snapshots.store(Arc::new(snapshot));
    let denied = |token: &_, source| policy.denies(token, source, now).map(ToOwned::to_owned);
    runtime.gate.reload(generation, limits, &revoked, &denied, now);
    runtime.settle();

    let mode = super::mode_number(config.mode);
    let live = runtime.generation;
    runtime.datapath.tables_mut().switch(prepared, mode, live)?;
    runtime.admin.send_replace(Arc::new(config.admin.clone()));
    // Their keys were left out of the snapshot above.
    let _changed = runtime.refresher.reconfigure(&config.issuers, now.boot);
    tracing::info!("configuration {} is in force (load {generation})", config.path.display());
    Ok(warnings.iter().map(ToString::to_string).chain(notes).collect())
}

/// A key that needs a restart and differs.
fn fixed(old: &Config, new: &Config) -> Option<&'static str> {
    let checks = [
        ("pins", old.pins != new.pins),
        ("state", old.state != new.state),
        ("listen.interfaces", old.listen.interfaces != new.listen.interfaces),
        ("listen.attach", old.listen.attach != new.listen.attach),
        ("limits.grants", old.limits.grants != new.limits.grants),
        ("limits.workers", old.limits.workers != new.limits.workers),
        ("admin.socket", old.admin.socket != new.admin.socket),
        ("admin.metrics", old.admin.metrics != new.admin.metrics),
        ("audit", old.audit != new.audit),
    ];
    checks.into_iter().find(|(_, differs)| *differs).map(|(key, _)| key)
}

/// Numbers of the services that are gone or changed in what they allow.
fn revoked(old: &Config, new: &Config, ids: &load::ServiceIds) -> BTreeSet<ServiceId> {
    let unchanged = |service: &Service| {
        new.services.iter().any(|other| {
            other.name == service.name
                && other.allow == service.allow
                && other.ports == service.ports
                && other.prefix == service.prefix
                && other.issuers == service.issuers
                && issuers_unchanged(old, new, &service.issuers)
        })
    };
    old.services
        .iter()
        .filter(|service| !unchanged(service))
        .filter_map(|service| ids.get(&service.name).copied())
        .collect()
}

/// An issuer under the same name may be somebody else now, or be trusted for less.
fn issuers_unchanged(old: &Config, new: &Config, names: &[String]) -> bool {
    let find = |config: &Config, name: &String| config.issuers.iter().find(|issuer| issuer.name == *name).cloned();
    names.iter().all(|name| find(old, name) == find(new, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(services: &str) -> Config {
        Config::for_tests(&format!(
            r#"
            mode = "enforce"
            [[issuer]]
            name = "corp"
            issuer = "https://idp.example"
            audience = ["a"]
            algorithms = ["ES256"]
            keys = {{ discovery = true }}
            accept = ["bare"]
            {services}"#
        ))
    }

    fn service(name: &str, port: u16, allow: &str, ttl: &str) -> String {
        format!("[[service]]\nname = \"{name}\"\nports = [\"tcp/{port}\"]\nallow = \"{allow}\"\nttl = \"{ttl}\"\n")
    }

    #[test]
    fn p2_what_a_service_allows_changed_and_its_grants_go() {
        let ids = [("a".to_owned(), 1), ("b".to_owned(), 2)].into();
        let old = config(&(service("a", 1, "true", "30s") + &service("b", 2, "true", "30s")));
        let after = |new: String| revoked(&old, &config(&new), &ids).into_iter().collect::<Vec<_>>();
        assert_eq!(
            after(service("b", 2, "true", "30s") + &service("a", 1, "true", "60s")),
            Vec::<ServiceId>::new(),
            "order and TTL"
        );
        assert_eq!(after(service("a", 1, "false", "30s") + &service("b", 2, "true", "30s")), [1]);
        assert_eq!(after(service("a", 1, "true", "30s") + &service("b", 3, "true", "30s")), [2]);
        assert_eq!(after(service("a", 1, "true", "30s")), [2]);
        assert_eq!(after(service("a", 2, "true", "30s") + &service("b", 1, "true", "30s")), [1, 2]);
    }
}
