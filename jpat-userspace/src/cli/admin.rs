//! `jpat status`, `mode`, `confirm`, `grants` and `reload`: requests over the controller's local socket.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use ipnet::IpNet;
use serde_json::Value;

use super::{CliError, FormatOption, duration};
use crate::{
    admin::{self, DEFAULT_SOCKET, Grant, ModeName, Request, Response, Status, client},
    output::{self, Format},
};

/// Where the controller listens, and how to print what it says.
#[derive(Args, Debug)]
pub(super) struct Asking {
    /// The controller's local socket (`admin.socket`)
    #[arg(long, env = "JPAT_SOCKET", default_value = DEFAULT_SOCKET, value_name = "PATH")]
    socket: PathBuf,
    #[command(flatten)]
    output: FormatOption,
}

/// Modes as one types them.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Mode {
    /// Drop what may not pass
    Enforce,
    /// Count what would be dropped, and let it pass
    Audit,
}

/// `jpat grants`
#[derive(Subcommand, Debug)]
pub(super) enum Grants {
    /// Every live grant, and those whose flows outlived them
    List {
        #[command(flatten)]
        asking: Asking,
    },
    /// Open a service by hand
    Add {
        /// For which address
        source: IpAddr,
        /// Which service, by its configured name
        service: String,
        /// For how long; the service's own TTL if absent
        #[arg(long, value_parser = duration, value_name = "TIME")]
        ttl: Option<Duration>,
        #[command(flatten)]
        asking: Asking,
    },
    /// Take grants back and end their flows, also where the grant has ended; what is not named matches all
    #[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
    Revoke {
        /// Of these sources
        #[arg(long, group = "which", value_name = "ADDRESS[/BITS]", value_parser = prefix)]
        source: Option<IpNet>,
        /// Of this service
        #[arg(long, group = "which")]
        service: Option<String>,
        /// Of this principal, as `grants list` shows it
        #[arg(long, group = "which")]
        principal: Option<String>,
        #[command(flatten)]
        asking: Asking,
    },
    /// Take every grant back and end every flow, in one step
    Flush {
        #[command(flatten)]
        asking: Asking,
    },
}

pub(super) fn status(asking: &Asking) -> Result<(), CliError> {
    ask(asking, &Request::Status)
}

pub(super) fn mode(asking: &Asking, mode: Mode, force: bool) -> Result<(), CliError> {
    let mode = match mode {
        Mode::Enforce => ModeName::Enforce,
        Mode::Audit => ModeName::Audit,
    };
    ask(asking, &Request::Mode { mode, force })
}

pub(super) fn confirm(asking: &Asking) -> Result<(), CliError> {
    ask(asking, &Request::Confirm)
}

pub(super) fn reload(asking: &Asking) -> Result<(), CliError> {
    ask(asking, &Request::Reload)
}

pub(super) fn grants(command: Grants) -> Result<(), CliError> {
    match command {
        Grants::List { asking } => ask(&asking, &Request::GrantsList),
        Grants::Add { source, service, ttl, asking } => {
            ask(&asking, &Request::GrantsAdd { source, service, ttl_seconds: ttl.map(|ttl| ttl.as_secs()) })
        }
        Grants::Revoke { source, service, principal, asking } => {
            ask(&asking, &Request::GrantsRevoke { source, service, principal })
        }
        Grants::Flush { asking } => ask(&asking, &Request::GrantsFlush),
    }
}

fn ask(asking: &Asking, request: &Request) -> Result<(), CliError> {
    let response = client::request(&asking.socket, request)?;
    if let Response::Refused { message } = response {
        return Err(CliError::Refused(message));
    }
    match asking.output.format {
        Format::Text => output::fact(&text(&response)),
        Format::Json => output::json(serde_json::to_value(&response).unwrap_or(Value::Null)),
    }
    Ok(())
}

fn prefix(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>()
        .or_else(|_not_a_prefix| address())
        .map_err(|_neither| "expected an address or a prefix, such as 192.0.2.7 or 2001:db8::/64".to_owned())
}

