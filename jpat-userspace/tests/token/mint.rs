//! Keys made for a test, and tokens signed with them; headers and claims are raw text, so that anything can be said twice or wrongly.

use std::sync::OnceLock;

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jpat_userspace::token::install_crypto;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

/// A private key, and its public half in every form.
pub(crate) struct Signer {
    pub(crate) algorithm: Algorithm,
    pub(crate) key: EncodingKey,
    /// Public JWK without `kid`, `alg` and `use`.
    pub(crate) jwk: Value,
    /// SubjectPublicKeyInfo in PEM.
    pub(crate) public_pem: String,
    /// PKCS#8 in PEM.
    pub(crate) private_pem: String,
}

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn unb64(text: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap()
}

pub(crate) fn pem_text(tag: &str, der: &[u8]) -> String {
    pem::encode(&pem::Pem::new(tag, der))
}

impl Signer {
    pub(crate) fn es256() -> Self {
        let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private.as_ref()).unwrap();
        Self::elliptic(Algorithm::ES256, "P-256", private.as_ref(), &pair)
    }

    pub(crate) fn es384() -> Self {
        let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, private.as_ref()).unwrap();
        Self::elliptic(Algorithm::ES384, "P-384", private.as_ref(), &pair)
    }

    fn elliptic(algorithm: Algorithm, crv: &str, private: &[u8], pair: &EcdsaKeyPair) -> Self {
        let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
        Self {
            algorithm,
            key: EncodingKey::from_ec_der(private),
            jwk: json!({ "kty": "EC", "crv": crv, "x": b64(x), "y": b64(y) }),
            public_pem: pem_text("PUBLIC KEY", pair.public_key().as_der().unwrap().as_ref()),
            private_pem: pem_text("PRIVATE KEY", private),
        }
    }

    pub(crate) fn ed25519() -> Self {
        let private = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(private.as_ref()).unwrap();
        Self {
            algorithm: Algorithm::EdDSA,
            key: EncodingKey::from_ed_der(private.as_ref()),
            jwk: json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key()) }),
            public_pem: pem_text("PUBLIC KEY", pair.public_key().as_der().unwrap().as_ref()),
            private_pem: pem_text("PRIVATE KEY", private.as_ref()),
        }
    }

    /// The same 2048-bit key for every test: making one takes long.
    pub(crate) fn rsa(algorithm: Algorithm) -> Self {
        static PAIR: OnceLock<KeyPair> = OnceLock::new();
        let pair = PAIR.get_or_init(|| KeyPair::generate(KeySize::Rsa2048).unwrap());
        let private_pem = pem_text("PRIVATE KEY", pair.as_der().unwrap().as_ref());
        let public = pair.public_key();
        let modulus = public.modulus().big_endian_without_leading_zero().to_vec();
        Self {
            algorithm,
            key: EncodingKey::from_rsa_pem(private_pem.as_bytes()).unwrap(),
            jwk: json!({ "kty": "RSA", "n": b64(modulus), "e": "AQAB" }),
            public_pem: pem_text("PUBLIC KEY", public.as_der().unwrap().as_ref()),
            private_pem,
        }
    }

    pub(crate) fn secret(algorithm: Algorithm, secret: &[u8]) -> Self {
        Self {
            algorithm,
            key: EncodingKey::from_secret(secret),
            jwk: json!({ "kty": "oct", "k": b64(secret) }),
            public_pem: String::new(),
            private_pem: String::new(),
        }
    }

    /// Its public JWK with more members.
    pub(crate) fn jwk_with(&self, more: Value) -> Value {
        let mut jwk = self.jwk.clone();
        jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        jwk
    }

    /// A compact JWS over whatever is given.
    pub(crate) fn sign(&self, header: &[u8], payload: &[u8]) -> String {
        install_crypto();
        let signing_input = format!("{}.{}", b64(header), b64(payload));
        let signature = jsonwebtoken::crypto::sign(signing_input.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{signing_input}.{signature}")
    }
}

/// Members of a JSON object as text, in order.
#[derive(Clone)]
pub(crate) struct Members(Vec<(String, String)>);

impl Members {
    pub(crate) fn of(members: &[(&str, &str)]) -> Self {
        Self(members.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// With this member, in place of one of the same name.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.also(name, value)
    }

    /// With this member, whatever is there already.
    pub(crate) fn also(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(other, _)| other != name);
        self
    }

    pub(crate) fn text(&self) -> String {
        let members: Vec<_> = self.0.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
        format!("{{{}}}", members.join(","))
    }
}
