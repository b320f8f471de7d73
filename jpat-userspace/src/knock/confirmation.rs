//! What a token is bound to (`cnf`, RFC 7800), against the proof in the knock.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::proof::{Proof, PublicKey};
use crate::{refusal::Refusal, token::keys::strength};

impl Proof {
    /// Verifies the proof under the key that `cnf` names: one `jwk` (RFC 7800 §3.2) or one `jkt` (RFC 9449 §6.1).
    ///
    /// # Errors
    /// [`Refusal::UnknownConfirmation`] for any other member, more than one, a key or thumbprint that is none, or a private key;
    /// [`Refusal::BadProof`] where the signature does not verify, where `jkt` is not the thumbprint of the key in the knock, or
    /// where the knock lacks that key or has one beside a `jwk`.
    pub fn verify(&self, cnf: &Value) -> Result<(), Refusal> {
        let members = cnf.as_object().filter(|members| members.len() == 1).ok_or(Refusal::UnknownConfirmation)?;
        let named;
        let key = match (members.get("jwk"), members.get("jkt")) {
            (Some(jwk), None) => {
                named = public(jwk).ok_or(Refusal::UnknownConfirmation)?;
                if self.client_key.is_some() {
                    return Err(Refusal::BadProof);
                }
                &named
            }
            (None, Some(jkt)) => {
                let jkt = jkt.as_str().filter(|jkt| is_thumbprint(jkt)).ok_or(Refusal::UnknownConfirmation)?;
                let sent = self.client_key.as_ref().filter(|sent| is_strong(sent) && sent.thumbprint() == jkt);
                sent.ok_or(Refusal::BadProof)?
            }
            (None | Some(_), _) => return Err(Refusal::UnknownConfirmation),
        };
        let verified = match key {
            PublicKey::Ed25519(point) => UnparsedPublicKey::new(&ED25519, point).verify(&self.signed, &self.signature),
            PublicKey::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, [&[4], point.as_slice()].concat())
                    .verify(&self.signed, &self.signature)
            }
        };
        verified.map_err(|_unspecified| Refusal::BadProof)
    }
}

/// Whether a text is SHA-256 in canonical base64url.
fn is_thumbprint(jkt: &str) -> bool {
    URL_SAFE_NO_PAD.decode(jkt).is_ok_and(|digest| digest.len() == 32)
}

/// A public key that may be trusted; a `jwk` with a private part is refused, because it is no secret any more.
fn public(jwk: &Value) -> Option<PublicKey> {
    PublicKey::from_jwk(jwk).filter(|key| jwk.get("d").is_none() && is_strong(key))
}

/// Low-order points of Ed25519 verify what nobody signed. A point that is not on P-256 fails where it is used; here it is named.
fn is_strong(key: &PublicKey) -> bool {
    match key {
        PublicKey::Ed25519(point) => strength::ed25519(point).is_ok(),
        PublicKey::P256(point) => strength::p256(&[&[4], point.as_slice()].concat()).is_ok(),
    }
}
