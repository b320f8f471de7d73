//! `jpat issuer`

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    CliError, FormatOption, Later, block_on, duration,
    keygen::{self, CnfForm},
};
use crate::{
    client,
    clock::{self, UnixTime},
    issuer::{
        Alg, IssuerError, TYP,
        keys::{self, Key},
        serve, sign,
    },
    output::{self, Format},
};

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Make, list, publish and remove signing keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Sign a token and print it
    Sign(Box<SignOptions>),
    /// Publish the keys over HTTP, with discovery
    Serve(ServeOptions),
    /// Verify a token (not available in this version)
    #[command(hide = true)]
    Verify(Later),
}

#[derive(Subcommand, Debug)]
pub(super) enum KeysCommand {
    /// Make a key; from now on it signs, and older ones stay published
    Generate {
        #[command(flatten)]
        dir: Dir,
        /// What it signs with
        #[arg(long, value_enum, default_value_t)]
        alg: Alg,
        #[command(flatten)]
        output: FormatOption,
    },
    /// List the keys, oldest first
    List {
        #[command(flatten)]
        dir: Dir,
        #[command(flatten)]
        output: FormatOption,
    },
    /// Print the public keys as a JWK Set (RFC 7517)
    Jwks {
        #[command(flatten)]
        dir: Dir,
    },
    /// Print one public key as PEM: the newest, or the one with --kid
    Pem {
        #[command(flatten)]
        dir: Dir,
        /// Which key
        #[arg(long, allow_hyphen_values = true)]
        kid: Option<String>,
    },
    /// Delete a key; tokens that it signed end at verifiers with their next refresh
    Remove {
        #[command(flatten)]
        dir: Dir,
        /// Which key
        #[arg(allow_hyphen_values = true)]
        kid: String,
    },
}

#[derive(Args, Debug)]
pub(super) struct Dir {
    /// Directory of the private keys
    #[arg(long, env = "JPAT_ISSUER_DIR", value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct SignOptions {
    #[command(flatten)]
    dir: Dir,
    /// `iss`, exactly as verifiers have it configured
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// `aud`; may be given several times
    #[arg(long, required = true, value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// `sub`
    #[arg(long)]
    subject: String,
    /// One entry of `roles`; may be given several times
    #[arg(long)]
    role: Vec<String>,
    /// A further claim, its value in JSON: --claim 'team="red"'
    #[arg(long, value_parser = claim, value_name = "NAME=JSON")]
    claim: Vec<(String, Value)>,
    /// Bind the token to the key in this file, a JWK of `jpat keygen` or its public half: it opens with a proof alone
    #[arg(long, value_name = "FILE")]
    cnf: Option<PathBuf>,
    /// How the token names that key
    #[arg(long, value_enum, default_value_t, requires = "cnf", value_name = "FORM")]
    cnf_form: CnfForm,
    /// Life of the token
    #[arg(long, default_value = "5m", value_parser = duration, value_name = "TIME")]
    ttl: Duration,
    /// `jti`: auto (random), none, or a value
    #[arg(long, default_value = "auto")]
    jti: String,
    /// Set `nbf`, this long after `iat`
    #[arg(long, value_parser = duration, value_name = "TIME", num_args = 0..=1, default_missing_value = "0s")]
    not_before: Option<Duration>,
    /// `iat`: sign as if at this moment (RFC 3339) instead of now
    #[arg(long, value_parser = moment, value_name = "TIME")]
    at: Option<UnixTime>,
    /// Sign with this key instead of the newest
    #[arg(long, allow_hyphen_values = true)]
    kid: Option<String>,
    /// `typ` of the header
    #[arg(long, default_value = TYP)]
    typ: String,
    #[command(flatten)]
    output: FormatOption,
}

#[derive(Args, Debug)]
pub(super) struct ServeOptions {
    #[command(flatten)]
    dir: Dir,
    /// Where to listen; plain HTTP, so a proxy with a certificate belongs in front of anything but loopback
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// `iss` of the tokens, and where verifiers find this server; http://ADDRESS if not given
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
}

pub(super) fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Keys(command) => run_keys(command),
        Command::Sign(options) => run_sign(*options),
        Command::Serve(options) => run_serve(options),
        Command::Verify(later) => later.refuse("`jpat issuer verify` is", "; see `jpatd explain`"),
    }
}

