//! `[[issuer]]`

use std::{path::PathBuf, time::Duration};

use jsonwebtoken::{Algorithm, AlgorithmFamily};

use super::{Resolver, all};
use crate::config::{Issuer, KeySource, raw, url_is_safe, value};

const SECOND: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Issuers, and the names to refer to even when one of them is wrong.
pub(super) struct Issuers {
    pub(super) resolved: Option<Vec<Issuer>>,
    pub(super) names: Vec<String>,
}

impl Resolver {
    pub(super) fn issuers(&mut self, raw: Vec<raw::Issuer>) -> Issuers {
        self.not_empty("issuer", &raw, "an [[issuer]]: without one no token is good");
        let names = raw.iter().filter_map(|issuer| issuer.name.clone()).collect();
        let (mut seen, mut urls) = (Vec::new(), Vec::new());
        let mut resolved = Vec::new();
        for (at, issuer) in raw.into_iter().enumerate() {
            let parent = format!("issuer[{at}]");
            let name = self.name(&parent, issuer.name.clone(), &mut seen);
            let iss = self.iss(&parent, issuer.issuer.as_deref(), &mut urls);
            resolved.push(self.issuer(&parent, issuer, name, iss));
        }
        Issuers { resolved: all(resolved), names }
    }

    fn iss(&mut self, parent: &str, iss: Option<&str>, seen: &mut Vec<(String, String)>) -> Option<String> {
        let key = format!("{parent}.issuer");
        let iss = self.required(&key, iss, "issuer = \"…\", the exact `iss` of its tokens")?;
        if iss.is_empty() {
            self.error(&key, "an empty `iss`", "write the exact `iss` of its tokens");
            return None;
        }
        if let Some((_, first)) = seen.iter().find(|(other, _)| other == iss) {
            let line = self.source.place(first).0;
            self.error(
                &key,
                format!("`{iss}` is already the `iss` in line {line}"),
                "keep one [[issuer]] for each `iss`",
            );
            return None;
        }
        seen.push((iss.to_owned(), key));
        Some(iss.to_owned())
    }

    fn issuer(&mut self, parent: &str, raw: raw::Issuer, name: Option<String>, iss: Option<String>) -> Option<Issuer> {
        let key = |name: &str| format!("{parent}.{name}");
        self.not_empty(
            &key("audience"),
            &raw.audience,
            "audience = [\"jpat://…\"]: a token for someone else must not open this host",
        );
        if let Some(at) = raw.audience.iter().position(String::is_empty) {
            self.error(&key(&format!("audience[{at}]")), "an empty audience", "name this host or its group");
        }
        let forms = self.forms(parent, &raw);
        let algorithms = self.algorithms(&key("algorithms"), &raw.algorithms);
        let keys = self.required(&key("keys"), raw.keys, "keys = { discovery = true }, or { jwks_url = \"…\" }, { jwks_file = \"…\" }, { pem_file = \"…\" }, { secret_file = \"…\" }");
        let keys = keys.and_then(|keys| self.keys(&key("keys"), keys, iss.as_deref(), raw.allow_http));
        if let (Some(algorithms), Some(keys)) = (&algorithms, &keys) {
            self.match_keys(&key("algorithms"), algorithms, keys);
        }
        let leeway = self.duration(&key("leeway"), &raw.leeway, Duration::ZERO..=Duration::from_secs(300));
        let max_lifetime = self.duration(&key("max_lifetime"), &raw.max_lifetime, SECOND..=YEAR);
        let max_stale = self.duration(&key("max_stale"), &raw.max_stale, SECOND..=YEAR);
        let typ = raw.typ.iter().map(|typ| typ.to_ascii_lowercase());
        let typ = typ.map(|typ| typ.strip_prefix("application/").map(str::to_owned).unwrap_or(typ));
        Some(Issuer {
            name: name?.into(),
            issuer: iss?,
            audience: raw.audience,
            algorithms: algorithms?,
            keys: keys?,
            accept: forms.accept?,
            replay: forms.replay?,
            source_binding: forms.source_binding?,
            typ: typ.collect(),
            leeway: leeway?,
            max_lifetime: max_lifetime?,
            max_stale: max_stale?,
            allow_http: raw.allow_http,
        })
    }

