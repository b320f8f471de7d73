//! The command line of `jpat`: one module for each verb. Exit codes: 0 done, 1 refused or failed, 2 wrong usage.

mod admin;
mod issuer;
pub(crate) mod keygen;
mod knock;

use std::{process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::{client, issuer::IssuerError, output};

/// Client and admin tool of JPAT: knocks at servers that hide their services.
#[derive(Parser, Debug)]
#[command(name = "jpat", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Send a knock: one UDP datagram with a token
    ///
    /// It goes to the server's first IPv4 and its first IPv6 address if it has both, because a grant is for the address
    /// that the knock came from. With `replay = "once"` the token opens for the one that arrives first: choose with -4 or
    /// -6. It is sealed with what a profile says of the server, which then tells what it did. With --bare it is the token
    /// itself, and the server never answers; --wait tells whether the service opened.
    Knock(Box<knock::Options>),
    /// Embedded issuer: keys, tokens, discovery over HTTP
    #[command(subcommand)]
    Issuer(issuer::Command),
    /// How the controller on this host stands
    Status {
        #[command(flatten)]
        asking: admin::Asking,
    },
    /// Drop what may not pass, or only count it
    Mode {
        /// The mode, until the next reload or restart
        mode: admin::Mode,
        /// Even if you could not connect again without a knock, or connections that stand would be cut
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        asking: admin::Asking,
    },
    /// Keep what a trial attached
    Confirm {
        #[command(flatten)]
        asking: admin::Asking,
    },
    /// Live grants: list, add, revoke, flush
    #[command(subcommand)]
    Grants(admin::Grants),
    /// Read the configuration again
    Reload {
        #[command(flatten)]
        asking: admin::Asking,
    },
    /// Watch decisions as they are made (not available in this version)
    #[command(hide = true)]
    Observe(Later),
    /// A live overview (not available in this version)
    #[command(hide = true)]
    Top(Later),
    /// Try rules on tokens (not available in this version)
    #[command(hide = true)]
    Policy(Later),
    /// Knock, then connect standard input and output (not available in this version)
    #[command(hide = true)]
    Proxy(Later),
    /// Knock, and keep the grant while a command runs (not available in this version)
    #[command(hide = true)]
    Exec(Later),
    /// Make the client's own key pair, which tokens can be bound to
    Keygen(keygen::Options),
}

/// Arguments of a command that this version does not have: taken as they come, so that the answer is not about them.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
struct Later {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<std::ffi::OsString>,
}

/// `-o`, for every command that prints facts.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct FormatOption {
    /// Form of the facts on standard output
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: output::Format,
}

/// Why a command did not do what was asked.
#[derive(thiserror::Error, Debug)]
pub enum CliError {
    /// Part of the design, not of this version.
    #[error("{what} not available in this version{instead}")]
    NotAvailable {
        /// What was asked for, with its verb: "`jpat exec` is".
        what: &'static str,
        /// What to do, with its punctuation; may be empty.
        instead: &'static str,
    },
    /// An option that is needed is missing.
    #[error(
        "no token: give --token-file FILE, --token-file - for standard input, or JPAT_TOKEN_FILE in the environment"
    )]
    NoTokenSource,
    /// A sealed knock needs to know the server.
    #[error(
        "no profile of the server{}: give --profile FILE or JPAT_PROFILE in the environment, or put it at \
         ~/.config/jpat/HOST.toml; or use --bare (the token crosses the network in clear)",
        if .0.is_empty() { String::new() } else { format!(" {}", .0) }
    )]
    NoProfile(String),
    /// Neither the command nor the profile names one.
    #[error("no server: name it, or let the profile say `host`")]
    NoHost,
    /// The client's key could not be made or read.
    #[error(transparent)]
    Keygen(#[from] keygen::KeygenError),
    /// The client failed.
    #[error(transparent)]
    Client(#[from] client::ClientError),
    /// The controller refused.
    #[error("{0}")]
    Refused(String),
    /// The controller could not be asked.
    #[error(transparent)]
    Admin(#[from] crate::admin::client::ClientError),
    /// The issuer failed.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
}

impl CliError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::NotAvailable { .. } | Self::NoTokenSource | Self::NoProfile(_) | Self::NoHost => ExitCode::from(2),
            Self::Client(_) | Self::Refused(_) | Self::Admin(_) | Self::Issuer(_) | Self::Keygen(_) => {
                ExitCode::from(1)
            }
        }
    }
}

/// Parses the arguments, runs the command, says what went wrong.
#[must_use]
pub fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reply was told as a fact.
        Err(error @ CliError::Client(client::ClientError::Refused { .. })) => error.exit_code(),
        Err(error) => {
            output::talk(&format!("jpat: {error}"));
            error.exit_code()
        }
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Knock(options) => knock::run(&options),
        Command::Issuer(command) => issuer::run(command),
        Command::Status { asking } => admin::status(&asking),
        Command::Mode { mode, force, asking } => admin::mode(&asking, mode, force),
        Command::Confirm { asking } => admin::confirm(&asking),
        Command::Grants(command) => admin::grants(command),
        Command::Reload { asking } => admin::reload(&asking),
        Command::Observe(later) => later.refuse("`jpat observe` is", ""),
        Command::Top(later) => later.refuse("`jpat top` is", ""),
        Command::Policy(later) => later.refuse("`jpat policy` is", "; see `jpatd explain`"),
        Command::Proxy(later) => later.refuse("`jpat proxy` is", ""),
        Command::Exec(later) => later.refuse("`jpat exec` is", ""),
        Command::Keygen(options) => keygen::run(&options),
    }
}

impl Later {
    fn refuse(self, what: &'static str, instead: &'static str) -> Result<(), CliError> {
        drop(self.arguments);
        Err(CliError::NotAvailable { what, instead })
    }
}

/// A span of time as people write it: `30s`, `5m`, `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, DurationError> {
    let span: jiff::SignedDuration = text.parse().map_err(|_syntax| DurationError)?;
    Duration::try_from(span).map_err(|_negative| DurationError)
}

#[derive(thiserror::Error, Debug)]
#[error("expected a time span with its unit, such as 30s, 5m or 1h")]
pub(crate) struct DurationError;

/// Runs a future on a runtime of this thread.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(client::ClientError::Runtime)?.block_on(future))
}

/// A failure as a JSON fact, for callers that asked for JSON.
fn json_failure(format: output::Format, code: &str, error: &CliError) {
    match format {
        output::Format::Text => {}
        output::Format::Json => {
            output::json(json!({ "outcome": "failed", "error": { "code": code, "message": error.to_string() } }));
        }
    }
}
