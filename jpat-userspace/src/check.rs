//! Whether a configuration will do on this host: what the file alone cannot tell.

mod devices;
mod facts;
mod ports;
mod report;

use std::collections::BTreeMap;

use jpat_common::grant::HEADROOM_PER_CPU;

pub use self::{
    facts::HostFacts,
    report::{Report, report},
};
use crate::{
    config::{
        Config,
        error::{ConfigError, Warning},
    },
    keyring::local,
    policy::Policy,
};

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
    keys(config).errors
}

/// Keys in files: those that cannot be used, and single ones of a set that are left out.
fn keys(config: &Config) -> Findings {
    let mut findings = Findings::default();
    for (at, issuer) in config.issuers.iter().enumerate() {
        let key = format!("issuer[{at}].keys");
        match local::read_static(issuer) {
            Ok(None) => {}
            Ok(Some((set, ignored))) => {
                let left_out = ignored.iter().map(|ignored| config.source.warning(&key, ignored.to_string(), ""));
                findings.warnings.extend(left_out);
                if set.keys().is_empty() {
                    let remedy = "take the issuer's public keys, and list their algorithms in `algorithms`";
                    findings.errors.push(config.source.error(&key, "no key that can be used", remedy));
                }
            }
            Err(error) => findings.errors.push(config.source.error(&key, error.to_string(), "")),
        }
    }
    findings
}

fn capacity(config: &Config, facts: &HostFacts, findings: &mut Findings) {
    let needed = facts.cpus.saturating_mul(HEADROOM_PER_CPU).saturating_add(FEWEST_GRANTS);
    if config.limits.grants < needed {
        let message = format!(
            "{} entries: the kernel may hold back {HEADROOM_PER_CPU} on each of {} possible CPUs, and would evict live grants",
            config.limits.grants, facts.cpus
        );
        findings.errors.push(config.source.error("limits.grants", message, format!("use {needed} or more")));
    }
}

#[cfg(test)]
mod tests;
