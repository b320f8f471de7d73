//! What can go wrong with a knock.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use super::{preflight, profile::ProfileError, sealed::Sizes, wait};
use crate::{
    knock::{MAX_PAYLOAD, sealed::SealError},
    refusal::Refusal,
    secret_file::SecretFileError,
};

/// Why nothing was sent, or nothing opened.
#[derive(thiserror::Error, Debug)]
pub enum ClientError {
    /// The token cannot be read.
    #[error("cannot read the token from {from}: {source}")]
    ReadToken {
        /// The file, or standard input.
        from: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing to read.
    #[error("{0} holds no token")]
    EmptyToken(String),
    /// The token does not fit a datagram.
    #[error("{}", too_long(*.0))]
    TokenTooLong(Sizes),
    /// The profile cannot be used.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The knock cannot be sealed.
    #[error("the knock cannot be sealed: {0}")]
    Seal(#[from] SealError),
    /// A token with `cnf`, and no key.
    #[error(
        "the token is bound to a key (cnf): name its file with --key, or as client_key in the profile (--force sends it all the same)"
    )]
    NoClientKey,
    /// A token with another key in its `cnf`.
    #[error(
        "the token is bound to another key than this one: `jpat issuer sign --cnf`, or your identity provider, binds it to yours \
         (--force sends it all the same)"
    )]
    OtherClientKey,
    /// The client's key cannot be read.
    #[error("{}\n  remedy: {}", error.describe(path), key_remedy(error, path))]
    ClientKeyFile {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        error: SecretFileError,
    },
    /// It is no private key.
    #[error("{} holds no private JWK of Ed25519 or P-256\n  remedy: make one with `jpat keygen --out FILE`", .0.display())]
    BadClientKey(PathBuf),
    /// The server's reply is a refusal.
    #[error("refused: {code}{}", explained(code))]
    Refused {
        /// Its stable code.
        code: String,
    },
    /// The token has not the shape of one.
    #[error("this is no token that a knock can carry: {}", .0.text())]
    NotAToken(Refusal),
    /// The token would be refused.
    #[error("not sent: {0} (--force sends it all the same)")]
    Hopeless(preflight::Finding),
    /// The name has no address.
    #[error("cannot find an address of {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The name has no address of the wanted family.
    #[error("{host} has no {family} address")]
    NoAddress {
        /// The name.
        host: String,
        /// "IPv4" or "IPv6" or both.
        family: &'static str,
    },
    /// No datagram could be sent.
    #[error("nothing was sent: {}", join(.0))]
    NotSent(Vec<SendError>),
    /// The service did not open.
    #[error(transparent)]
    NotOpen(#[from] wait::NotOpen),
    /// The runtime could not be started.
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
}

/// Why one datagram could not be sent.
#[derive(thiserror::Error, Debug)]
pub enum SendError {
    /// It is longer than the path to the server takes in one packet; it must not be fragmented.
    #[error("{to}: {length} bytes do not fit one packet on the way there: a smaller token is needed")]
    TooLong {
        /// Where to.
        to: IpAddr,
        /// UDP payload.
        length: usize,
    },
    /// Anything else.
    #[error("{to}: {source}")]
    Io {
        /// Where to.
        to: IpAddr,
        /// What the system said.
        source: io::Error,
    },
}

fn join(errors: &[SendError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn too_long(sizes: Sizes) -> String {
    let Sizes { bare, sealed } = sizes;
    let smaller = "ask the identity provider for a smaller one (fewer scopes, roles or groups, ES256 instead of RS256), or \
        exchange it for a small token of your own issuer";
    let (takes, advice) = match sealed {
        Some(sealed) if sealed <= MAX_PAYLOAD => (
            format!("bare the knock takes {bare}, sealed about {sealed}"),
            "knock sealed, with a --profile of the server",
        ),
        Some(sealed) => (format!("bare the knock takes {bare}, sealed {sealed}"), smaller),
        None => (format!("bare the knock takes {bare}"), smaller),
    };
    format!("the token does not fit one datagram of at most {MAX_PAYLOAD} bytes: {takes}. What to do: {advice}")
}

fn key_remedy(error: &SecretFileError, path: &Path) -> String {
    match error {
        SecretFileError::Unreadable(_) | SecretFileError::Content => {
            "make one with `jpat keygen --out FILE`".to_owned()
        }
        SecretFileError::Exposed(_) | SecretFileError::ForeignOwner(_) => error.remedy(path),
    }
}

/// What a code means, in brackets.
pub(crate) fn explained(code: &str) -> String {
    let known = Refusal::ALL.iter().find(|refusal| refusal.code() == code);
    known.map_or_else(String::new, |refusal| {
        let text = refusal.text().trim_end_matches('.');
        let mut letters = text.chars();
        match (letters.next(), letters.clone().next()) {
            // Not an abbreviation.
            (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
                format!(" ({}{})", first.to_lowercase(), letters.as_str())
            }
            _ => format!(" ({text})"),
        }
    })
}
