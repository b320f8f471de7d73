//! A text becomes a configuration, or errors that say where.

mod files;

use std::collections::BTreeMap;

use jpat_common::{grant::ServiceId, sealed::BUDGETS};
use jpat_userspace::{
    config::{
        Config, MAX_TTL, PortRange, Protocol, ReplayMode, SourceBinding,
        error::{ConfigError, Finding, Warning},
    },
    knock::Form,
    policy::Policy,
};
use jsonwebtoken::AlgorithmFamily;

/// The text is what was found.
pub fn fuzz(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match load(text) {
        Err(errors) => {
            assert!(!errors.is_empty(), "refused for no reason");
            errors.iter().for_each(|error| is_placed(&error.0, text));
            let places: Vec<_> = errors.iter().map(|error| (error.0.line, error.0.column)).collect();
            assert!(places.is_sorted(), "errors out of order: {places:?}");
        }
        Ok((config, warnings)) => {
            warnings.iter().for_each(|warning| is_placed(&warning.0, text));
            is_sound(&config);
            says_the_same_when_written_anew(&config, &warnings, text);
            compiles_or_says_where(&config, text);
        }
    }
}

fn load(text: &str) -> Result<(Config, Vec<Warning>), Vec<ConfigError>> {
    Config::from_text(&files::CONFIGURATION, text.to_owned())
}

/// A finding points into the text, and prints in one known form.
fn is_placed(finding: &Finding, text: &str) {
    let Finding { file, line, column, key, message, remedy } = finding;
    assert_eq!(*file, *files::CONFIGURATION);
    let lines: Vec<_> = text.split('\n').collect();
    let at = usize::try_from(*line).unwrap_or(usize::MAX);
    assert!((1..=lines.len()).contains(&at), "line {line} of {}: {finding:?}", lines.len());
    let width = lines.get(at - 1).map_or(0, |line| line.chars().count());
    let column = usize::try_from(*column).unwrap_or(usize::MAX);
    assert!((1..=width + 1).contains(&column), "column {column} of {width}: {finding:?}");
    assert!(!message.is_empty(), "no message at {key}");
    assert!(remedy.as_ref().is_none_or(|remedy| !remedy.is_empty()), "an empty remedy at {key}");
    let printed = ConfigError(finding.clone()).to_string();
    assert!(printed.starts_with(&format!("{}:{line}:{column}:", file.display())), "{printed}");
}

/// What the rest of the program relies on.
fn is_sound(config: &Config) {
    assert!(!config.issuers.is_empty() && !config.services.is_empty());
    for (at, issuer) in config.issuers.iter().enumerate() {
        let others = &config.issuers[..at];
        assert!(others.iter().all(|other| other.name != issuer.name && other.issuer != issuer.issuer));
        assert!(!issuer.issuer.is_empty() && is_name(&issuer.name));
        assert!(!issuer.audience.is_empty() && issuer.audience.iter().all(|audience| !audience.is_empty()));
        let hmac = issuer.algorithms.iter().filter(|algorithm| algorithm.family() == AlgorithmFamily::Hmac).count();
        assert!(!issuer.algorithms.is_empty() && (hmac == 0 || hmac == issuer.algorithms.len()));
        assert!(issuer.leeway.as_secs() <= 300 && issuer.max_lifetime.as_secs() >= 1);
    }
    let ports: Vec<_> = config.services.iter().flat_map(|service| &service.ports).collect();
    for (at, range) in ports.iter().enumerate() {
        assert!(range.first > 0 && range.first <= range.last, "{range}");
        let meets = |other: &PortRange| range.first <= other.last && other.first <= range.last;
        let overlaps = ports[..at].iter().any(|other| range.protocol == other.protocol && meets(other));
        assert!(!overlaps, "{range} twice");
        let knock = range.protocol == Protocol::Udp && (range.first..=range.last).contains(&config.listen.port);
        assert!(!knock, "{range} holds the knock port");
    }
    for (at, service) in config.services.iter().enumerate() {
        assert!(is_name(&service.name) && config.services[..at].iter().all(|other| other.name != service.name));
        assert!(service.ttl.as_secs() >= 1 && service.ttl <= MAX_TTL);
        assert!((1..=32).contains(&service.prefix.v4) && (1..=128).contains(&service.prefix.v6));
        assert!(!service.ports.is_empty() && !service.issuers.is_empty());
        let known = |name: &String| config.issuers.iter().any(|issuer| *issuer.name == **name);
        assert!(service.issuers.iter().all(known), "{:?}", service.issuers);
    }
    is_sound_for_sealed(config);
    assert!(config.always_allow.iter().all(|net| net.prefix_len() > 0 && net.trunc() == *net));
    assert!(!config.listen.interfaces.is_empty() && config.listen.port > 0);
}

