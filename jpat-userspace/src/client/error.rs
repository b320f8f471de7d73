//! What can go wrong with a knock.

use std::{io, net::IpAddr};

use super::{preflight, wait};
use crate::refusal::Refusal;

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
    #[error(
        "the token has {length} bytes, and a knock carries at most {max}: ask the identity provider for a smaller one \
         (fewer scopes, roles or groups, ES256 instead of RS256), or exchange it for a small token of your own issuer",
        max = crate::knock::MAX_PAYLOAD
    )]
    TokenTooLong {
        /// Its length.
        length: usize,
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
