//! From files to what runs: one function each for a start, a reload and `jpatd check`.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use jpat_common::grant::ServiceId;

use crate::{
    check::{self, HostFacts},
    config::{
        Config,
        error::{ConfigError, Warning},
    },
    datapath::interfaces,
    keyring::{self, KeyRing},
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
    let (config, mut warnings) = Config::load(path).map_err(Invalid)?;
    let mut errors = Vec::new();
    let (found, more) = check::host(&config, &HostFacts::read());
    errors.extend(found);
    warnings.extend(more);
    errors.extend(check::rules(&config));
    errors.extend(check::static_keys(&config));
    if errors.is_empty() { Ok(Loaded { config: Arc::new(config), warnings }) } else { Err(Invalid(errors)) }
}
