//! A token, from the datagram to the witness. An input is a datagram, or, where it holds a zero byte, a header and a payload with
//! that byte between them, to be signed: a search would never find a signature.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jpat_userspace::{
    clock::{BootTime, Now, UnixTime},
    config::Config,
    keyring::{Held, KeyRing},
    knock::{Form, MAX_PAYLOAD, bare},
    token::{
        self, VerifiedToken,
        claims::{Claims, MAX_JTI, MAX_SUB},
        install_crypto,
        jws::{Header, MAX_KID, Parts},
        keys::KeySet,
    },
    verify::{Denied, NoRecord},
};
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value, json};

/// 2023-11-14T22:13:20Z.
const NOW: Now = Now { boot: BootTime(1_000_000_000_000), unix: UnixTime(1_700_000_000_000_000_000) };
const ISSUER: &str = "https://idp.example";
const AUDIENCE: &str = "jpat://test";
const KID: &str = "k1";
const SEED: [u8; 32] = [7; 32];
const LEEWAY: Duration = Duration::from_secs(10);
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

const CONFIG: &str = r#"
mode = "enforce"
[[issuer]]
name = "bound"
issuer = "https://idp.example"
audience = ["jpat://test"]
algorithms = ["EdDSA"]
keys = { discovery = true }
accept = ["bare"]
[[issuer]]
name = "once"
issuer = "https://once.example"
audience = ["jpat://test"]
algorithms = ["EdDSA"]
keys = { discovery = true }
accept = ["bare"]
replay = "once"
[[service]]
name = "web"
issuers = ["bound", "once"]
ports = ["tcp/8443"]
allow = "true"
ttl = "30s"
"#;

struct World {
    config: Config,
    keys: KeyRing,
    pair: Ed25519KeyPair,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    install_crypto();
    let pair = Ed25519KeyPair::from_seed_unchecked(&SEED).expect("32 bytes are a seed");
    let x = URL_SAFE_NO_PAD.encode(pair.public_key());
    let jwks = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": KID, "x": x }] }).to_string();
    let (keys, _) = KeySet::from_jwks(jwks.as_bytes(), &[Algorithm::EdDSA]).expect("a key set");
    let held = Held { keys: Arc::new(keys), fetched: NOW.unix };
    let keys = KeyRing::default().with("bound", held.clone()).with("once", held);
    let path = Path::new("/nonexistent/jpat.toml");
    let (config, _) = Config::from_text(path, CONFIG.to_owned()).expect("a configuration");
    World { config, keys, pair }
});

/// The datagram, or the two parts, are what was found.
pub fn fuzz(data: &[u8]) {
    datagram(data);
    if let Some(at) = data.iter().position(|byte| *byte == 0) {
        signed(&data[..at], &data[at + 1..]);
    }
}

/// The token of a header and a payload, signed by the key of both issuers.
#[must_use]
pub fn sign(header: &[u8], payload: &[u8]) -> String {
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = URL_SAFE_NO_PAD.encode(WORLD.pair.sign(input.as_bytes()));
    format!("{input}.{signature}")
}

fn verify(token: &str, now: Now) -> Result<VerifiedToken, Box<Denied>> {
    let World { config, keys, .. } = &*WORLD;
    token::verify(token, Form::Bare, config, keys, now, &mut NoRecord).map(|(token, _)| token).map_err(Box::new)
}

fn datagram(data: &[u8]) {
    let Ok(token) = bare::decode(data) else { return };
    let end = data.strip_prefix(token.as_bytes()).expect("the token is what the datagram begins with");
    assert!(matches!(end, b"" | b"\n" | b"\r\n"), "{end:?} behind the token");
    assert!(token.len() <= MAX_PAYLOAD && token.bytes().filter(|byte| *byte == b'.').count() == 2);
    assert_eq!(bare::encode(token), Ok(token.as_bytes()), "what is taken can be sent");
    let Ok(parts) = Parts::split(token) else { return assert!(verify(token, NOW).is_err()) };
    let raw = URL_SAFE_NO_PAD.decode(parts.header).expect("base64url was checked");
    let [header, payload] = [&raw, &parts.payload].map(|part| URL_SAFE_NO_PAD.encode(part));
    assert_eq!(parts.signing_input, format!("{header}.{payload}"), "a second spelling");
    assert_eq!(token, format!("{}.{}", parts.signing_input, parts.signature));
    let signature = URL_SAFE_NO_PAD.decode(parts.signature).expect("base64url was checked");
    assert_eq!(parts.signature, URL_SAFE_NO_PAD.encode(signature), "a second spelling of the signature");
    judge(token, &raw, &parts.payload, token == sign(&raw, &parts.payload));
}

