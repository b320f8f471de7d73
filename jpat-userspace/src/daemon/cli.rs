//! The command line of `jpatd`. Exit codes: 0 done, 1 refused or failed, 2 wrong usage.

mod log;

use std::{net::IpAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Options, offline};
use crate::{
    cli::{self, FormatOption},
    client::Host,
    config::schema,
    output,
    provision::Wanted,
};

/// Controller of JPAT, the firewall that opens for one packet with a token.
#[derive(Parser, Debug)]
#[command(name = "jpatd", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Clone, Debug)]
struct ConfigOption {
    /// The configuration file
    #[arg(long, env = "JPAT_CONFIG", default_value = "/etc/jpat/jpat.toml", value_name = "FILE")]
    config: PathBuf,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Write a first configuration in audit mode, with a local issuer
    Init {
        /// Directory to write; nothing in it is overwritten
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Interface to protect
        #[arg(long, value_name = "NAME")]
        interface: Option<String>,
    },
    /// Load, attach, serve; SIGHUP reloads, SIGTERM stops and leaves enforcement in place
    Run {
        #[command(flatten)]
        config: ConfigOption,
        /// Roll back after this time unless `jpat confirm`
        #[arg(long = "try", value_name = "TIME", value_parser = trial_time)]
        trial: Option<Duration>,
        /// Take enforcement away at an orderly exit
        #[arg(long)]
        detach_on_exit: bool,
        /// Start even if you could not connect again without a knock, or connections that stand would be cut
        #[arg(long)]
        force: bool,
    },
    /// Validate a configuration; exit 1 on errors
    Check {
        #[command(flatten)]
        config: ConfigOption,
        #[command(flatten)]
        output: FormatOption,
    },
    /// The decision on a token and every check behind it, offline
    Explain {
        #[command(flatten)]
        config: ConfigOption,
        /// File that holds the token; - for standard input
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// Address the knock would come from
        #[arg(long, value_name = "ADDRESS")]
        source: IpAddr,
        /// Decide as of this time (RFC 3339) instead of now
        #[arg(long, value_name = "TIME")]
        at: Option<jiff::Timestamp>,
        /// JWK Set of the token's issuer, for one whose keys are fetched
        #[arg(long, value_name = "FILE")]
        jwks: Option<PathBuf>,
        /// As a bare knock, even where its issuer accepts sealed ones
        #[arg(long, conflicts_with = "proof")]
        bare: bool,
        /// As if the client had proved that it holds the key which the token is bound to
        #[arg(long)]
        proof: bool,
        #[command(flatten)]
        output: FormatOption,
    },
    /// JSON Schema of the configuration
    Schema,
    /// Take enforcement and all grants away
    Detach {
        #[command(flatten)]
        config: ConfigOption,
    },
    /// Make the keys of sealed knocks, and print what to put into the configuration
    Keygen {
        /// Directory to write; nothing in it is overwritten
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Id of the knock key
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..), value_name = "ID")]
        knock_key: u16,
        /// Make one of the two keys alone
        #[arg(long, value_enum, value_name = "KEY")]
        only: Option<OnlyKey>,
    },
    /// Print the profile that a client needs to knock; it is secret
    ClientConfig {
        #[command(flatten)]
        config: ConfigOption,
        /// Id of the knock key that the client shall have; needed where there are several
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..), value_name = "ID")]
        knock_key: Option<u16>,
        /// Name or address of this host as the client reaches it; the server id if not given
        #[arg(long, value_name = "HOST")]
        host: Option<Host>,
    },
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum OnlyKey {
    /// The server key
    Server,
    /// The knock key
    Knock,
}

/// Parses the arguments, runs the command, says what went wrong.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    crate::token::install_crypto();
    match run(cli.command) {
        Ok(exit) => exit,
        Err(error) => {
            output::talk(&format!("jpatd: {}", describe(&error)));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Init { out, interface } => offline::init(out, interface),
        Command::Run { config, trial, detach_on_exit, force } => {
            log::init();
            raise_open_files();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let options = Options { config: config.config, trial, detach_on_exit, force };
            let ended = runtime.block_on(super::run(options));
            // A look-up in the user database or of a name may still wait for its answer.
            runtime.shutdown_background();
            ended
        }
        Command::Check { config, output } => offline::check(&config.config, output.format),
        Command::Explain { config, token_file, source, at, jwks, bare, proof, output } => {
            let question = offline::Question { config: config.config, token_file, source, at, jwks, bare, proof };
            offline::explain(&question, output.format)
        }
        Command::Schema => {
            output::fact(&serde_json::to_string_pretty(&schema::schema())?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Detach { config } => offline::detach(&config.config),
        Command::Keygen { out, knock_key, only } => {
            let (server, knock) = match only {
                None => (true, Some(knock_key)),
                Some(OnlyKey::Server) => (true, None),
                Some(OnlyKey::Knock) => (false, Some(knock_key)),
            };
            offline::keygen(&out, Wanted { server, knock })
        }
        Command::ClientConfig { config, knock_key, host } => offline::client_config(&config.config, knock_key, host),
    }
}

/// Causes on one line each, without the ones that repeat what stands above them.
fn describe(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// As many descriptors as the host allows: the usual soft limit is for programs that use `select`.
fn raise_open_files() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!("the limit of open files stays as it is: {error}");
    }
}

/// Longer than nothing: a trial that is over at once would only attach and detach.
fn trial_time(text: &str) -> Result<Duration, String> {
    let time = cli::duration(text).map_err(|error| error.to_string())?;
    if time.is_zero() { Err("a trial lasts longer than 0s".to_owned()) } else { Ok(time) }
}
