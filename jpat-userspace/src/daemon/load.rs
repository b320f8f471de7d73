//! From files to what runs: one function each for a start, a reload and `jpatd check`.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use jpat_common::grant::ServiceId;

use crate::{
    clock,
    config::{
        Config,
        error::{ConfigError, Warning},
    },
    keyring::{self, Held, KeyRing},
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
    let (config, warnings) = Config::load(path).map_err(Invalid)?;
    Ok(Loaded { config: Arc::new(config), warnings })
}

/// Compiles rules and reads static keys. What was fetched before stays: `old` is what was in force.
///
/// # Errors
/// Rules that do not compile.
pub fn snapshot(
    config: Arc<Config>,
    ids: ServiceIds,
    generation: u64,
    old: Option<&Snapshot>,
) -> anyhow::Result<(Snapshot, Vec<String>)> {
    let policy = Policy::compile(&config, &ids).map_err(|errors| {
        anyhow::anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    let mut keys = KeyRing::default();
    let failures = Vec::new();
    for issuer in &config.issuers {
        if let Some(keyset) = keyring::read_static(issuer)? {
            keys = keys.with(&issuer.name, Held { keys: Arc::new(keyset), fetched: clock::now().unix });
        } else if let Some(held) = old.and_then(|old| old.keys.held(&issuer.name)) {
            keys = keys.with(&issuer.name, held.clone());
        }
    }
    let snapshot =
        Snapshot { generation, config, policy: Arc::new(policy), keys: Arc::new(keys), service_ids: Arc::new(ids) };
    Ok((snapshot, failures))
}