    fn algorithms(&mut self, key: &str, raw: &[String]) -> Option<Vec<Algorithm>> {
        self.not_empty(key, raw, "algorithms = [\"ES256\"]");
        let words = raw.iter().enumerate();
        let words = words.map(|(at, text)| self.word(&format!("{key}[{at}]"), text, &value::ALGORITHMS));
        let algorithms = all(words.collect())?;
        if algorithms.iter().any(hmac) && !algorithms.iter().all(hmac) {
            let remedy = "make two issuers: who can check an HMAC can also make one, so the two never share keys";
            self.error(key, "HMAC and asymmetric algorithms in one issuer", remedy);
            return None;
        }
        Some(algorithms)
    }

    fn match_keys(&mut self, key: &str, algorithms: &[Algorithm], keys: &KeySource) {
        let secret = matches!(keys, KeySource::SecretFile(_));
        match algorithms.first().map(hmac) {
            Some(true) if !secret => {
                self.error(key, "HMAC algorithms need a shared secret", "use keys = { secret_file = \"…\" }")
            }
            Some(false) if secret => {
                self.error(key, "a shared secret needs HMAC algorithms", "use \"HS256\", \"HS384\" or \"HS512\"")
            }
            Some(_) | None => {}
        }
    }

    fn keys(&mut self, key: &str, raw: raw::Keys, iss: Option<&str>, allow_http: bool) -> Option<KeySource> {
        let inner = |name: &str| format!("{key}.{name}");
        let given = [
            raw.discovery.filter(|on| *on).map(|_| KeySource::Discovery),
            raw.jwks_url.map(KeySource::JwksUrl),
            raw.jwks_file.map(|path| KeySource::JwksFile(PathBuf::from(path))),
            raw.pem_file.map(|path| KeySource::PemFile(PathBuf::from(path))),
            raw.secret_file.map(|path| KeySource::SecretFile(PathBuf::from(path))),
        ];
        let mut given: Vec<_> = given.into_iter().flatten().collect();
        let (Some(only), true) = (given.pop(), given.is_empty()) else {
            self.error(
                key,
                "one source of keys is needed, and no more",
                "keep one of discovery, jwks_url, jwks_file, pem_file, secret_file",
            );
            return None;
        };
        match only {
            KeySource::Discovery => self.url(key, iss?, allow_http).map(|()| KeySource::Discovery),
            KeySource::JwksUrl(url) => self.url(&inner("jwks_url"), &url, allow_http).map(|()| KeySource::JwksUrl(url)),
            KeySource::JwksFile(path) => self.readable(&inner("jwks_file"), &path).map(KeySource::JwksFile),
            KeySource::PemFile(path) => self.readable(&inner("pem_file"), &path).map(KeySource::PemFile),
            KeySource::SecretFile(path) => self.secret(&inner("secret_file"), &path).map(KeySource::SecretFile),
        }
    }

    fn url(&mut self, key: &str, text: &str, allow_http: bool) -> Option<()> {
        let Ok(url) = reqwest::Url::parse(text) else {
            self.error(
                key,
                format!("`{text}` is no URL to fetch keys from"),
                "write https://…, or take the keys from a file",
            );
            return None;
        };
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            self.error(key, "a URL with credentials or a fragment", "remove them: key sets are public");
            return None;
        }
        if !url_is_safe(&url, allow_http) {
            let remedy = "use https; in a lab, allow_http = true in this issuer";
            self.error(key, format!("`{text}` is not https: whoever is on the path could replace the keys"), remedy);
            return None;
        }
        if !url_is_safe(&url, false) {
            let message =
                format!("keys come over `{}` without TLS: whoever is on the path can replace them", url.scheme());
            self.warn(key, message, "use https outside of labs");
        }
        Some(())
    }
}

fn hmac(algorithm: &Algorithm) -> bool {
    algorithm.family() == AlgorithmFamily::Hmac
}