fn signed(header: &[u8], payload: &[u8]) {
    let token = sign(header, payload);
    judge(&token, header, payload, true);
    // Nothing but the signature of these very bytes will do.
    let (input, signature) = token.rsplit_once('.').expect("a token has dots");
    let mut other = URL_SAFE_NO_PAD.decode(signature).expect("base64url was written");
    let at = payload.len() % other.len();
    other[at] ^= 1 << (header.len() % 8);
    assert!(verify(&format!("{input}.{}", URL_SAFE_NO_PAD.encode(other)), NOW).is_err(), "bit of byte {at} changed");
    assert!(verify(&format!("{input}."), NOW).is_err(), "without a signature");
}

/// The verifier takes a token exactly where both parts can be read, the signature is good and the claims are as they must be.
fn judge(token: &str, header: &[u8], payload: &[u8], is_signed: bool) {
    let header = Header::parse(header).inspect(|parsed| is_harmless(header, parsed));
    let claims = Claims::parse(payload).inspect(|claims| is_read_rightly(payload, claims));
    let is_good = match (&header, &claims) {
        (Ok(header), Ok(claims)) => {
            let fits = token.len() <= MAX_PAYLOAD && !token.starts_with('.');
            is_signed && fits && names_the_key(header) && is_acceptable(claims)
        }
        _ => false,
    };
    let verified = verify(token, NOW);
    assert_eq!(
        verified.is_ok(),
        is_good,
        "{:?} for {header:?} {claims:?}",
        verified.err().map(|denied| denied.refusal)
    );
    let Ok(verified) = verified else { return };
    assert_eq!(*verified.claims(), Value::Object(claims.expect("it was read").all));
    let later = Now { unix: verified.expires(), ..NOW };
    assert!(verify(token, later).is_err(), "taken when it has expired");
    assert!(verified.expires() > NOW.unix);
}

/// What RFC 7515, 7519 and 8725 forbid in a header, read a second time and leniently.
fn is_harmless(bytes: &[u8], header: &Header) {
    let members: Map<String, Value> = serde_json::from_slice(bytes).expect("what was read is JSON");
    for name in ["crit", "jwk", "jku", "x5u", "x5c", "zip", "enc", "b64"] {
        assert!(!members.contains_key(name), "`{name}` was taken");
    }
    let text = |name: &str| members.get(name).map(|value| value.as_str().expect("text").to_owned());
    assert_eq!((text("alg"), text("kid"), text("typ")), (header.alg.clone(), header.kid.clone(), header.typ.clone()));
    assert!(header.alg.as_ref().is_none_or(|alg| alg.to_lowercase() != "none"));
    assert!(header.kid.as_ref().is_none_or(|kid| kid.len() <= MAX_KID));
}

/// Claims are what another reader finds in the JSON, and dates are rounded against the sender.
fn is_read_rightly(bytes: &[u8], claims: &Claims) {
    let members: Map<String, Value> = serde_json::from_slice(bytes).expect("what was read is JSON");
    assert_eq!(claims.all, members);
    let text = |name: &str| members.get(name).map(|value| value.as_str().expect("text").to_owned());
    assert_eq!(
        (text("iss"), text("sub"), text("jti")),
        (claims.iss().map(str::to_owned), claims.sub.clone(), claims.jti.as_deref().map(str::to_owned))
    );
    assert!(claims.sub.as_ref().is_none_or(|sub| sub.len() <= MAX_SUB));
    assert!(claims.jti.as_ref().is_none_or(|jti| (1..=MAX_JTI).contains(&jti.len())));
    for (name, date) in [("exp", claims.exp), ("nbf", claims.nbf), ("iat", claims.iat)] {
        assert_eq!(members.contains_key(name), date.is_some(), "{name}");
        let Some(date) = date else { continue };
        let secs = members[name].as_f64().expect("a date is a number");
        let difference = date.0 as f64 / 1e9 - secs;
        // `UnixTime` ends in 2554; a double holds microseconds of today.
        assert!(difference.abs() < 1e-3 || date.0 == u64::MAX, "{name}: {date:?} for {secs}");
    }
}

fn names_the_key(header: &Header) -> bool {
    let typ = header.typ.as_ref().map(|typ| typ.to_ascii_lowercase());
    let typ = typ.as_deref().map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
    header.alg.as_deref() == Some("EdDSA")
        && header.kid.as_deref().is_none_or(|kid| kid == KID)
        && typ.is_none_or(|typ| ["jwt", "at+jwt", "jpat+jwt"].contains(&typ))
}

/// The rules of the design for a bare token, written a second time.
fn is_acceptable(claims: &Claims) -> bool {
    let Some(exp) = claims.exp else { return false };
    let latest = NOW.unix.after(LEEWAY);
    let known = match claims.iss() {
        Some(ISSUER) => true,
        Some("https://once.example") => claims.jti.is_some(),
        Some(_) | None => false,
    };
    known
        && claims.aud().is_some_and(|mut aud| aud.any(|one| one == AUDIENCE))
        && exp > NOW.unix
        && [claims.nbf, claims.iat].iter().flatten().all(|date| *date <= latest)
        && claims.iat.unwrap_or(NOW.unix).until(exp) <= MAX_LIFETIME
        && !claims.all.contains_key("cnf")
}
