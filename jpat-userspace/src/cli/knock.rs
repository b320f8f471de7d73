//! `jpat knock`

mod bare;
mod code;
mod facts;
mod sealed;
mod told;

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{CliError, FormatOption, duration, json_failure};
use crate::{
    client::{
        self, ClientError, Family, Host, TokenSource,
        preflight::Preflight,
        profile::{self, Profile},
        sealed::Claimed,
        wait::WaitFor,
    },
    knock::{inner::is_service, sealed::Verb},
    output,
};

#[derive(Args, Debug)]
pub(super) struct Options {
    /// Name or address of the server, without a port; the profile's if not given
    #[arg(required_unless_present = "profile")]
    host: Option<Host>,
    /// UDP port to knock at; the profile's, or 1337, if not given
    #[arg(long, env = "JPAT_KNOCK_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    knock_port: Option<u16>,
    /// What to know of the server: a file, or a name under ~/.config/jpat; that of the host if it has one there
    #[arg(long, env = "JPAT_PROFILE", value_name = "PROFILE")]
    profile: Option<String>,
    /// File that holds the token, read anew each time; - for standard input
    #[arg(long, env = "JPAT_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Send the token as it is, without a profile: it crosses the network in clear
    #[arg(long, conflicts_with_all = ["service", "renew", "close", "key", "address"])]
    bare: bool,
    /// Open this service alone; may be given several times
    #[arg(long, value_parser = service, value_name = "NAME")]
    service: Vec<String>,
    /// Prolong what is open, and open nothing else
    #[arg(long, conflicts_with = "close")]
    renew: bool,
    /// Give back what this token has opened from here
    #[arg(long)]
    close: bool,
    /// The client's private key, for a token that is bound to it (`jpat keygen` makes one)
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Say which address this is: an address, or auto for this machine's own. A server that sees another one refuses
    #[arg(long, value_name = "ADDRESS")]
    address: Option<Claimed>,
    /// How long to wait for the reply, with two repeats in it; 0s for not at all
    #[arg(long, default_value = "1s", value_parser = duration, value_name = "TIME")]
    timeout: Duration,
    /// Succeed only when this service answers, such as tcp/8443
    #[arg(long, value_name = "SERVICE", conflicts_with = "close")]
    wait: Option<WaitFor>,
    /// How long to wait for it
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "TIME")]
    wait_timeout: Duration,
    /// Send what every server refuses
    #[arg(long)]
    force: bool,
    /// Knock at the IPv4 address only
    #[arg(short = '4', conflicts_with = "v6")]
    v4: bool,
    /// Knock at the IPv6 address only
    #[arg(short = '6')]
    v6: bool,
    #[command(flatten)]
    output: FormatOption,
}

pub(super) fn run(options: &Options) -> Result<(), CliError> {
    let result = if options.bare { bare::run(options) } else { sealed::run(options) };
    match &result {
        // All of it was told, in the form that was asked for.
        Ok(()) | Err(CliError::Client(ClientError::Refused { .. })) => {}
        Err(error) => json_failure(options.output.format, code::of(error), error),
    }
    result
}

impl Options {
    const fn family(&self) -> Family {
        match (self.v4, self.v6) {
            (true, _) => Family::V4,
            (false, true) => Family::V6,
            (false, false) => Family::Both,
        }
    }

    const fn verb(&self) -> Verb {
        match (self.renew, self.close) {
            (true, _) => Verb::Renew,
            (false, true) => Verb::Close,
            (false, false) => Verb::Open,
        }
    }

    /// The named profile, or the one with the host's name.
    fn profile(&self) -> Result<Profile, CliError> {
        let of_host = || self.host.as_ref().and_then(profile::of_host);
        let file = self.profile.as_deref().map(profile::file).or_else(of_host);
        let file =
            file.ok_or_else(|| CliError::NoProfile(self.host.as_ref().map_or_else(String::new, Host::to_string)))?;
        Ok(Profile::read(&file).map_err(ClientError::from)?)
    }

    fn token_source(&self, profile: Option<&Profile>) -> Result<TokenSource, CliError> {
        let file = self.token_file.clone().or_else(|| profile.and_then(|profile| profile.token_file.clone()));
        file.map(TokenSource::from).ok_or(CliError::NoTokenSource)
    }
}

/// Refuses what every server refuses, and warns of the rest.
fn judge(seen: &Preflight, force: bool) -> Result<(), ClientError> {
    if let Some(finding) = seen.findings.iter().find(|finding| finding.is_hopeless())
        && !force
    {
        return Err(ClientError::Hopeless(*finding));
    }
    for finding in &seen.findings {
        output::talk(&format!("warning: {finding}"));
    }
    Ok(())
}

fn report_failed(failed: &[client::SendError]) {
    for failed in failed {
        output::talk(&format!("warning: not sent to {failed}"));
    }
}

/// A name that a knock can carry (`docs/protocol.md` §3).
fn service(text: &str) -> Result<String, ServiceError> {
    is_service(text).then(|| text.to_owned()).ok_or(ServiceError)
}

#[derive(thiserror::Error, Debug)]
#[error("a service is named with 1 to 64 letters, digits, '.', '_' and '-', and no '.' in front")]
struct ServiceError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_as_in_the_configuration() {
        let longest = "a".repeat(64);
        for good in ["web", "Commerce.Listings", "a_b-c.9", "-", &longest] {
            assert_eq!(service(good).unwrap(), good);
        }
        for bad in ["", ".web", "a b", "a/b", "ä", &format!("{longest}a")] {
            assert!(service(bad).is_err(), "{bad}");
        }
    }
}
