//! `jpat keygen`, and the keys that `jpat issuer sign --cnf` binds tokens to.

use std::{
    io,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{CliError, FormatOption};
use crate::{
    knock::{
        proof::{ClientKey, Kind, PublicKey},
        sealed::KeyError,
    },
    output::{self, Format},
    secret_file,
};

#[derive(Args, Debug)]
pub(super) struct Options {
    /// What it signs with
    #[arg(long, value_enum, default_value_t)]
    alg: Alg,
    /// File to write the private key to, as a JWK; an existing one is never overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    output: FormatOption,
}

/// Algorithms of client keys (RFC 8037 §3.1, RFC 7518 §3.4).
#[derive(ValueEnum, Clone, Copy, Debug, Default)]
enum Alg {
    #[default]
    #[value(name = "EdDSA")]
    EdDsa,
    #[value(name = "ES256")]
    Es256,
}

/// Why a client's key cannot be made or read.
#[derive(thiserror::Error, Debug)]
pub enum KeygenError {
    /// The library failed.
    #[error("cannot make a key: {0}")]
    Key(#[from] KeyError),
    /// The file cannot be written.
    #[error("cannot write {}: {source}{}", path.display(), if source.kind() == io::ErrorKind::AlreadyExists { " (keys are never overwritten: name another file)" } else { "" })]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no key.
    #[error("{} holds no JWK of Ed25519 or P-256 (`jpat keygen` makes one; its public half will do)", .0.display())]
    NotAJwk(PathBuf),
}

pub(super) fn run(options: &Options) -> Result<(), CliError> {
    let kind = match options.alg {
        Alg::EdDsa => Kind::Ed25519,
        Alg::Es256 => Kind::P256,
    };
    let public = create(&options.out, kind)?;
    let (jwk, thumbprint) = (public.to_jwk(), public.thumbprint());
    match options.output.format {
        Format::Text => {
            output::talk(&format!("wrote the private key to {}; what follows is public", options.out.display()));
            output::fact(&jwk.to_string());
            output::fact(&format!("thumbprint {thumbprint}"));
        }
        Format::Json => output::json(json!({ "file": options.out, "public": jwk, "thumbprint": thumbprint })),
    }
    Ok(())
}

/// Makes a key and writes its private JWK.
///
/// # Errors
/// [`KeygenError::Key`], [`KeygenError::Write`].
pub(crate) fn create(out: &Path, kind: Kind) -> Result<PublicKey, KeygenError> {
    let key = ClientKey::generate(kind)?;
    let jwk = key.to_jwk()?;
    secret_file::create(out, jwk.as_bytes()).map_err(|source| KeygenError::Write { path: out.to_owned(), source })?;
    Ok(key.public().clone())
}

/// What a token's `cnf` says (RFC 7800 §3.1).
#[derive(ValueEnum, Clone, Copy, Debug, Default)]
pub(super) enum CnfForm {
    /// The key's thumbprint (RFC 9449 §6.1): the smaller one
    #[default]
    Jkt,
    /// The key itself (RFC 7800 §3.2)
    Jwk,
}

/// `cnf` for the key in a file: of a private JWK the public half alone.
pub(super) fn cnf(path: &Path, form: CnfForm) -> Result<Value, KeygenError> {
    let text = std::fs::read(path).map_err(|source| KeygenError::Read { path: path.to_owned(), source })?;
    let jwk = serde_json::from_slice::<Value>(&Zeroizing::new(text)).ok();
    let key = jwk.as_ref().and_then(PublicKey::from_jwk).ok_or_else(|| KeygenError::NotAJwk(path.to_owned()))?;
    Ok(match form {
        CnfForm::Jkt => json!({ "jkt": key.thumbprint() }),
        CnfForm::Jwk => json!({ "jwk": key.to_jwk() }),
    })
}
