//! Everything a verification reads, swapped whole: a worker never sees half of a reload.

use std::{collections::BTreeMap, sync::Arc};

use jpat_common::grant::ServiceId;

use crate::{config::Config, keyring::KeyRing, knock::sealed::Server, policy::Policy};

/// One immutable state of configuration, policy and keys.
pub struct Snapshot {
    /// Raised by every reload, not by new keys. An outcome of another generation is verified again.
    pub generation: u64,
    /// The configuration in force.
    pub config: Arc<Config>,
    /// Its compiled rules.
    pub policy: Arc<Policy>,
    /// Keys at hand.
    pub keys: Arc<KeyRing>,
    /// What opens sealed knocks; where it is absent, none open.
    pub server: Option<Arc<Server>>,
    /// The data path's number of each service.
    pub service_ids: Arc<BTreeMap<String, ServiceId>>,
}
