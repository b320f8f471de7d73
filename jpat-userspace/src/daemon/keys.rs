//! Keys that come over the network: fetched by tasks, swapped in by the loop.

use std::sync::Arc;

use super::runtime::Runtime;
use crate::{
    clock::{self, Now},
    keyring::{
        Held, cache,
        fetch::{self, FetchError, Fetched},
        refresh::Fetch,
    },
    snapshot::Snapshot,
};

/// What a fetch brought.
pub(super) type Answer = (Fetch, Result<Fetched, FetchError>);

impl Runtime {
    /// Starts the fetches that are due.
    pub(super) fn fetch_due(&mut self, now: Now) {
        if self.refresher.poll_timeout().is_some_and(|due| due <= now.boot) {
            let config = Arc::clone(&self.snapshots.load().config);
            for due in self.refresher.handle_due(now.boot) {
                let Some(issuer) = config.issuers.iter().find(|issuer| *issuer.name == *due.issuer).cloned() else {
                    continue;
                };
                let Some(http) = self.http.clone() else { continue };
                let fetched = self.fetched.clone();
                tokio::spawn(async move {
                    let result = fetch::fetch(&http, &issuer).await;
                    // The loop is gone only when the process ends.
                    drop(fetched.send((due, result)));
                });
            }
        }
    }

    pub(super) fn on_fetched(&mut self, (fetch, result): Answer) {
        let now = clock::now();
        if !self.refresher.handle_result(&fetch, &result, now.boot) {
            return;
        }
        let config = Arc::clone(&self.snapshots.load().config);
        let Some(issuer) = config.issuers.iter().find(|issuer| *issuer.name == *fetch.issuer) else { return };
        let name = &issuer.name;
        match result {
            Ok(fetched) => {
                for key in &fetched.ignored {
                    tracing::debug!("issuer {name}: a key is left out: {key}");
                }
                if let Err(error) = cache::store(&config.state, issuer, &fetched, now.unix) {
                    tracing::warn!("issuer {name}: {error}");
                }
                let (count, known) = (fetched.keys.keys().len(), self.snapshots.load().keys.held(name).is_some());
                if self.fetch_errors.remove(&**name).is_some() || !known {
                    tracing::info!("issuer {name}: {count} keys from {}", fetched.jwks_uri);
                }
                self.replace_keys(name, Held { keys: Arc::new(fetched.keys), fetched: now.unix });
            }
            Err(error) => {
                let error = error.to_string();
                if self.fetch_errors.get(&**name) != Some(&error) {
                    tracing::warn!("issuer {name}: {error}");
                }
                self.fetch_errors.insert(name.to_string(), error);
            }
        }
    }

    /// New keys do not raise the snapshot's generation: what they would decide otherwise was decided rightly.
    fn replace_keys(&self, issuer: &str, held: Held) {
        let old = self.snapshots.load();
        if old.config.issuers.iter().any(|configured| *configured.name == *issuer) {
            self.snapshots.store(Arc::new(Snapshot {
                server: old.server.clone(),
                generation: old.generation,
                config: Arc::clone(&old.config),
                policy: Arc::clone(&old.policy),
                keys: Arc::new(old.keys.as_ref().clone().with(issuer, held)),
                service_ids: Arc::clone(&old.service_ids),
            }));
        }
    }
}
