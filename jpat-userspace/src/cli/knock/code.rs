//! Stable codes of what can go wrong, for programs.

use crate::{cli::CliError, client::ClientError};

pub(super) fn of(error: &CliError) -> &'static str {
    match error {
        CliError::NotAvailable { .. } => "not_available",
        CliError::NoTokenSource => "no_token_source",
        CliError::NoProfile(_) => "no_profile",
        CliError::NoHost => "no_host",
        CliError::Issuer(_) => "issuer",
        CliError::Refused(_) => "refused",
        CliError::Admin(_) => "admin",
        CliError::Keygen(_) => "keygen",
        CliError::Client(error) => match error {
            ClientError::ReadToken { .. } | ClientError::EmptyToken(_) => "no_token",
            ClientError::TokenTooLong(_) => "too_long",
            ClientError::Profile(_) => "bad_profile",
            ClientError::Seal(_) => "cannot_seal",
            ClientError::NoClientKey => "no_client_key",
            ClientError::OtherClientKey => "other_client_key",
            ClientError::ClientKeyFile { .. } | ClientError::BadClientKey(_) => "bad_client_key",
            ClientError::NotAToken(refusal) => refusal.code(),
            ClientError::Hopeless(finding) => finding.code(),
            ClientError::Resolve { .. } | ClientError::NoAddress { .. } => "no_address",
            ClientError::NotSent(_) => "not_sent",
            ClientError::Refused { .. } => "refused",
            ClientError::NotOpen(_) => "not_open",
            ClientError::Runtime(_) => "runtime",
        },
    }
}
