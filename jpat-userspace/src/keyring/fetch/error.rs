//! What can go wrong with a fetch, in words for the operator: what, where, what to do.

use std::error::Error;

use crate::token::keys::{KeysError, MAX_BYTES};

/// Why no keys came. The last good ones go on serving until they are older than `max_stale`.
#[derive(thiserror::Error, Debug)]
pub enum FetchError {
    /// The HTTP client could not be set up.
    #[error("cannot set up TLS: {}; are CA certificates installed (package ca-certificates)?", chain(.0))]
    Client(reqwest::Error),
    /// The issuer's keys come from a file.
    #[error("the keys of this issuer are in a file")]
    NotRemote,
    /// Not a URL.
    #[error(
        "{url:?} is no URL that keys can be fetched from: give keys = {{ jwks_url = \"https://…\" }} or a file instead of \
         discovery"
    )]
    BadUrl {
        /// As configured, or as the issuer's document has it.
        url: String,
    },
    /// Not https.
    #[error(
        "{url}: keys are fetched over https alone, or whoever is on the path could replace them; in a lab, allow_http = true"
    )]
    NotHttps {
        /// The URL.
        url: String,
    },
    /// No answer, or not a whole one.
    #[error("{url}: {}", request(.source))]
    Request {
        /// The URL.
        url: String,
        /// What failed.
        source: reqwest::Error,
    },
    /// 3xx: it might lead anywhere.
    #[error("{url}: answered with a redirect to {location}, and none is followed: configure the final URL")]
    Redirect {
        /// The URL.
        url: String,
        /// Where it leads.
        location: String,
    },
    /// Any other status than 2xx.
    #[error("{url}: answered with status {status}{}", if *.status >= 500 { "; it will be tried again" } else { ": is this the right URL?" })]
    Status {
        /// The URL.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// Longer than any real document.
    #[error("{url}: more than {MAX_BYTES} bytes; is this the right URL?")]
    TooLarge {
        /// The URL.
        url: String,
    },
    /// Not an issuer document.
    #[error(
        "{url}: no issuer document with `issuer` and `jwks_uri` ({source}; content type {content_type}); keys = {{ jwks_url = \"…\" }} needs none"
    )]
    Metadata {
        /// The URL.
        url: String,
        /// Its `Content-Type`.
        content_type: String,
        /// Where it fails.
        source: serde_json::Error,
    },
    /// The document speaks for another issuer.
    #[error("{url}: speaks for the issuer {found:?}, configured is {configured:?}: they must be equal, byte for byte")]
    OtherIssuer {
        /// The URL.
        url: String,
        /// Its `issuer`.
        found: String,
        /// Ours.
        configured: String,
    },
    /// No key set.
    #[error("{url}: {source} (content type {content_type})")]
    Keys {
        /// The URL.
        url: String,
        /// Its `Content-Type`.
        content_type: String,
        /// What is wrong with it.
        source: KeysError,
    },
}

impl FetchError {
    /// Whether the other well-known document is worth a try: the issuer answered, with something else.
    pub(super) const fn may_be_elsewhere(&self) -> bool {
        match self {
            Self::Status { status, .. } => *status < 500,
            Self::Metadata { .. } | Self::Redirect { .. } => true,
            Self::Client(_)
            | Self::NotRemote
            | Self::BadUrl { .. }
            | Self::NotHttps { .. }
            | Self::Request { .. }
            | Self::TooLarge { .. }
            | Self::OtherIssuer { .. }
            | Self::Keys { .. } => false,
        }
    }
}

fn request(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        format!("no whole answer within {} s", super::TIMEOUT.as_secs())
    } else if error.is_connect() {
        format!("cannot connect: {}", cause(error))
    } else {
        format!("broken answer: {}", cause(error))
    }
}

/// The innermost error: the outer ones of an HTTP client say only that there is one.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}
