//! From plain values to checked ones, section by section.

mod admin;
mod issuer;
mod listen;
mod sealed;
mod secret;
mod service;

use std::{
    collections::BTreeSet,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    Config, Mode,
    error::{ConfigError, Warning},
    keys::closest,
    raw,
    source::Source,
    value::{self, Complaint},
};

/// Collects what is wrong while sections are resolved. A section that was wrong is `None`.
pub(super) struct Resolver {
    source: Source,
    base: PathBuf,
    blamed: BTreeSet<String>,
    errors: Vec<ConfigError>,
    warnings: Vec<Warning>,
}

impl Resolver {
    /// `blamed` are keys whose values had the wrong type: they are not missing.
    pub(super) fn new(source: Source, base: PathBuf, blamed: BTreeSet<String>, errors: Vec<ConfigError>) -> Self {
        Self { source, base, blamed, errors, warnings: Vec::new() }
    }

    pub(super) fn finish(
        mut self,
        path: &Path,
        file: Option<raw::File>,
    ) -> Result<(Config, Vec<Warning>), Vec<ConfigError>> {
        let config = file.and_then(|file| self.file(path, file));
        self.errors.sort_by_key(|error| (error.0.line, error.0.column));
        self.warnings.sort_by_key(|warning| (warning.0.line, warning.0.column));
        match config {
            Some(mut config) if self.errors.is_empty() => {
                config.source = Arc::new(self.source);
                Ok((config, self.warnings))
            }
            _ => Err(self.errors),
        }
    }

    fn file(&mut self, path: &Path, file: raw::File) -> Option<Config> {
        let mode = self.required("mode", file.mode, "mode = \"audit\" to watch first, or mode = \"enforce\"");
        let mode =
            mode.and_then(|mode| self.word("mode", &mode, &[("enforce", Mode::Enforce), ("audit", Mode::Audit)]));
        let (state, pins) = (self.path("state", &file.state), self.path("pins", &file.pins));
        let listen = self.listen(file.listen);
        let always_allow = self.always_allow(&file.always_allow.sources);
        let (has_server, has_knock_keys) = (file.server.is_some(), !file.knock_key.is_empty());
        let server = file.server.map(|server| self.server(server));
        let knock_keys = self.knock_keys(file.knock_key);
        let issuers = self.issuers(file.issuer);
        self.sealed_needs(issuers.resolved.as_deref(), has_server, has_knock_keys);
        let services = self.services(file.service, &issuers.names, listen.as_ref().map(|listen| listen.port));
        let deny = self.deny(file.deny);
        let limits = self.limits(&file.limits);
        let audit = self.audit(file.audit);
        let admin = self.admin(file.admin);
        Some(Config {
            path: path.to_owned(),
            mode: mode?,
            state: state?,
            pins: pins?,
            listen: listen?,
            always_allow: always_allow?,
            server: match server {
                Some(server) => Some(server?),
                None => None,
            },
            knock_keys: knock_keys?,
            issuers: issuers.resolved?,
            services: services?,
            deny: deny?,
            limits: limits?,
            audit: audit?,
            admin: admin?,
            source: Arc::default(),
        })
    }

    fn error(&mut self, key: &str, message: impl Into<String>, remedy: impl Into<String>) {
        let error = self.source.error(key, message, remedy);
        self.errors.push(error);
    }

    fn warn(&mut self, key: &str, message: impl Into<String>, remedy: impl Into<String>) {
        let warning = self.source.warning(key, message, remedy);
        self.warnings.push(warning);
    }

    fn good<T>(&mut self, key: &str, value: Result<T, Complaint>) -> Option<T> {
        value.map_err(|(message, remedy)| self.error(key, message, remedy)).ok()
    }

    /// A value that must be there; `example` is what to add.
    fn required<T>(&mut self, key: &str, value: Option<T>, example: &str) -> Option<T> {
        if value.is_none() && !self.blamed.contains(key) {
            self.error(key, "required", format!("add {example}"));
        }
        value
    }

    /// A list that must not be empty.
    fn not_empty<T>(&mut self, key: &str, list: &[T], example: &str) {
        if list.is_empty() && !self.blamed.contains(key) {
            self.error(key, "required, and at least one", format!("add {example}"));
        }
    }

    /// One of several words.
    fn word<T: Copy>(&mut self, key: &str, text: &str, words: &[(&str, T)]) -> Option<T> {
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let remedy = match closest(text, words.iter().map(|(word, _)| *word)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => {
                let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                format!("use {}", words.join(", "))
            }
        };
        self.error(key, format!("unknown value \"{text}\""), remedy);
        None
    }

    fn number<T: TryFrom<i64>>(&mut self, key: &str, value: i64, range: RangeInclusive<i64>) -> Option<T> {
        match T::try_from(value) {
            Ok(number) if range.contains(&value) => Some(number),
            Ok(_) | Err(_) => {
                let remedy = format!("use a number from {} to {}", range.start(), range.end());
                self.error(key, format!("{value} is out of range"), remedy);
                None
            }
        }
    }

    fn duration(&mut self, key: &str, text: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let duration = self.good(key, value::duration(text))?;
        if range.contains(&duration) {
            return Some(duration);
        }
        let show = |duration: &Duration| match duration.as_secs() {
            secs if secs >= 3600 && secs % 3600 == 0 => format!("{}h", secs / 3600),
            secs if secs >= 60 && secs % 60 == 0 => format!("{}m", secs / 60),
            secs => format!("{secs}s"),
        };
        let remedy = format!("use \"{}\" to \"{}\"", show(range.start()), show(range.end()));
        self.error(key, format!("`{text}` is out of range"), remedy);
        None
    }

    fn path(&mut self, key: &str, text: &str) -> Option<PathBuf> {
        if text.is_empty() {
            self.error(key, "an empty path", "name a file or directory");
            return None;
        }
        Some(self.base.join(text))
    }

    /// A unique name.
    fn name(&mut self, parent: &str, name: Option<String>, seen: &mut Vec<(String, String)>) -> Option<String> {
        let key = format!("{parent}.name");
        let name = self.required(&key, name, "name = \"…\"")?;
        self.good(&key, value::name(&name))?;
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == name) {
            let line = self.source.place(first).0;
            self.error(&key, format!("`{name}` is already the name of the one in line {line}"), "give it another name");
            return None;
        }
        seen.push((name.clone(), key));
        Some(name)
    }
}

/// All of them, or none if one was wrong.
fn all<T>(items: Vec<Option<T>>) -> Option<Vec<T>> {
    items.into_iter().collect()
}
