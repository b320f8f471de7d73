//! A compact JWS (RFC 7515) becomes a [`VerifiedToken`], or a [`Refusal`](crate::refusal::Refusal).

pub mod jws;
pub mod json;
pub mod claims;
pub mod keys;
pub mod signature;
mod accept;
mod kept;

pub use accept::{Presented, verify};
pub use kept::KeptToken;

use std::sync::Arc;

use crate::clock::UnixTime;

/// Chooses the cryptography of `jsonwebtoken` for this process. Called by `main` and by tests before anything else; a second
/// call does nothing.
pub fn install_crypto() {
    // Refused only when it is installed already.
    let _installed = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

/// Who a token speaks for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Principal {
    /// Configured name of the issuer.
    pub issuer: Arc<str>,
    /// `sub`, empty when the token has none.
    pub subject: String,
}

impl std::fmt::Display for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.issuer, self.subject)
    }
}

/// What makes two tokens the same one: `(iss, jti)`, else SHA-256 of the signing input, never of the signature,
/// because ECDSA signatures can be altered and stay valid.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TokenId {
    /// Configured issuer name and `jti`.
    Jti(Arc<str>, Arc<str>),
    /// SHA-256 of the ASCII signing input (RFC 7515 §5.1).
    Digest([u8; 32]),
}

impl TokenId {
    /// As it is shown, without a copy where it is a `jti`.
    #[must_use]
    pub fn shown(&self) -> Arc<str> {
        match self {
            Self::Jti(_, jti) => Arc::clone(jti),
            Self::Digest(_) => self.to_string().into(),
        }
    }
}

impl std::fmt::Display for TokenId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Jti(_, jti) => f.write_str(jti),
            Self::Digest(digest) => {
                f.write_str("sha256:")?;
                digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// A token whose signature and registered claims were verified. Only this module's verifier makes one; the store gives back
/// those that it was given, for the leases that outlive a controller.
#[derive(Clone, PartialEq, Debug)]
pub struct VerifiedToken {
    principal: Arc<Principal>,
    id: Arc<TokenId>,
    expires: UnixTime,
    issued_at: Option<UnixTime>,
    header: Arc<jws::Header>,
    claims: serde_json::Value,
    /// The claims as they came.
    payload: Box<str>,
}

impl VerifiedToken {
    /// Who it speaks for.
    #[must_use]
    pub const fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// Its identity for replay protection.
    #[must_use]
    pub const fn id(&self) -> &Arc<TokenId> {
        &self.id
    }

    /// `exp`.
    #[must_use]
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }

    /// `iat`, where the token has one.
    #[must_use]
    pub const fn issued_at(&self) -> Option<UnixTime> {
        self.issued_at
    }

    /// `alg`, `kid`, `typ`: what policies may see of the header.
    #[must_use]
    pub fn header(&self) -> &jws::Header {
        &self.header
    }

    /// All claims.
    #[must_use]
    pub const fn claims(&self) -> &serde_json::Value {
        &self.claims
    }

    /// A witness without a verification, so that tests of policy and gate need no signatures.
    #[cfg(test)]
    pub(crate) fn for_tests(issuer: &str, claims: serde_json::Value) -> Self {
        let text = |name: &str| claims[name].as_str().map(str::to_owned);
        let date = |name: &str| claims[name].as_u64().map(UnixTime::from_secs);
        let id = match text("jti") {
            Some(jti) => TokenId::Jti(issuer.into(), jti.into()),
            None => TokenId::Digest([0; 32]),
        };
        Self {
            principal: Arc::new(Principal { issuer: issuer.into(), subject: text("sub").unwrap_or_default() }),
            id: Arc::new(id),
            expires: date("exp").unwrap_or_default(),
            issued_at: date("iat"),
            header: Arc::new(jws::Header { alg: Some("ES256".to_owned()), ..jws::Header::default() }),
            payload: claims.to_string().into(),
            claims,
        }
    }
}
