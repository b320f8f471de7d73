//! The signature step: which algorithm, which key, and the verification itself.

use jsonwebtoken::Algorithm;

use super::{
    jws::{Header, Parts},
    keys::KeySet,
};
use crate::refusal::Refusal;

/// The algorithm that a header names, if it is one of those allowed (RFC 8725 §3.1).
///
/// # Errors
/// [`Refusal::AlgNotAllowed`].
pub fn algorithm(header: &Header, allowed: &[Algorithm]) -> Result<Algorithm, Refusal> {
    let named = header.alg.as_deref().and_then(|alg| alg.parse().ok());
    named.filter(|alg| allowed.contains(alg)).ok_or(Refusal::AlgNotAllowed)
}

/// Verifies a compact JWS whose payload may be anything, by the steps that a token goes through, and returns the payload.
///
/// # Errors
/// What [`Parts::split`], [`Header::read`], [`algorithm`], [`KeySet::select`] and the verification refuse.
pub fn verify_jws(token: &str, keys: &KeySet, allowed: &[Algorithm]) -> Result<Vec<u8>, Refusal> {
    let parts = Parts::split(token)?;
    let header = Header::read(parts.header)?;
    let algorithm = algorithm(&header, allowed)?;
    let key = keys.select(header.kid.as_deref(), algorithm)?;
    key.verify(algorithm, parts.signing_input.as_bytes(), parts.signature)?;
    Ok(parts.payload)
}
