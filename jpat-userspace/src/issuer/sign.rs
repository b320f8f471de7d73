//! Signs tokens.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Header;
use serde_json::{Map, Value, json};

use super::{IssuerError, keys::Key};
use crate::clock::UnixTime;

/// Claims that have a field of their own in [`Request`].
const RESERVED: [&str; 8] = ["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "cnf"];

/// What a token is to say.
#[derive(Clone, Debug)]
pub struct Request {
    /// `iss`
    pub issuer: String,
    /// `aud`: a string if there is one, an array otherwise.
    pub audience: Vec<String>,
    /// `sub`
    pub subject: String,
    /// `roles`, left out when empty.
    pub roles: Vec<String>,
    /// Further claims.
    pub claims: Map<String, Value>,
    /// `cnf` (RFC 7800 §3.1), for a token that is bound to a key.
    pub cnf: Option<Value>,
    /// `iat`
    pub issued_at: UnixTime,
    /// `exp` - `iat`
    pub ttl: Duration,
    /// `nbf` - `iat`
    pub not_before: Option<Duration>,
    /// `jti`
    pub jti: Jti,
    /// `typ` of the header.
    pub typ: String,
}

/// The token id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Jti {
    /// 128 random bits in base64url.
    Random,
    /// This one.
    Value(String),
    /// None; such a token is refused where `replay` is `once`.
    Absent,
}

/// A signed token.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The compact JWS (RFC 7515 §7.1).
    pub token: String,
    /// Its `jti`.
    pub jti: Option<String>,
    /// Its `exp`.
    pub expires: UnixTime,
}

/// Signs one token.
///
/// # Errors
/// [`IssuerError::ReservedClaim`], [`IssuerError::TooFar`], [`IssuerError::Crypto`], [`IssuerError::Sign`].
pub fn sign(key: &Key, request: &Request) -> Result<Signed, IssuerError> {
    if let Some(name) = request.claims.keys().find(|name| reserved(name, request)) {
        return Err(IssuerError::ReservedClaim(name.clone()));
    }
    let expires = request.issued_at.after(request.ttl);
    if request.issued_at.until(expires) < request.ttl {
        return Err(IssuerError::TooFar);
    }
    let mut claims = request.claims.clone();
    let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    set("iss", json!(request.issuer));
    set("sub", json!(request.subject));
    match request.audience.as_slice() {
        [one] => set("aud", json!(one)),
        several => set("aud", json!(several)),
    };
    if !request.roles.is_empty() {
        set("roles", json!(request.roles));
    }
    if let Some(cnf) = &request.cnf {
        set("cnf", cnf.clone());
    }
    set("iat", json!(request.issued_at.secs()));
    set("exp", json!(expires.secs()));
    if let Some(after) = request.not_before {
        set("nbf", json!(request.issued_at.after(after).secs()));
    }
    let jti = match &request.jti {
        Jti::Random => Some(random()?),
        Jti::Value(value) => Some(value.clone()),
        Jti::Absent => None,
    };
    if let Some(jti) = &jti {
        set("jti", json!(jti));
    }
    let header =
        Header { typ: Some(request.typ.clone()), kid: Some(key.kid().to_owned()), ..Header::new(key.alg().jwt()) };
    let token = jsonwebtoken::encode(&header, &claims, key.signing()).map_err(IssuerError::Sign)?;
    Ok(Signed { token, jti, expires: UnixTime::from_secs(expires.secs()) })
}

fn reserved(name: &str, request: &Request) -> bool {
    RESERVED.contains(&name) || (name == "roles" && !request.roles.is_empty())
}

fn random() -> Result<String, IssuerError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| IssuerError::Crypto("draw random bits"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
pub(crate) mod tests {
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;
    use crate::issuer::{Alg, TYP, keys};

    #[test]
    fn every_algorithm_verifies_with_what_is_published() {
        let dir = tempfile::tempdir().unwrap();
        for alg in Alg::ALL {
            let key = keys::generate(dir.path(), alg).unwrap();
            let signed = sign(&key, &request()).unwrap();
            let pem = key.public_pem();
            let from_pem = match alg {
                Alg::Es256 => DecodingKey::from_ec_pem(pem.as_bytes()),
                Alg::EdDsa => DecodingKey::from_ed_pem(pem.as_bytes()),
                Alg::Rs256 => DecodingKey::from_rsa_pem(pem.as_bytes()),
            };
            for public in [from_pem.unwrap(), DecodingKey::from_jwk(key.public()).unwrap()] {
                let mut validation = Validation::new(alg.jwt());
                validation.set_audience(&["jpat://lab"]);
                validation.set_issuer(&["https://tokens.example"]);
                let data = jsonwebtoken::decode::<Value>(&signed.token, &public, &validation).unwrap();
                assert_eq!(data.header.typ.as_deref(), Some(TYP));
                assert_eq!(data.header.kid.as_deref(), Some(key.kid()));
                assert_eq!(data.claims["sub"], "employee:1");
                assert_eq!(data.claims["aud"], "jpat://lab");
                assert_eq!(data.claims["roles"], json!(["a", "b"]));
                assert_eq!(data.claims["team"], json!({"name": "red"}));
                assert_eq!(data.claims["exp"], 4_000_000_300_u64);
                assert_eq!(data.claims["nbf"], 4_000_000_000_u64);
                assert_eq!(data.claims["jti"], json!(signed.jti.clone().unwrap()));
                assert_eq!(signed.expires, UnixTime::from_secs(4_000_000_300));
            }
            let length = signed.token.len();
            eprintln!("{alg}: {length} bytes");
            assert!(length <= crate::knock::MAX_PAYLOAD);
        }
    }

    #[test]
    fn token_ids_differ_and_can_be_chosen_or_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let key = keys::generate(dir.path(), Alg::EdDsa).unwrap();
        let jti = |jti| sign(&key, &Request { jti, ..request() }).unwrap().jti;
        assert_ne!(jti(Jti::Random), jti(Jti::Random));
        assert_eq!(jti(Jti::Value("x".into())), Some("x".to_owned()));
        assert_eq!(jti(Jti::Absent), None);
    }

    #[test]
    fn claims_with_an_option_of_their_own_and_endless_tokens_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let key = keys::generate(dir.path(), Alg::EdDsa).unwrap();
        for name in RESERVED.into_iter().chain(["roles"]) {
            let claims = Map::from_iter([(name.to_owned(), json!("x"))]);
            let refused = sign(&key, &Request { claims, ..request() });
            assert!(matches!(refused, Err(IssuerError::ReservedClaim(claim)) if claim == name));
        }
        assert!(matches!(sign(&key, &Request { ttl: Duration::MAX, ..request() }), Err(IssuerError::TooFar)));
    }

    /// A token of `employee:1`, for tests of what reads tokens.
    #[cfg(feature = "daemon")]
    pub(crate) fn token(key: &Key) -> String {
        sign(key, &request()).unwrap().token
    }

    fn request() -> Request {
        Request {
            issuer: "https://tokens.example".into(),
            audience: vec!["jpat://lab".into()],
            subject: "employee:1".into(),
            roles: vec!["a".into(), "b".into()],
            claims: Map::from_iter([("team".to_owned(), json!({"name": "red"}))]),
            cnf: None,
            issued_at: UnixTime::from_secs(4_000_000_000),
            ttl: Duration::from_secs(300),
            not_before: Some(Duration::ZERO),
            jti: Jti::Random,
            typ: TYP.into(),
        }
    }
}
