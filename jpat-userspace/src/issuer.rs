//! The embedded issuer: keys in a directory, tokens signed with them, and their public halves over HTTP.
//!
//! It has no endpoint that hands out tokens: whoever may read the directory signs, nobody else.

pub mod keys;
pub mod serve;
pub mod sign;

use std::{io, path::PathBuf};

/// `typ` of the tokens that this issuer signs.
pub const TYP: &str = "jpat+jwt";

/// What a key signs with (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Alg {
    /// ECDSA with P-256 and SHA-256.
    #[default]
    #[value(name = "ES256")]
    Es256,
    /// EdDSA with Ed25519.
    #[value(name = "EdDSA")]
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256 and 2048 bits. Its signature takes 342 of a token's 1232 bytes.
    #[value(name = "RS256")]
    Rs256,
}

impl Alg {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::Es256, Self::EdDsa, Self::Rs256];

    /// The `alg` value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }

    /// The same for `jsonwebtoken`.
    #[must_use]
    pub const fn jwt(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
        }
    }
}

impl std::fmt::Display for Alg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the issuer cannot do what was asked.
#[derive(thiserror::Error, Debug)]
pub enum IssuerError {
    /// A file or directory cannot be used.
    #[error("{path}: cannot {action}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory holds no key.
    #[error("{0}: holds no key (*.pem): make one with `jpat issuer keys generate --dir {0}`")]
    NoKeys(PathBuf),
    /// Others than its owner may read a private key.
    #[error("{path}: mode {mode:04o} lets others read this private key: run `chmod 600 {path}`")]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file is no private key of a supported kind.
    #[error(
        "{0}: is no PKCS#8 private key in PEM for ES256, EdDSA (Ed25519) or RS256 (2048 bits or more): \
         remove it, or convert it with `openssl pkcs8 -topk8 -nocrypt`"
    )]
    NotAKey(PathBuf),
    /// Two files hold the same key.
    #[error("{0}: holds the same key as another file of the directory: remove one of them")]
    Twice(PathBuf),
    /// No key has this `kid`.
    #[error("{dir}: no key has the kid {kid:?}: `jpat issuer keys list --dir {dir}` shows those that are there")]
    UnknownKid {
        /// Where it was looked for.
        dir: PathBuf,
        /// What was looked for.
        kid: String,
    },
    /// The cryptographic library failed.
    #[error("cannot {0}: the cryptographic library failed")]
    Crypto(&'static str),
    /// A token could not be signed.
    #[error("cannot sign the token: {0}")]
    Sign(jsonwebtoken::errors::Error),
    /// An extra claim has an option of its own.
    #[error("claim {0:?} is set by an option of its own, not by --claim")]
    ReservedClaim(String),
    /// The end lies beyond what [`UnixTime`](crate::clock::UnixTime) holds, the year 2554.
    #[error("the token would end after the year 2554: give a shorter --ttl")]
    TooFar,
    /// The HTTP listener cannot be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The HTTP server failed.
    #[error("the HTTP server failed: {0}")]
    Serve(io::Error),
    /// The issuer URL cannot be one.
    #[error("{0:?}: the issuer is a URL such as https://tokens.example, without query, fragment or a slash at the end")]
    BadUrl(String),
}
