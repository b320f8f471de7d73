//! Whether a configuration will do on this host: what the file alone cannot tell.

mod devices;
mod facts;
mod ports;
mod report;

use std::collections::BTreeMap;

pub use self::{
    facts::HostFacts,
    report::{Report, report},
};
use crate::{
    config::{
        Config, KeySource,
        error::{ConfigError, Warning},
    },
    policy::Policy,
    token::keys::KeySet,
};

/// Entries that each CPU may hold back from an LRU map (`LOCAL_FREE_TARGET` in kernel/bpf/bpf_lru_list.c).
const HELD_BACK_PER_CPU: u32 = 128;
/// A grant map with room for fewer live grants is refused.
const FEWEST_GRANTS: u32 = 64;

/// What is found, in no order.
#[derive(Default)]
struct Findings {
    errors: Vec<ConfigError>,
    warnings: Vec<Warning>,
}

/// Looks at devices, ports and capacities of this host.
#[must_use]
pub fn host(config: &Config, facts: &HostFacts) -> (Vec<ConfigError>, Vec<Warning>) {
    let mut findings = Findings::default();
    devices::check(config, facts, &mut findings);
    ports::check(config, facts, &mut findings);
    capacity(config, facts, &mut findings);
    (findings.errors, findings.warnings)
}

/// Compiles every CEL expression.
#[must_use]
pub fn rules(config: &Config) -> Vec<ConfigError> {
    let ids: BTreeMap<_, _> = config.services.iter().map(|service| service.name.clone()).zip(1..).collect();
    match Policy::compile(config, &ids) {
        Ok(_) => Vec::new(),
        Err(errors) => errors
            .iter()
            .map(|error| config.rule_error(&error.owner, error.line.zip(error.column), error.message.clone()))
            .collect(),
    }
}

/// Reads the keys that lie in files.
#[must_use]
pub fn static_keys(config: &Config) -> Vec<ConfigError> {
    let issuers = config.issuers.iter();
    issuers
        .filter_map(|issuer| {
            let (path, remedy) = match &issuer.keys {
                KeySource::Discovery | KeySource::JwksUrl(_) => return None,
                KeySource::JwksFile(path) => (path, "take the issuer's public JWK Set"),
                KeySource::PemFile(path) => (path, "take the issuer's public key"),
                KeySource::SecretFile(path) => (path, "write the secret that the issuer has"),
            };
            let bytes = match std::fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) => {
                    return Some(config.keys_error(
                        &issuer.name,
                        format!("cannot read {}: {error}", path.display()),
                        "correct path and owner",
                    ));
                }
            };
            let read = match &issuer.keys {
                KeySource::Discovery | KeySource::JwksUrl(_) => return None,
                KeySource::JwksFile(_) => KeySet::from_jwks(&bytes, &issuer.algorithms),
                KeySource::PemFile(_) => KeySet::from_pem(&bytes, &issuer.algorithms).map(|keys| (keys, Vec::new())),
                KeySource::SecretFile(_) => {
                    KeySet::from_secret(&bytes, &issuer.algorithms).map(|keys| (keys, Vec::new()))
                }
            };
            match read {
                Ok(_) => None,
                Err(error) => Some(config.keys_error(&issuer.name, format!("{}: {error}", path.display()), remedy)),
            }
        })
        .collect()
}

fn capacity(config: &Config, facts: &HostFacts, findings: &mut Findings) {
    let needed = facts.cpus.saturating_mul(HELD_BACK_PER_CPU).saturating_add(FEWEST_GRANTS);
    if config.limits.grants < needed {
        let message = format!(
            "{} entries: the kernel may hold back {HELD_BACK_PER_CPU} on each of {} possible CPUs, and would evict live grants",
            config.limits.grants, facts.cpus
        );
        findings.errors.push(config.source.error("limits.grants", message, format!("use {needed} or more")));
    }
}

#[cfg(test)]
mod tests;
