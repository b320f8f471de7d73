//! Verification keys: each bound to the algorithms it may be used with (RFC 8725 §3.1), weak ones refused when they are read.

pub mod error;
pub mod jwk;
pub mod pem;
pub mod strength;

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

pub use self::{
    error::{KeyFault, KeysError},
    jwk::Ignored,
};
use crate::refusal::Refusal;

/// Most bytes of a source of keys.
pub const MAX_BYTES: usize = 256 * 1024;
/// Most keys of a JWK Set.
pub const MAX_KEYS: usize = 64;

/// The keys of one issuer.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
    /// Set for sources that hold one key and cannot name it: then a token's `kid` selects nothing.
    any_kid: bool,
}

/// One public key, or one shared secret. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct VerificationKey {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// What a key is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// RSA: RS256 to RS512 and PS256 to PS512.
    Rsa,
    /// NIST P-256: ES256.
    P256,
    /// NIST P-384: ES384.
    P384,
    /// Ed25519: EdDSA.
    Ed25519,
    /// A shared secret: HS256 to HS512.
    Secret,
}

impl Kind {
    /// Whether a key of this kind can be used with an algorithm (RFC 7518 §3.1, RFC 8037 §3.1).
    #[must_use]
    pub fn fits(self, algorithm: Algorithm) -> bool {
        match self {
            Self::Rsa => algorithm.family() == AlgorithmFamily::Rsa,
            Self::P256 => algorithm == Algorithm::ES256,
            Self::P384 => algorithm == Algorithm::ES384,
            Self::Ed25519 => algorithm == Algorithm::EdDSA,
            Self::Secret => algorithm.family() == AlgorithmFamily::Hmac,
        }
    }

    /// Its name in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rsa => "RSA",
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::Ed25519 => "Ed25519",
            Self::Secret => "HMAC",
        }
    }
}

impl KeySet {
    /// Reads a JWK Set (RFC 7517 §5). A key that cannot be used is left out and reported; the set may end up empty.
    ///
    /// # Errors
    /// [`KeysError`] when it is no JWK Set, is larger than it may be, or names two usable keys alike.
    pub fn from_jwks(bytes: &[u8], algorithms: &[Algorithm]) -> Result<(Self, Vec<Ignored>), KeysError> {
        let (keys, ignored) = jwk::read(bytes, algorithms)?;
        Ok((Self { keys, any_kid: false }, ignored))
    }

    /// Reads one public key (SubjectPublicKeyInfo or PKCS#1) or certificate in PEM (RFC 7468). Of a certificate only the key
    /// counts: neither its dates nor its issuer are looked at.
    ///
    /// # Errors
    /// [`KeysError`], also when the file holds a private key or several keys.
    pub fn from_pem(bytes: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeysError> {
        Ok(Self { keys: vec![pem::read(bytes, algorithms)?], any_kid: true })
    }

    /// Takes a shared secret as it lies in its file; one trailing line end is not part of it.
    ///
    /// # Errors
    /// [`KeysError`] when it is shorter than the longest hash it is used with (RFC 7518 §3.2, RFC 8725 §3.5), or looks like a
    /// PEM file.
    pub fn from_secret(bytes: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeysError> {
        let secret = bytes.strip_suffix(b"\n").map_or(bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
        if secret.len() > MAX_BYTES {
            return Err(KeysError::TooLarge(secret.len()));
        }
        if secret.trim_ascii_start().starts_with(b"-----BEGIN ") {
            return Err(KeysError::SecretIsPem);
        }
        let algorithms = usable(Kind::Secret, algorithms)?;
        let needed = algorithms.iter().map(|algorithm| hash_len(*algorithm)).max().unwrap_or(usize::MAX);
        if secret.len() < needed {
            return Err(KeysError::SecretTooShort { bytes: secret.len(), needed });
        }
        let key = VerificationKey { kid: None, algorithms, key: DecodingKey::from_secret(secret) };
        Ok(Self { keys: vec![key], any_kid: true })
    }

    /// The key for a token: by `kid` where the token has one and the source names its keys, else the only one that fits.
    ///
    /// # Errors
    /// [`Refusal::NoKeys`], [`Refusal::UnknownKid`], [`Refusal::AmbiguousKey`], [`Refusal::KeyMismatch`].
    pub fn select(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&VerificationKey, Refusal> {
        if self.keys.is_empty() {
            return Err(Refusal::NoKeys);
        }
        if let Some(kid) = kid.filter(|_| !self.any_kid) {
            let named = self.keys.iter().find(|key| key.kid.as_deref() == Some(kid)).ok_or(Refusal::UnknownKid)?;
            return if named.algorithms.contains(&algorithm) { Ok(named) } else { Err(Refusal::KeyMismatch) };
        }
        let mut fitting = self.keys.iter().filter(|key| key.algorithms.contains(&algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(Refusal::AmbiguousKey),
            (None, _) => Err(Refusal::KeyMismatch),
        }
    }

    /// Every key, in the order of its source.
    #[must_use]
    pub fn keys(&self) -> &[VerificationKey] {
        &self.keys
    }
}

impl VerificationKey {
    /// Its name, where its source has one.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// What it may be used with; never empty.
    #[must_use]
    pub fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// Verifies one signature (base64url) over bytes.
    ///
    /// # Errors
    /// [`Refusal::KeyMismatch`] when the key is not for that algorithm, [`Refusal::BadSignature`].
    pub fn verify(&self, algorithm: Algorithm, signing_input: &[u8], signature: &str) -> Result<(), Refusal> {
        if !self.algorithms.contains(&algorithm) {
            return Err(Refusal::KeyMismatch);
        }
        match jsonwebtoken::crypto::verify(signature, signing_input, &self.key, algorithm) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Refusal::BadSignature),
        }
    }
}

/// The configured algorithms that a key of this kind fits.
fn usable(kind: Kind, configured: &[Algorithm]) -> Result<Vec<Algorithm>, KeyFault> {
    let fitting: Vec<_> = configured.iter().copied().filter(|algorithm| kind.fits(*algorithm)).collect();
    if fitting.is_empty() {
        return Err(KeyFault::NotConfigured { kind: kind.as_str(), configured: error::names(configured) });
    }
    Ok(fitting)
}

/// Bytes of the hash that an HMAC algorithm uses; unlimited for what is none, so that nothing is long enough.
fn hash_len(algorithm: Algorithm) -> usize {
    const LENGTHS: [(Algorithm, usize); 3] = [(Algorithm::HS256, 32), (Algorithm::HS384, 48), (Algorithm::HS512, 64)];
    LENGTHS.iter().find(|(hmac, _)| *hmac == algorithm).map_or(usize::MAX, |(_, bytes)| *bytes)
}
