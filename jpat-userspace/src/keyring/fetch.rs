//! Fetches key sets over HTTP. Everything that comes back is hostile until it has been parsed: no redirects, a time limit,
//! a cap on what is read, and an issuer document counts only for the very issuer that was asked.

mod error;
#[cfg(test)]
pub(super) mod tests;

use std::time::Duration;

use reqwest::{Client, ClientBuilder, Response, Url, header, redirect::Policy};
use serde::Deserialize;

pub use self::error::FetchError;
use crate::{
    config::{Issuer, KeySource, url_is_safe},
    refusal::Refusal,
    token::keys::{Ignored, KeySet, KeysError, MAX_BYTES},
};

/// Longest time for one document, from the look-up of the name to the last byte.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// A key set as it came.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Keys that can be used; may be none, when the issuer has withdrawn them or they fit no configured algorithm.
    pub keys: KeySet,
    /// Keys that are not used, each to be logged.
    pub ignored: Vec<Ignored>,
    /// The JWK Set, for [`cache`](super::cache).
    pub jwks: String,
    /// Where it was.
    pub jwks_uri: String,
}

/// What is needed of an issuer document: more is neither required (a Kubernetes API server has no authorization endpoint)
/// nor looked at.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// The client for [`fetch`]. It verifies certificates as the platform does and honours the proxies of the environment.
///
/// # Errors
/// [`FetchError::Client`], for instance where no CA certificates are installed.
pub fn client() -> Result<Client, FetchError> {
    builder(TIMEOUT).build().map_err(FetchError::Client)
}

fn builder(timeout: Duration) -> ClientBuilder {
    Client::builder()
        .redirect(Policy::none())
        .referer(false)
        .timeout(timeout)
        // The next fetch is minutes away.
        .pool_max_idle_per_host(0)
        .user_agent(concat!("jpatd/", env!("CARGO_PKG_VERSION")))
}

/// Fetches the keys of an issuer: from its `jwks_url`, or by OpenID Connect Discovery 1.0 §4, or else RFC 8414 §3.
///
/// # Errors
/// [`FetchError`]; its text says what, where, and what to do.
pub async fn fetch(client: &Client, issuer: &Issuer) -> Result<Fetched, FetchError> {
    let url = match &issuer.keys {
        KeySource::JwksUrl(url) => parse(url, issuer)?,
        KeySource::Discovery => discover(client, issuer).await?,
        KeySource::JwksFile(_) | KeySource::PemFile(_) | KeySource::SecretFile(_) => return Err(FetchError::NotRemote),
    };
    let document = get(client, &url).await?;
    let keys = match String::from_utf8(document.bytes) {
        Ok(jwks) => KeySet::from_jwks(jwks.as_bytes(), &issuer.algorithms).map(|keys| (keys, jwks)),
        Err(_) => Err(KeysError::Json(Refusal::NotUtf8)),
    };
    match keys {
        Ok(((keys, ignored), jwks)) => Ok(Fetched { keys, ignored, jwks, jwks_uri: url.into() }),
        Err(source) => Err(FetchError::Keys { url: url.into(), content_type: document.content_type, source }),
    }
}

async fn discover(client: &Client, issuer: &Issuer) -> Result<Url, FetchError> {
    let [first, second] = metadata_urls(issuer)?;
    match metadata(client, issuer, &first).await {
        Err(error) if error.may_be_elsewhere() => metadata(client, issuer, &second).await.map_err(|_second| error),
        found => found,
    }
}

/// The document of OpenID Connect is below the issuer's path, that of RFC 8414 has its well-known part in front of it.
fn metadata_urls(issuer: &Issuer) -> Result<[Url; 2], FetchError> {
    let base = parse(&issuer.issuer, issuer)?;
    if base.query().is_some() || base.fragment().is_some() {
        return Err(FetchError::BadUrl { url: issuer.issuer.clone() });
    }
    let path = base.path().trim_end_matches('/');
    let with_path = |path: String| {
        let mut url = base.clone();
        url.set_path(&path);
        url
    };
    Ok([
        with_path(format!("{path}/.well-known/openid-configuration")),
        with_path(format!("/.well-known/oauth-authorization-server{path}")),
    ])
}

async fn metadata(client: &Client, issuer: &Issuer, url: &Url) -> Result<Url, FetchError> {
    let document = get(client, url).await?;
    let metadata: Metadata = serde_json::from_slice(&document.bytes).map_err(|source| FetchError::Metadata {
        url: url.to_string(),
        content_type: document.content_type,
        source,
    })?;
    if metadata.issuer != issuer.issuer {
        return Err(FetchError::OtherIssuer {
            url: url.to_string(),
            found: metadata.issuer,
            configured: issuer.issuer.clone(),
        });
    }
    let keys = parse(&metadata.jwks_uri, issuer)?;
    // An issuer that is reached safely does not send anyone to an unsafe place, not even on this host.
    if url.scheme() == "https" && keys.scheme() != "https" && !issuer.allow_http {
        return Err(FetchError::NotHttps { url: keys.into() });
    }
    Ok(keys)
}

fn parse(text: &str, issuer: &Issuer) -> Result<Url, FetchError> {
    let url = Url::parse(text).map_err(|_syntax| FetchError::BadUrl { url: text.to_owned() })?;
    if url.has_host() && url_is_safe(&url, issuer.allow_http) {
        Ok(url)
    } else {
        Err(FetchError::NotHttps { url: text.to_owned() })
    }
}

struct Document {
    bytes: Vec<u8>,
    content_type: String,
}

async fn get(client: &Client, url: &Url) -> Result<Document, FetchError> {
    let failed = |source: reqwest::Error| FetchError::Request { url: url.to_string(), source: source.without_url() };
    let accept = "application/json, application/jwk-set+json";
    let mut response = client.get(url.clone()).header(header::ACCEPT, accept).send().await.map_err(failed)?;
    let status = response.status();
    if status.is_redirection() {
        let location = header_text(&response, header::LOCATION);
        return Err(FetchError::Redirect { url: url.to_string(), location });
    }
    if !status.is_success() {
        return Err(FetchError::Status { url: url.to_string(), status: status.as_u16() });
    }
    let content_type = header_text(&response, header::CONTENT_TYPE);
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > MAX_BYTES {
            return Err(FetchError::TooLarge { url: url.to_string() });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Document { bytes, content_type })
}

fn header_text(response: &Response, name: header::HeaderName) -> String {
    let value = response.headers().get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or("none").chars().take(200).collect()
}