fn text(response: &Response) -> String {
    match response {
        Response::Status(status) => status_text(status),
        Response::Mode { mode } => {
            format!("mode {} until the next reload or restart (`mode` in the configuration stays)", name(*mode))
        }
        Response::Confirmed => "confirmed: enforcement stays, whatever happens to the controller".to_owned(),
        Response::Grants { grants, outlived } => grants_text(grants, outlived),
        Response::Added { grant } => format!("{} opened for {} until {}", grant.service, grant.source, grant.until),
        Response::Revoked { count: 0, flows: 0 } => "nothing matched".to_owned(),
        Response::Revoked { count, flows } => {
            let [grants, flows] =
                [plural(*count, "grant revoked", "grants revoked"), plural(*flows, "flow ended", "flows ended")];
            format!("{grants}, {flows}")
        }
        Response::Flushed { generation } => format!("all grants and flows revoked (generation {generation})"),
        Response::Reloaded { mode, warnings } if warnings.is_empty() => format!("reloaded, mode {}", name(*mode)),
        Response::Reloaded { mode, warnings } => {
            format!("reloaded, mode {}, with warnings:\n{}", name(*mode), warnings.join("\n"))
        }
        Response::Refused { message } => message.clone(),
    }
}

fn grants_text(grants: &[Grant], outlived: &[Grant]) -> String {
    let row = |grant: &Grant, more: [String; 2]| {
        let Grant { source, service, principal, flows, .. } = grant;
        let [left, until] = more;
        vec![source.clone(), service.clone(), output::printable(principal), flows.to_string(), left, until]
    };
    if grants.is_empty() && outlived.is_empty() {
        return "no live grants".to_owned();
    }
    let live = grants.iter().map(|grant| row(grant, [format!("{} s", grant.seconds_left), grant.until.clone()]));
    let ended = outlived.iter().map(|grant| row(grant, ["ended".to_owned(), grant.until.clone()]));
    table(&["SOURCE", "SERVICE", "PRINCIPAL", "FLOWS", "LEFT", "UNTIL"], live.chain(ended))
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A host of containers has devices by the hundred.
const SHOWN_NAMES: usize = 8;

fn status_text(status: &Status) -> String {
    let mut lines = vec![
        format!("jpatd {} up {} s, mode {}", status.program, status.uptime_seconds, name(status.mode)),
        format!("config      {} (load {})", status.config, status.config_generation),
        match (status.pinned, status.trial_seconds) {
            (_, Some(seconds)) => format!("trial       rolls back in {seconds} s unless `jpat confirm`"),
            (true, None) => "pinned      enforcement outlives the controller".to_owned(),
            (false, None) => "NOT PINNED  enforcement ends with the controller".to_owned(),
        },
        format!("knocks      udp/{}", status.knock_port),
    ];
    for interface in &status.interfaces {
        let admin::Interface { name, attach, program, why } = interface;
        let why = why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
        lines.push(format!("interface   {name} {attach} {program}{why}"));
    }
    lines.extend(status.waiting.iter().map(|name| format!("waiting     {name}: no such device yet")));
    if !status.not_judged.is_empty() {
        let first: Vec<_> = status.not_judged.iter().take(SHOWN_NAMES).map(String::as_str).collect();
        let more = match status.not_judged.len().saturating_sub(SHOWN_NAMES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        lines.push(format!("not judged  {}{more} (this host's own)", first.join(" ")));
    }
    lines.extend(status.degraded.iter().map(|degraded| format!("degraded    {degraded}")));
    for service in &status.services {
        lines.push(format!("service     {} {}", service.name, service.ports.join(" ")));
    }
    for issuer in &status.issuers {
        let age = issuer.age_seconds.map_or_else(|| "never read".to_owned(), |age| format!("read {age} s ago"));
        let error = issuer.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        lines.push(format!("issuer      {} {} keys, {age}{error}", issuer.name, issuer.keys));
    }
    lines.push(format!("grants      {} of {}", status.grants, status.grants_capacity));
    lines.push(format!("flows       {} of {}", status.flows, status.flows_capacity));
    lines.extend(status.alarms.iter().map(|alarm| format!("ALARM       {alarm}")));
    lines.join("\n")
}

const fn name(mode: ModeName) -> &'static str {
    match mode {
        ModeName::Enforce => "enforce",
        ModeName::Audit => "audit",
    }
}

/// Columns as wide as their widest cell, two spaces between.
fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut lines = vec![header.iter().map(ToString::to_string).collect::<Vec<_>>()];
    lines.extend(rows);
    let widths: Vec<_> = (0..header.len())
        .map(|column| lines.iter().filter_map(|line| line.get(column)).map(String::len).max().unwrap_or(0))
        .collect();
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}