fn is_sound_for_sealed(config: &Config) {
    for issuer in &config.issuers {
        assert!(!issuer.accept.is_empty());
        let needs_sealed = issuer.replay == ReplayMode::Proof || issuer.source_binding == SourceBinding::Strict;
        assert!(!needs_sealed || !issuer.accept.contains(&Form::Bare), "a bare knock has no place for that");
        if issuer.accept.contains(&Form::Sealed) {
            assert!(config.server.is_some() && !config.knock_keys.is_empty());
        }
    }
    if let Some(server) = &config.server {
        assert!((1..=64).contains(&server.id.len()) && server.id.chars().all(|c| c.is_ascii_graphic()));
        assert!(!server.keys.is_empty());
    }
    for (at, key) in config.knock_keys.iter().enumerate() {
        assert!(key.id > 0 && is_name(&key.group));
        assert!(config.knock_keys[..at].iter().all(|other| other.id != key.id), "two knock keys {}", key.id);
    }
    assert!(config.groups().len() < BUDGETS as usize);
}

fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=64).contains(&text.len()) && text.chars().all(fits) && !text.starts_with('.')
}

/// What a configuration means does not depend on how its TOML is spelled.
fn says_the_same_when_written_anew(config: &Config, warnings: &[Warning], text: &str) {
    let table: toml::Table = toml::from_str(text).expect("what loads is TOML");
    let anew = toml::to_string(&table).expect("what was TOML can be TOML");
    let (again, warned) = load(&anew).unwrap_or_else(|errors| panic!("{errors:?} in\n{anew}"));
    assert_eq!(meaning(config), meaning(&again), "{anew}");
    let said = |warnings: &[Warning]| {
        let mut said: Vec<_> =
            warnings.iter().map(|warning| (warning.0.key.clone(), warning.0.message.clone())).collect();
        said.sort();
        said
    };
    assert_eq!(said(warnings), said(&warned), "{anew}");
}

fn meaning(config: &Config) -> String {
    format!("{:?}", Config { source: std::sync::Arc::default(), ..config.clone() })
}

/// Rules that cannot be used are found in the text as well.
fn compiles_or_says_where(config: &Config, text: &str) {
    let ids: BTreeMap<String, ServiceId> =
        (1..).zip(&config.services).map(|(id, service)| (service.name.clone(), id)).collect();
    for error in Policy::compile(config, &ids).err().unwrap_or_default() {
        let place = error.line.zip(error.column);
        is_placed(&config.rule_error(&error.owner, place, &error.message).0, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else nothing behind a good configuration would be searched.
    #[test]
    fn the_full_configurations_load() {
        for text in [include_str!("../seeds/inputs/full.toml"), include_str!("../seeds/inputs/sealed.toml")] {
            let (config, _) = load(text).unwrap_or_else(|errors| panic!("{errors:?}"));
            let ids = (1..).zip(&config.services).map(|(id, service)| (service.name.clone(), id)).collect();
            Policy::compile(&config, &ids).unwrap_or_else(|errors| panic!("{errors:?}"));
            fuzz(text.as_bytes());
        }
    }
}
