//! From files to what runs: one function each for a start, a reload and `jpatd check`.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use jpat_common::grant::ServiceId;

use crate::{
    check::{self, HostFacts},
    clock,
    config::{
        Config, Service,
        error::{ConfigError, Warning},
        secrets,
    },
    datapath::interfaces::{self, Target},
    keyring::{Held, KeyRing, cache, local},
    policy::Policy,
    snapshot::Snapshot,
};

/// The data path's number of each service.
pub type ServiceIds = BTreeMap<String, ServiceId>;

/// A configuration that can be brought into force.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Arc<Config>,
    /// Devices that `listen.interfaces` names on this host now.
    pub targets: Vec<Target>,
    /// What works but will surprise.
    pub warnings: Vec<Warning>,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Invalid(pub Vec<ConfigError>);

/// Reads a file and checks it against itself and this host: rules compile, static keys are usable.
///
/// # Errors
/// All that is wrong, with where and what to do.
pub fn read(path: &Path) -> Result<Loaded, Invalid> {
    let (config, mut warnings) = Config::load(path).map_err(Invalid)?;
    let facts = HostFacts::read();
    let (mut errors, more) = check::host(&config, &facts);
    warnings.extend(more);
    errors.extend(check::rules(&config));
    errors.extend(check::static_keys(&config));
    if !errors.is_empty() {
        return Err(Invalid(errors));
    }
    let devices = facts.devices.unwrap_or_default();
    let targets = interfaces::resolve(&config.listen.interfaces, &devices).targets;
    Ok(Loaded { config: Arc::new(config), targets, warnings })
}

/// Compiles rules and reads static keys. Fetched keys are those of `old`, else of the cache; what is wrong with
/// single keys and caches comes back as text.
///
/// # Errors
/// Rules that do not compile, or static keys that cannot be used: they were good when [`read`] looked.
pub fn snapshot(
    config: Arc<Config>,
    ids: ServiceIds,
    generation: u64,
    old: Option<&KeyRing>,
) -> anyhow::Result<(Snapshot, Vec<String>)> {
    let policy = Policy::compile(&config, &ids).map_err(|errors| {
        anyhow::anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let mut notes = Vec::new();
    let mut keys = KeyRing::default();
    let now = clock::now().unix;
    for issuer in &config.issuers {
        let held = match local::read_static(issuer)? {
            Some((set, ignored)) => {
                let ignored = ignored.iter().map(|key| format!("issuer {}: a key is left out: {key}", issuer.name));
                notes.extend(ignored);
                Some(Held { keys: Arc::new(set), fetched: now })
            }
            None => match old.and_then(|old| old.held(&issuer.name)) {
                Some(held) => Some(held.clone()),
                None => cache::load(&config.state, issuer, now).unwrap_or_else(|error| {
                    notes.push(format!("issuer {}: {error}", issuer.name));
                    None
                }),
            },
        };
        if let Some(held) = held {
            keys = keys.with(&issuer.name, held);
        }
    }
    let snapshot = Snapshot {
        generation,
        server: secrets::load(&config).map_err(Invalid)?.server.map(Arc::new),
        config,
        policy: Arc::new(policy),
        keys: Arc::new(keys),
        service_ids: Arc::new(ids),
    };
    Ok((snapshot, notes))
}

/// Digest of what each service allows to whom: a reload revokes the grants of one that changes.
/// TTL is not part of it.
pub(super) fn rule_digests(config: &Config) -> BTreeMap<String, String> {
    let digest = |service: &Service| {
        let issuers: Vec<_> =
            config.issuers.iter().filter(|issuer| service.issuers.iter().any(|name| **name == *issuer.name)).collect();
        hex_digest(&format!("{:?}", (&service.allow, &service.ports, service.prefix, issuers)))
    };
    config.services.iter().map(|service| (service.name.clone(), digest(service))).collect()
}

/// The digests by which grants are adopted. They cover the deny rules too: of whom an adopted grant is, is not known.
pub(super) fn adoption_digests(config: &Config) -> BTreeMap<String, String> {
    let deny = format!("{:?}", config.deny);
    let with_deny = |(name, rules): (String, String)| (name, hex_digest(&(rules + &deny)));
    rule_digests(config).into_iter().map(with_deny).collect()
}

fn hex_digest(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(services: &str, audience: &str) -> Config {
        Config::for_tests(&format!(
            r#"
            mode = "enforce"
            [[issuer]]
            name = "corp"
            issuer = "https://idp.example"
            audience = ["{audience}"]
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
    fn p2_a_digest_follows_what_is_allowed_and_nothing_else() {
        let digests = |services: &str, audience| rule_digests(&config(services, audience));
        let (a, b) = (service("a", 1, "true", "30s"), service("b", 2, "true", "30s"));
        let before = digests(&(a.clone() + &b), "x");
        assert_eq!(digests(&(b.clone() + &a), "x"), before, "order");
        assert_eq!(digests(&(service("a", 1, "true", "60s") + &b), "x"), before, "TTL");
        for (what, changed) in [("allow", service("a", 1, "false", "30s")), ("port", service("a", 3, "true", "30s"))] {
            let after = digests(&(changed + &b), "x");
            assert_ne!(after["a"], before["a"], "{what}");
            assert_eq!(after["b"], before["b"], "{what}");
        }
        assert_ne!(digests(&(a + &b), "y")["a"], before["a"], "issuer");
    }
}
