//! What can be wrong with keys, in words that `jpatd check` and the log show.

use jsonwebtoken::Algorithm;
use thiserror::Error;

use super::{MAX_BYTES, MAX_KEYS};
use crate::refusal::Refusal;

/// Why a source gave no keys.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum KeysError {
    /// Longer than any real key set.
    #[error("{0} bytes are more than the {MAX_BYTES} that a source of keys may have")]
    TooLarge(usize),
    /// Not the JSON that a key set is.
    #[error("not a JWK Set: {}", .0.text())]
    Json(Refusal),
    /// No `keys` array.
    #[error("not a JWK Set: there is no array `keys` (is this a single JWK? put it into {{\"keys\": [ … ]}})")]
    NoKeysMember,
    /// Too many keys.
    #[error("{0} keys are more than the {MAX_KEYS} that a JWK Set may have")]
    TooManyKeys(usize),
    /// Two usable keys with one name.
    #[error("two keys have the kid {0:?}, so that a token does not say which one it means: give each its own")]
    DuplicateKid(String),
    /// No PEM block that is a public key.
    #[error("no public key or certificate in PEM form (-----BEGIN PUBLIC KEY----- or -----BEGIN CERTIFICATE-----)")]
    NoPem,
    /// Base64 or framing is broken.
    #[error("broken PEM: {0}")]
    BrokenPem(String),
    /// More than one key in the file.
    #[error(
        "{0} keys or certificates in one PEM file: keep the issuer's alone, or use a jwks_file with a kid for each"
    )]
    SeveralPem(usize),
    /// A private key lies where a public one belongs.
    #[error(
        "the file holds a private key ({0}), which does not belong on this host: write its public half with `openssl pkey -in \
         FILE -pubout`, and take the private key for leaked if others could read it"
    )]
    PrivateKey(String),
    /// Not an X.509 certificate, version 3.
    #[error("not a certificate that can be read: {0}")]
    Certificate(String),
    /// The only key of the source cannot be used.
    #[error(transparent)]
    Unusable(#[from] KeyFault),
    /// An HMAC secret below the length of the hash.
    #[error(
        "the secret has {bytes} bytes, the configured algorithms need at least {needed}: make one with `openssl rand -base64 \
         {needed}`"
    )]
    SecretTooShort {
        /// Bytes it has.
        bytes: usize,
        /// Bytes of the longest hash.
        needed: usize,
    },
    /// A key pair's file is no secret: its public half is known to everyone.
    #[error(
        "the secret is a PEM file; a public key as an HMAC secret would let anyone sign: use pem_file and an asymmetric algorithm"
    )]
    SecretIsPem,
}

/// Why one key cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum KeyFault {
    /// A member that must be there is not, or has the wrong type or length.
    #[error("`{0}` is missing or malformed")]
    Malformed(&'static str),
    /// `kty` that JPAT does not know.
    #[error("key type {0:?} is not supported")]
    UnknownType(String),
    /// `kty` is `oct`.
    #[error("it is a shared secret, which is never taken from a key set (use secret_file)")]
    Symmetric,
    /// Private members are present.
    #[error(
        "PRIVATE KEY PUBLISHED: it holds the private member `{0}`; whoever can read the key set can sign tokens: replace it"
    )]
    Private(&'static str),
    /// `use` is not `sig`.
    #[error("it is not for signatures (`use` is {0:?})")]
    NotForSignatures(String),
    /// `key_ops` without `verify`.
    #[error("`key_ops` does not contain \"verify\"")]
    NotForVerification,
    /// `alg` is none that JPAT can do, or none for this type of key.
    #[error("its `alg` {alg:?} is not one for {kind} keys that is supported")]
    WrongAlgorithm {
        /// As the key has it.
        alg: String,
        /// Kind of key.
        kind: &'static str,
    },
    /// The configuration does not allow what the key is for.
    #[error("no algorithm of the configuration ({configured}) is for this {kind} key")]
    NotConfigured {
        /// Kind of key, or its `alg`.
        kind: &'static str,
        /// Configured algorithms.
        configured: String,
    },
    /// The key's own `alg` is not configured.
    #[error("it is for {alg} alone, which is not among the configured algorithms ({configured})")]
    AlgNotConfigured {
        /// As the key has it.
        alg: String,
        /// Configured algorithms.
        configured: String,
    },
    /// `crv` that JPAT does not know.
    #[error("curve {0:?} is not supported (P-256, P-384 and Ed25519 are)")]
    UnknownCurve(String),
    /// Not a point of its curve.
    #[error("it is not a point on the curve {0}")]
    NotOnCurve(&'static str),
    /// A point of order 1, 2, 4 or 8: signatures under it can be made without a private key.
    #[error("it is an Ed25519 point of low order, under which anyone can sign")]
    LowOrder,
    /// RSA modulus of the wrong size.
    #[error("RSA with {0} bits: 2048 to 8192 are accepted")]
    RsaSize(usize),
    /// RSA exponent that is even, or out of range.
    #[error("the RSA exponent must be odd, 65537 or more, and below 2^33")]
    RsaExponent,
    /// RSA modulus that is even, or that the library refuses.
    #[error("the RSA modulus is not a product of two odd primes")]
    RsaModulus,
    /// The fingerprint of a flawed generator (CVE-2017-15361).
    #[error("the RSA key has the ROCA fingerprint (CVE-2017-15361): its private key can be computed; replace it")]
    Roca,
    /// A public key of a type that JPAT does not know.
    #[error("it is not an RSA, P-256, P-384 or Ed25519 public key")]
    UnknownKey,
}

/// Names of algorithms for a message.
pub(super) fn names(algorithms: &[Algorithm]) -> String {
    algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect::<Vec<_>>().join(", ")
}
