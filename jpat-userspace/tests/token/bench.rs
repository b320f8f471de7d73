//! One issuer with one ES256 key, a clock that stands still, and a good token to spoil.

use std::sync::{Arc, OnceLock};

use jpat_userspace::{
    clock::{BootTime, Now, UnixTime},
    config::{Config, Issuer},
    keyring::{Held, KeyRing},
    knock::Form,
    refusal::{Refusal, Stage},
    token::{self, VerifiedToken, install_crypto, keys::KeySet},
    verify::{Denied, NoRecord, Record},
};
use serde_json::{Value, json};

use crate::mint::{Members, Signer};

/// What the clock says, in seconds.
pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const ISS: &str = "https://idp.example";
pub(crate) const AUD: &str = "jpat://prod";

pub(crate) struct Bench {
    pub(crate) signer: Signer,
    pub(crate) config: Config,
    pub(crate) ring: KeyRing,
    pub(crate) now: Now,
}

/// Remembers every check.
#[derive(Default)]
pub(crate) struct Seen(pub(crate) Vec<(&'static str, Result<(), Refusal>, String)>);

impl Record for Seen {
    fn check(&mut self, name: &'static str, result: Result<(), Refusal>, detail: impl FnOnce() -> String) {
        self.0.push((name, result, detail()));
    }
}

impl Bench {
    /// The issuer's JWK Set holds one ES256 key, `k1`.
    pub(crate) fn new() -> Self {
        Self::with(Signer::es256(), |jwk| json!({ "keys": [jwk] }))
    }

    pub(crate) fn with(signer: Signer, set: impl FnOnce(Value) -> Value) -> Self {
        install_crypto();
        let jwk = signer.jwk_with(json!({ "kid": "k1", "use": "sig" }));
        let algorithms = [signer.algorithm];
        let (keys, _) = KeySet::from_jwks(set(jwk).to_string().as_bytes(), &algorithms).unwrap();
        let unix = UnixTime::from_secs(NOW);
        let mut config = config();
        config.issuers[0].algorithms = algorithms.to_vec();
        let ring = KeyRing::default().with("corp", Held { keys: Arc::new(keys), fetched: unix });
        Self { signer, config, ring, now: Now { boot: BootTime(77), unix } }
    }

    /// With other keys for its issuer.
    pub(crate) fn keys(mut self, keys: KeySet) -> Self {
        self.ring = self.ring.with("corp", Held { keys: Arc::new(keys), fetched: self.now.unix });
        self
    }

    /// With its issuer changed.
    pub(crate) fn issuer(mut self, change: impl FnOnce(&mut Issuer)) -> Self {
        change(&mut self.config.issuers[0]);
        self
    }

    pub(crate) fn header(&self) -> Members {
        Members::of(&[("alg", &format!("\"{:?}\"", self.signer.algorithm)), ("kid", "\"k1\""), ("typ", "\"JWT\"")])
    }

    pub(crate) fn sign(&self, header: &Members, claims: &Members) -> String {
        self.signer.sign(header.text().as_bytes(), claims.text().as_bytes())
    }

    /// A good token with these claims.
    pub(crate) fn token(&self, claims: &Members) -> String {
        self.sign(&self.header(), claims)
    }

    pub(crate) fn good(&self) -> String {
        self.token(&claims())
    }

    pub(crate) fn verify(&self, token: &str) -> Result<VerifiedToken, Denied> {
        token::verify(token, Form::Bare, &self.config, &self.ring, self.now, &mut NoRecord).map(|(token, _)| token)
    }

    pub(crate) fn checks(&self, token: &str) -> Vec<(&'static str, Result<(), Refusal>, String)> {
        let mut seen = Seen::default();
        let _ = token::verify(token, Form::Bare, &self.config, &self.ring, self.now, &mut seen);
        seen.0
    }

    /// Asserts one exact refusal, and that no more is claimed to be known of the sender than the signature proves.
    #[track_caller]
    pub(crate) fn refused(&self, why: &str, token: &str, refusal: Refusal) {
        let denied = self.verify(token).map(|token| token.claims().to_string()).expect_err(why);
        assert_eq!(denied.refusal, refusal, "{why}");
        assert_eq!(denied.who.is_some(), refusal.stage() == Stage::Authenticated, "{why}");
        let last = self.checks(token).pop().unwrap();
        assert_eq!(last.1, Err(refusal), "{why}: the last check reported is the one that failed");
    }

    #[track_caller]
    pub(crate) fn accepted(&self, why: &str, token: &str) -> VerifiedToken {
        self.verify(token).unwrap_or_else(|denied| panic!("{why}: {}", denied.refusal))
    }
}

/// Claims of a good token.
pub(crate) fn claims() -> Members {
    Members::of(&[
        ("iss", &format!("{ISS:?}")),
        ("sub", "\"employee:alice\""),
        ("aud", &format!("{AUD:?}")),
        ("exp", &(NOW + 60).to_string()),
        ("nbf", &(NOW - 5).to_string()),
        ("iat", &(NOW - 5).to_string()),
        ("jti", "\"t-1\""),
        ("roles", "[\"commerce-listings-admin\"]"),
    ])
}

/// One bare issuer `corp`, one service that its employees may reach.
const FILE: &str = r#"
mode = "enforce"
[[issuer]]
name = "corp"
issuer = "https://idp.example"
audience = ["jpat://prod", "jpat://also"]
algorithms = ["ES256"]
keys = { discovery = true }
accept = ["bare"]
replay = "bind-source"
typ = ["JWT", "at+jwt", "jpat+jwt"]
leeway = "10s"
max_lifetime = "1h"
max_stale = "10m"
[[service]]
name = "listings"
ports = ["tcp/8443"]
allow = 'claims.sub.startsWith("employee:") && header.alg == "ES256" && knock.form == "bare"'
ttl = "30s"
"#;

pub(crate) fn config() -> Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    let read = || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jpat.toml");
        std::fs::write(&path, FILE).unwrap();
        Config::load(&path).unwrap_or_else(|errors| panic!("{errors:#?}")).0
    };
    CONFIG.get_or_init(read).clone()
}

/// Another issuer like `corp`.
pub(crate) fn issuer(name: &str, iss: &str) -> Issuer {
    Issuer { name: name.into(), issuer: iss.to_owned(), ..config().issuers[0].clone() }
}
