//! One public key or certificate in PEM.

use aws_lc_rs::{
    rsa::PublicKey,
    signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey},
};
use jsonwebtoken::{Algorithm, DecodingKey};
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::{
    Kind, MAX_BYTES, VerificationKey,
    error::{KeyFault, KeysError},
    strength, usable,
};

pub(super) fn read(bytes: &[u8], configured: &[Algorithm]) -> Result<VerificationKey, KeysError> {
    if bytes.len() > MAX_BYTES {
        return Err(KeysError::TooLarge(bytes.len()));
    }
    let blocks = pem::parse_many(bytes).map_err(|error| KeysError::BrokenPem(error.to_string()))?;
    if let Some(private) = blocks.iter().find(|block| block.tag().ends_with("PRIVATE KEY")) {
        return Err(KeysError::PrivateKey(private.tag().to_owned()));
    }
    let mut public =
        blocks.iter().filter(|block| matches!(block.tag(), "PUBLIC KEY" | "RSA PUBLIC KEY" | "CERTIFICATE"));
    let block = match (public.next(), public.count()) {
        (None, _) => return Err(KeysError::NoPem),
        (Some(block), 0) => block,
        (Some(_), others) => return Err(KeysError::SeveralPem(1 + others)),
    };
    let (kind, key) = if block.tag() == "CERTIFICATE" {
        let certificate = CertificateDer::from(block.contents());
        let certificate =
            EndEntityCert::try_from(&certificate).map_err(|error| KeysError::Certificate(error.to_string()))?;
        public_key(&certificate.subject_public_key_info())?
    } else {
        public_key(block.contents())?
    };
    Ok(VerificationKey { kid: None, algorithms: usable(kind, configured)?, key })
}

/// The library tells the types apart: each of its parsers takes its own alone. They take bare points too, which PEM must not hold:
/// 32 bytes of anything would pass for an Ed25519 key.
fn public_key(der: &[u8]) -> Result<(Kind, DecodingKey), KeyFault> {
    const SEQUENCE: u8 = 0x30;
    const BARE_ED25519: usize = 32;
    if der.first() != Some(&SEQUENCE) || der.len() == BARE_ED25519 {
        return Err(KeyFault::UnknownKey);
    }
    if let Ok(rsa) = PublicKey::from_der(der) {
        let (modulus, exponent) = (rsa.modulus(), rsa.exponent());
        let (modulus, exponent) =
            (modulus.big_endian_without_leading_zero(), exponent.big_endian_without_leading_zero());
        strength::rsa(modulus, exponent)?;
        return Ok((Kind::Rsa, DecodingKey::from_rsa_raw_components(modulus, exponent)));
    }
    if ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, der).is_ok() {
        return Ok((Kind::P256, DecodingKey::from_ec_der(der)));
    }
    if ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, der).is_ok() {
        return Ok((Kind::P384, DecodingKey::from_ec_der(der)));
    }
    if ParsedPublicKey::new(&ED25519, der).is_ok() {
        strength::ed25519(der)?;
        return Ok((Kind::Ed25519, DecodingKey::from_ed_der(der)));
    }
    Err(KeyFault::UnknownKey)
}
