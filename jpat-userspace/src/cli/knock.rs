//! `jpat knock`

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use serde_json::{Value, json};

use super::{CliError, FormatOption, block_on, duration, json_failure};
use crate::{
    client::{
        self, ClientError, Family, Host, Knocked, TokenSource,
        preflight::{self, Preflight},
        token_source,
        wait::{self, WaitFor},
    },
    clock::{self, BootTime},
    output::{self, Format},
};

#[derive(Args, Debug)]
pub(super) struct Options {
    /// Name or address of the server, without a port
    host: Host,
    /// UDP port to knock at
    #[arg(long, env = "JPAT_KNOCK_PORT", default_value_t = client::KNOCK_PORT, value_name = "PORT",
          value_parser = clap::value_parser!(u16).range(1..))]
    knock_port: u16,
    /// File that holds the token, read anew each time; - for standard input
    #[arg(long, env = "JPAT_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Send the token as it is: it crosses the network in clear
    #[arg(long)]
    bare: bool,
    /// Succeed only when this service answers, such as tcp/8443
    #[arg(long, value_name = "SERVICE")]
    wait: Option<WaitFor>,
    /// How long to wait for it
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "TIME")]
    wait_timeout: Duration,
    /// Send a token that every server refuses
    #[arg(long)]
    force: bool,
    /// Knock at the IPv4 address only
    #[arg(short = '4', conflicts_with = "v6")]
    v4: bool,
    /// Knock at the IPv6 address only
    #[arg(short = '6')]
    v6: bool,
    /// Named settings (not available in this version)
    #[arg(long, hide = true)]
    profile: Option<String>,
    #[command(flatten)]
    output: FormatOption,
}

pub(super) fn run(options: &Options) -> Result<(), CliError> {
    if options.profile.is_some() {
        return Err(CliError::NotAvailable { what: "`--profile` is", instead: ": use --token-file" });
    }
    if !options.bare {
        return Err(CliError::NotAvailable {
            what: "sealed knocks are",
            instead: ": use --bare (the token crosses the network in clear)",
        });
    }
    let source = options.token_file.clone().map(TokenSource::from).ok_or(CliError::NoTokenSource)?;
    let result = send_and_wait(options, &source);
    if let Err(error) = &result {
        json_failure(options.output.format, code(error), error);
    }
    result
}

fn send_and_wait(options: &Options, source: &TokenSource) -> Result<(), CliError> {
    let text = token_source::read(source)?;
    let datagram = client::bare(&text)?;
    let seen = preflight::look(&text, clock::now().unix);
    if let Some(finding) = seen.findings.iter().find(|finding| finding.is_hopeless())
        && !options.force
    {
        return Err(ClientError::Hopeless(*finding).into());
    }
    for finding in &seen.findings {
        output::talk(&format!("warning: {finding}"));
    }
    let addresses = client::resolve(&options.host, options.knock_port, options.family())?;
    let begin = clock::now().boot;
    let mut knocked = client::knock(datagram, &addresses)?;
    report_failed(&knocked);
    if options.output.format == Format::Text {
        report_sent(&mut knocked);
    }
    let answered = match options.wait {
        Some(service) => Some((service, wait_for(options, service, &mut knocked)?)),
        None => None,
    };
    match options.output.format {
        Format::Json => output::json(facts(&mut knocked, &seen, answered, begin)),
        Format::Text => {
            if let Some((service, at)) = answered {
                output::fact(&format!("{service} on {} answers after {} ms", at.ip(), millis_since(begin)));
            }
        }
    }
    Ok(())
}

impl Options {
    const fn family(&self) -> Family {
        match (self.v4, self.v6) {
            (true, _) => Family::V4,
            (false, true) => Family::V6,
            (false, false) => Family::Both,
        }
    }
}

fn report_failed(knocked: &Knocked) {
    for failed in &knocked.failed {
        output::talk(&format!("warning: not sent to {failed}"));
    }
}

