//! Publishes the issuer's public keys over HTTP, for verifiers to find by discovery.
//!
//! Like a Kubernetes API server it serves the part of OpenID Connect Discovery 1.0 §3 that verifiers need: there is no
//! authorization endpoint, because nobody can get a token here.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::net::TcpListener;

use super::{
    IssuerError,
    keys::{self, Key},
};

/// Short, so that a key appears at verifiers soon after it was made.
const CACHE_CONTROL: &str = "public, max-age=60";

/// Serves until `shutdown` completes.
///
/// # Errors
/// [`IssuerError::Serve`]
pub async fn serve(
    listener: TcpListener,
    app: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), IssuerError> {
    axum::serve(listener, app).with_graceful_shutdown(shutdown).await.map_err(IssuerError::Serve)
}

/// The routes: both discovery documents below the issuer's path, `/jwks.json` there too, and `/healthz`.
///
/// Keys are read again whenever the directory changes; while it cannot be read, the last good ones stay, and `complain`
/// hears why, once for each change of the directory.
///
/// # Errors
/// What reading the keys says; [`IssuerError::BadUrl`].
pub fn router(issuer: &str, dir: &Path, complain: fn(&IssuerError)) -> Result<Router, IssuerError> {
    let path = url_path(issuer).ok_or_else(|| IssuerError::BadUrl(issuer.to_owned()))?;
    let seen = stamp(dir);
    let keys = keys::load(dir)?;
    let published = Arc::new(Published {
        issuer: issuer.to_owned(),
        dir: dir.to_owned(),
        complain,
        cache: Mutex::new(Cache { keys: keys.into(), seen }),
    });
    Ok(Router::new()
        .route(&format!("{path}/.well-known/openid-configuration"), get(openid_configuration))
        // RFC 8414 §3.1 puts the well-known part in front of the path.
        .route(&format!("/.well-known/oauth-authorization-server{path}"), get(authorization_server))
        .route(&format!("{path}/jwks.json"), get(jwks))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(published))
}

struct Published {
    issuer: String,
    dir: PathBuf,
    complain: fn(&IssuerError),
    cache: Mutex<Cache>,
}

struct Cache {
    keys: Arc<[Key]>,
    seen: Vec<Stamp>,
}

/// Name, time of change and length: what tells that a file is another one.
type Stamp = (String, Option<SystemTime>, u64);

impl Published {
    fn keys(&self) -> Arc<[Key]> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = stamp(&self.dir);
        if seen != cache.seen {
            match keys::load(&self.dir) {
                Ok(keys) => cache.keys = keys.into(),
                Err(error) => (self.complain)(&error),
            }
            cache.seen = seen;
        }
        cache.keys.clone()
    }

    fn algorithms(&self) -> Vec<&'static str> {
        let mut algorithms: Vec<_> = self.keys().iter().map(|key| key.alg().as_str()).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        algorithms
    }
}

async fn openid_configuration(State(published): State<Arc<Published>>) -> Response {
    document(
        "application/json",
        &json!({
            "issuer": published.issuer,
            "jwks_uri": format!("{}/jwks.json", published.issuer),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": published.algorithms(),
        }),
    )
}

async fn authorization_server(State(published): State<Arc<Published>>) -> Response {
    document(
        "application/json",
        &json!({
            "issuer": published.issuer,
            "jwks_uri": format!("{}/jwks.json", published.issuer),
            "response_types_supported": [],
            "grant_types_supported": [],
        }),
    )
}

async fn jwks(State(published): State<Arc<Published>>) -> Response {
    match serde_json::to_value(keys::jwks(&published.keys())) {
        Ok(set) => document("application/jwk-set+json", &set),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn document(content_type: &'static str, body: &serde_json::Value) -> Response {
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, CACHE_CONTROL)], body.to_string()).into_response()
}

fn stamp(dir: &Path) -> Vec<Stamp> {
    let names = keys::names(dir).unwrap_or_default();
    names
        .into_iter()
        .map(|name| {
            let metadata = std::fs::metadata(dir.join(&name));
            let changed = metadata.as_ref().ok().and_then(|metadata| metadata.modified().ok());
            (name, changed, metadata.map_or(0, |metadata| metadata.len()))
        })
        .collect()
}

/// The path of an issuer URL (OpenID Connect Core 1.0 §2: no query, no fragment), empty or `/…` without a last slash.
fn url_path(issuer: &str) -> Option<&str> {
    let rest = issuer.strip_prefix("https://").or_else(|| issuer.strip_prefix("http://"))?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let plain = issuer.bytes().all(|byte| byte.is_ascii_graphic()) && !issuer.contains(['?', '#', '{', '}']);
    (plain && !host.is_empty() && !path.ends_with('/')).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_url_has_a_host_and_no_query_fragment_or_last_slash() {
        assert_eq!(url_path("https://tokens.example"), Some(""));
        assert_eq!(url_path("http://127.0.0.1:8080/realms/a"), Some("/realms/a"));
        for bad in ["tokens.example", "https://", "https:///a", "https://a/", "https://a?b", "https://a#b", "ftp://a"] {
            assert_eq!(url_path(bad), None, "{bad}");
        }
    }
}