fn run_keys(command: KeysCommand) -> Result<(), CliError> {
    match command {
        KeysCommand::Generate { dir, alg, output } => show(&[keys::generate(&dir.dir, alg)?], output.format),
        KeysCommand::List { dir, output } => show(&keys::load(&dir.dir)?, output.format),
        KeysCommand::Jwks { dir } => {
            let set = serde_json::to_value(keys::jwks(&keys::load(&dir.dir)?)).unwrap_or_default();
            output::fact(&format!("{set:#}"));
        }
        KeysCommand::Pem { dir, kid } => output::fact(&keys::choose(&dir.dir, kid.as_deref())?.public_pem()),
        KeysCommand::Remove { dir, kid } => {
            let path = keys::remove(&dir.dir, &kid)?;
            output::fact(&format!("removed {}", path.display()));
        }
    }
    Ok(())
}

fn show(keys: &[Key], format: Format) {
    match format {
        Format::Text => {
            for key in keys {
                output::fact(&format!("{}  {:5}  {}", key.kid(), key.alg().as_str(), key.path().display()));
            }
        }
        Format::Json => output::json(json!({
            "keys": keys
                .iter()
                .map(|key| json!({ "kid": key.kid(), "alg": key.alg().as_str(), "file": key.path() }))
                .collect::<Vec<_>>(),
        })),
    }
}

fn run_sign(options: SignOptions) -> Result<(), CliError> {
    let key = keys::choose(&options.dir.dir, options.kid.as_deref())?;
    let now = clock::now().unix;
    let signed = sign::sign(
        &key,
        &sign::Request {
            issuer: options.issuer,
            audience: options.audience,
            subject: options.subject,
            roles: options.role,
            claims: Map::from_iter(options.claim),
            cnf: options.cnf.map(|path| keygen::cnf(&path, options.cnf_form)).transpose()?,
            issued_at: options.at.unwrap_or(now),
            ttl: options.ttl,
            not_before: options.not_before,
            jti: match options.jti.as_str() {
                "auto" => sign::Jti::Random,
                "none" => sign::Jti::Absent,
                value => sign::Jti::Value(value.to_owned()),
            },
            typ: options.typ,
        },
    )?;
    let (sizes, max) = (client::sealed::sizes(&signed.token, now), crate::knock::MAX_PAYLOAD);
    match sizes.sealed {
        Some(sealed) if sealed > max => output::talk(&format!(
            "warning: no knock can carry the token: bare it takes {} bytes, sealed about {sealed}, and {max} fit",
            sizes.bare
        )),
        Some(sealed) if sizes.bare > max => output::talk(&format!(
            "warning: the token has {} bytes, and a bare knock carries at most {max}; a sealed one takes about {sealed}",
            sizes.bare
        )),
        Some(_) | None => {}
    }
    match options.output.format {
        Format::Text => output::fact(&signed.token),
        Format::Json => output::json(json!({
            "token": signed.token, "kid": key.kid(), "jti": signed.jti, "expires": signed.expires.to_string(),
        })),
    }
    Ok(())
}

fn run_serve(options: ServeOptions) -> Result<(), CliError> {
    block_on(async {
        let failed = |source| IssuerError::Listen { address: options.listen, source };
        let mut terminate = signal(SignalKind::terminate()).map_err(IssuerError::Serve)?;
        let listener = tokio::net::TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let issuer = options.issuer.unwrap_or_else(|| format!("http://{address}"));
        let app = serve::router(&issuer, &options.dir.dir, |error| output::talk(&format!("warning: {error}")))?;
        output::fact(&format!("issuer {issuer} on http://{address}; Ctrl-C ends it"));
        let shutdown = async move {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        };
        serve::serve(listener, app, shutdown).await
    })?
    .map_err(CliError::from)
}

fn claim(text: &str) -> Result<(String, Value), ClaimError> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or(ClaimError::Syntax)?;
    match serde_json::from_str(value) {
        Ok(value) => Ok((name.to_owned(), value)),
        Err(_) => Err(ClaimError::NotJson { name: name.to_owned(), value: value.to_owned() }),
    }
}

#[derive(thiserror::Error, Debug)]
enum ClaimError {
    #[error("expected NAME=JSON")]
    Syntax,
    #[error("the value is no JSON; for a string write '{name}=\"{value}\"'")]
    NotJson { name: String, value: String },
}

fn moment(text: &str) -> Result<UnixTime, MomentError> {
    let time: jiff::Timestamp = text.parse().map_err(|_syntax| MomentError)?;
    u64::try_from(time.as_second()).map(UnixTime::from_secs).map_err(|_before_1970| MomentError)
}

#[derive(thiserror::Error, Debug)]
#[error("expected a moment after 1970 such as 2026-11-22T12:00:00Z")]
struct MomentError;
