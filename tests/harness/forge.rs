//! An issuer that signs whatever it is told, well-formed or not: keys, the JWK Set of their public halves, and
//! compact JWS with any header and any claims.

use anyhow::{Context, Result, anyhow, bail, ensure};
use aws_lc_rs::{
    encoding::AsDer,
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

/// A signing key.
#[derive(Debug)]
pub struct Key {
    kid: String,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Box<Ed25519KeyPair>),
    Rs256(RsaKeyPair),
    Hs256(Box<[u8; 32]>),
}

impl Key {
    /// An ES256 key (RFC 7518 §3.4).
    ///
    /// # Errors
    /// If none can be made.
    pub fn es256(kid: &str) -> Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).context("make an ES256 key")?;
        Ok(Self { kid: kid.to_owned(), pair: Pair::Es256(pair) })
    }

    /// An Ed25519 key (RFC 8037 §3.1).
    ///
    /// # Errors
    /// If none can be made.
    pub fn eddsa(kid: &str) -> Result<Self> {
        let pair = Ed25519KeyPair::generate().context("make an Ed25519 key")?;
        Ok(Self { kid: kid.to_owned(), pair: Pair::EdDsa(Box::new(pair)) })
    }

    /// An RS256 key of 2048 bits (RFC 7518 §3.3).
    ///
    /// # Errors
    /// If none can be made.
    pub fn rs256(kid: &str) -> Result<Self> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).context("make an RSA key")?;
        Ok(Self { kid: kid.to_owned(), pair: Pair::Rs256(pair) })
    }

    /// A shared secret for HS256 (RFC 7518 §3.2).
    ///
    /// # Errors
    /// Without randomness.
    pub fn hs256(kid: &str) -> Result<Self> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).context("make a secret")?;
        Ok(Self { kid: kid.to_owned(), pair: Pair::Hs256(secret.into()) })
    }

    /// Its `alg`.
    #[must_use]
    pub const fn alg(&self) -> &'static str {
        match self.pair {
            Pair::Es256(_) => "ES256",
            Pair::EdDsa(_) => "EdDSA",
            Pair::Rs256(_) => "RS256",
            Pair::Hs256(_) => "HS256",
        }
    }

    /// The public half as a JWK (RFC 7517 §4).
    ///
    /// # Errors
    /// If the library's encoding is not the one that the standards give; for a shared secret, which has none.
    pub fn jwk(&self) -> Result<Value> {
        let mut jwk = match &self.pair {
            Pair::Es256(pair) => {
                // SEC 1 §2.3.3, uncompressed: 4, x, y.
                let point = pair.public_key().as_ref();
                ensure!(point.len() == 65, "an uncompressed P-256 point has 65 bytes");
                json!({ "kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..]) })
            }
            Pair::EdDsa(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref()) }),
            Pair::Rs256(pair) => {
                // RFC 8017 §A.1.1: SEQUENCE { INTEGER n, INTEGER e }; of 2048 bits n starts at byte 9, e is 65537.
                let der = pair.public_key().as_ref();
                let modulus = der.get(9..265).ok_or_else(|| anyhow!("an RSA key of 2048 bits has 270 bytes"))?;
                ensure!(der.ends_with(&[2, 3, 1, 0, 1]), "e is not 65537");
                json!({ "kty": "RSA", "n": encode(modulus), "e": "AQAB" })
            }
            Pair::Hs256(_) => bail!("a shared secret has no public half"),
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.alg());
        jwk["use"] = json!("sig");
        Ok(jwk)
    }

    /// The shared secret.
    ///
    /// # Errors
    /// For keys of other kinds.
    pub fn secret(&self) -> Result<&[u8]> {
        match &self.pair {
            Pair::Hs256(secret) => Ok(&**secret),
            Pair::Es256(_) | Pair::EdDsa(_) | Pair::Rs256(_) => bail!("not a shared secret"),
        }
    }

    /// The public half of an RSA key in PEM (SubjectPublicKeyInfo), as an attacker would use it for confusion.
    ///
    /// # Errors
    /// For keys of other kinds.
    pub fn public_pem(&self) -> Result<String> {
        let Pair::Rs256(pair) = &self.pair else { bail!("not an RSA key") };
        let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der()?;
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        Ok(format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n")))
    }

    /// The usual header: `alg`, `kid`, `typ`.
    #[must_use]
    pub fn header(&self) -> Value {
        json!({ "alg": self.alg(), "kid": self.kid, "typ": "JWT" })
    }

    /// A token with the usual header.
    ///
    /// # Errors
    /// If signing fails.
    pub fn token(&self, claims: &Value) -> Result<String> {
        self.sign(self.header().to_string().as_bytes(), claims.to_string().as_bytes())
    }

    /// A compact JWS over any two byte strings.
    ///
    /// # Errors
    /// If signing fails.
    pub fn sign(&self, header: &[u8], payload: &[u8]) -> Result<String> {
        let input = format!("{}.{}", encode(header), encode(payload));
        let signature = self.signature(input.as_bytes())?;
        Ok(format!("{input}.{}", encode(&signature)))
    }

    fn signature(&self, input: &[u8]) -> Result<Vec<u8>> {
        let random = SystemRandom::new();
        Ok(match &self.pair {
            Pair::Es256(pair) => pair.sign(&random, input)?.as_ref().to_vec(),
            Pair::EdDsa(pair) => pair.sign(input).as_ref().to_vec(),
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, input, &mut signature)?;
                signature
            }
            Pair::Hs256(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &**secret), input).as_ref().to_vec(),
        })
    }
}

/// The JWK Set (RFC 7517 §5) of these keys.
///
/// # Errors
/// As [`Key::jwk`].
pub fn jwks(keys: &[&Key]) -> Result<Value> {
    let keys = keys.iter().map(|key| key.jwk()).collect::<Result<Vec<_>>>()?;
    Ok(json!({ "keys": keys }))
}

/// base64url without padding (RFC 7515 §2).
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