fn report_sent(knocked: &mut Knocked) {
    for sent in &mut knocked.sent {
        let (bytes, ip, port) = (sent.bytes, sent.to.ip(), sent.to.port());
        match sent.rejected() {
            None => output::fact(&format!("sent {bytes} bytes to {ip} udp/{port}; the server does not answer")),
            Some(error) => output::fact(&format!("sent {bytes} bytes to {ip} udp/{port}; they were rejected: {error}")),
        }
    }
}

fn wait_for(options: &Options, service: WaitFor, knocked: &mut Knocked) -> Result<SocketAddr, CliError> {
    let hosts: Vec<_> = knocked.sent.iter().map(|sent| sent.to).collect();
    block_on(wait::wait(service, &hosts, options.wait_timeout))?.map_err(|not_open| {
        for hint in hints(options, knocked, not_open.refused().is_some()) {
            output::talk(&format!("hint: {hint}"));
        }
        ClientError::NotOpen(not_open).into()
    })
}

/// What may be wrong, when a silent server leaves one guessing.
fn hints(options: &Options, knocked: &mut Knocked, refused: bool) -> Vec<String> {
    let port = options.knock_port;
    let mut sent = knocked.sent.iter_mut();
    if let Some(ip) = sent.find_map(|sent| sent.rejected().is_some().then_some(sent.to.ip())) {
        return vec![format!(
            "{ip} rejects udp/{port}, which a JPAT server never does: is it the right host and --knock-port?"
        )];
    }
    if refused {
        return vec!["the port is open to you, by a grant or without one: is the service running?".to_owned()];
    }
    vec![
        format!("a datagram can get lost, and firewalls on the way may drop udp/{port}: knock again"),
        "the server writes why it refused a token into its audit log, and tells nobody else".to_owned(),
        "clocks that differ make good tokens expired or not yet valid".to_owned(),
    ]
}

fn facts(knocked: &mut Knocked, seen: &Preflight, answered: Option<(WaitFor, SocketAddr)>, begin: BootTime) -> Value {
    let sent = |sent: &mut client::Sent| {
        let error = sent.rejected().map(ToString::to_string);
        json!({ "address": sent.to.ip(), "port": sent.to.port(), "bytes": sent.bytes, "rejected": error })
    };
    json!({
        "outcome": if answered.is_some() { "open" } else { "sent" },
        "form": crate::knock::Form::Bare.as_str(),
        "sent": knocked.sent.iter_mut().map(sent).collect::<Vec<_>>(),
        "not_sent": knocked.failed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "token": {
            "expires": seen.expires.map(|expires| expires.to_string()),
            "findings": seen.findings.iter().map(|finding| finding.code()).collect::<Vec<_>>(),
        },
        "open": answered.map(|(service, at)| {
            json!({ "service": service.to_string(), "address": at.ip(), "milliseconds": millis_since(begin) })
        }),
    })
}

fn millis_since(begin: BootTime) -> u128 {
    begin.until(clock::now().boot).as_millis()
}

/// Stable codes of what can go wrong, for programs.
fn code(error: &CliError) -> &'static str {
    match error {
        CliError::NotAvailable { .. } => "not_available",
        CliError::NoTokenSource => "no_token_source",
        CliError::Issuer(_) => "issuer",
        CliError::Refused(_) => "refused",
        CliError::Admin(_) => "admin",
        CliError::Client(error) => match error {
            ClientError::ReadToken { .. } | ClientError::EmptyToken(_) => "no_token",
            ClientError::TokenTooLong { .. } => "too_long",
            ClientError::NotAToken(refusal) => refusal.code(),
            ClientError::Hopeless(finding) => finding.code(),
            ClientError::Resolve { .. } | ClientError::NoAddress { .. } => "no_address",
            ClientError::NotSent(_) => "not_sent",
            ClientError::NotOpen(_) => "not_open",
            ClientError::Runtime(_) => "runtime",
        },
    }
}
