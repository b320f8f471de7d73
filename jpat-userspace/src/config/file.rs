//! From a file to a [`Config`]: syntax, keys, types, meaning. All errors are collected, not only the first.

use std::{
    collections::BTreeSet,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::{
    Config,
    error::{ConfigError, Finding, Warning},
    keys, raw,
    resolve::Resolver,
    source::{Source, join, tables},
};

/// The parser's word for a key that is given twice, after which it reads on as before.
const DUPLICATE: &str = "duplicate key";

impl Config {
    /// Reads and checks a file. What depends on the host's devices and ports is [`check::host`](crate::check::host)'s.
    ///
    /// # Errors
    /// Everything that is wrong with the file, in its order.
    pub fn load(path: &Path) -> Result<(Self, Vec<Warning>), Vec<ConfigError>> {
        match std::fs::read_to_string(path) {
            Ok(text) => parse(path, text),
            Err(error) => Err(vec![ConfigError(Finding {
                file: path.to_owned(),
                line: 0,
                column: 0,
                key: String::new(),
                message: format!("cannot read it: {error}"),
                remedy: Some(
                    "name another with --config or $JPAT_CONFIG, or write one with `jpatd init --out DIR`".into(),
                ),
            })]),
        }
    }

    /// Checks a text as [`Self::load`] checks a file at `path`: its directory is where relative paths inside count from.
    ///
    /// # Errors
    /// Everything that is wrong with the text, in its order.
    pub fn from_text(path: &Path, text: String) -> Result<(Self, Vec<Warning>), Vec<ConfigError>> {
        parse(path, text)
    }

    /// A configuration for the tests of other modules; relative paths inside count from the system's temporary
    /// directory.
    #[cfg(test)]
    pub(crate) fn for_tests(toml: &str) -> Self {
        match parse(&std::env::temp_dir().join("jpat.toml"), toml.to_owned()) {
            Ok((config, _)) => config,
            Err(errors) => {
                panic!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
            }
        }
    }
}

pub(super) fn parse(path: &Path, text: String) -> Result<(Config, Vec<Warning>), Vec<ConfigError>> {
    let mut source = Source::new(path.to_owned(), text);
    let text = source.text().to_owned();
    let (root, mut syntax) = DeTable::parse_recoverable(&text);
    syntax.sort_by_key(|error| error.span().unwrap_or_default().start);
    if !syntax.is_empty() {
        // What follows the first one follows from it.
        let last = syntax.iter().position(|error| error.message() != DUPLICATE).unwrap_or(syntax.len());
        return Err(syntax.iter().take(last + 1).map(|error| syntax_error(&source, error)).collect());
    }
    let span = root.span();
    let mut root = root.into_inner();
    source.index(&root);
    let mut errors = keys::strip(&mut root, &source);
    let mut blamed = BTreeSet::new();
    let file = read(root, &span, &source, &mut blamed, &mut errors);
    let resolver = Resolver::new(source, base(path), blamed, errors);
    resolver.finish(path, file)
}

/// Reads the tree, again and again without the values that have the wrong type.
fn read(
    mut root: DeTable<'_>,
    span: &Range<usize>,
    source: &Source,
    blamed: &mut BTreeSet<String>,
    errors: &mut Vec<ConfigError>,
) -> Option<raw::File> {
    loop {
        let value = Spanned::new(span.clone(), DeValue::Table(root.clone()));
        let error = match raw::File::deserialize(ValueDeserializer::from(value)) {
            Ok(file) => return Some(file),
            Err(error) => error,
        };
        let at = error.span().unwrap_or_default();
        let key = source.key_covering(&at).unwrap_or_default().to_owned();
        let (message, remedy) = plain(error.message(), &key);
        errors.push(source.error_at(at.start, &key, message, remedy));
        // A wrong element of a list takes the list with it, so that the others keep their numbers.
        blamed.insert(remove(&mut root, &at, "")?);
    }
}

/// Removes the innermost table entry that covers `span` and returns its key.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>, path: &str) -> Option<String> {
    let covers = |value: &Range<usize>| value.start <= span.start && span.end <= value.end;
    let mut found = None;
    for (name, value) in table.iter_mut() {
        let key = join(path, name.get_ref());
        // Not only where the value covers the span: an array of tables spans its first header alone.
        let inner = tables(value.get_mut(), &key).into_iter().find_map(|(key, table)| remove(table, span, &key));
        if inner.is_some() {
            return inner;
        }
        if covers(&value.span()) {
            found = Some((name.get_ref().clone().into_owned(), key));
        }
    }
    let (name, key) = found?;
    table.remove(name.as_str());
    Some(key)
}

fn syntax_error(source: &Source, error: &toml::de::Error) -> ConfigError {
    let message = format!("not valid TOML: {}", error.message().replace('\n', ", "));
    let remedy = if error.message() == DUPLICATE { "keep one of them" } else { "the rest is read once this is right" };
    source.error_at(error.span().unwrap_or_default().start, "", message, remedy.to_owned())
}

/// serde's words for types, as TOML calls them, and what to write instead.
fn plain(message: &str, key: &str) -> (String, String) {
    let message = message.replace("expected i64", "expected an integer").replace("sequence", "list");
    let message = match message.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected a table"),
        None => message.replace("invalid type: map", "invalid type: table"),
    };
    let remedy = match message.rsplit_once("expected ") {
        Some((found, "a list")) if found.contains("table") => format!("write [[{key}]]"),
        Some((_, "a list")) => "write it in brackets: [\"…\"]".to_owned(),
        Some((_, "a string")) => "write one value in quotes".to_owned(),
        Some((_, "an integer")) => "write a number without quotes".to_owned(),
        Some((_, "a table")) => "write it as { key = value }, or as a section of its own".to_owned(),
        Some((_, "a boolean")) => "write true or false".to_owned(),
        Some(_) | None => String::new(),
    };
    (message, remedy)
}

fn base(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.parent().map_or_else(PathBuf::new, Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{KeySource, Mode, ReplayMode},
        policy::Owner,
    };

    const SMALL: &str = r#"
mode = "audit"
[[issuer]]
name = "corp"
issuer = "https://idp.example"
audience = ["jpat://prod"]
algorithms = ["ES256"]
keys = { discovery = true }
accept = ["bare"]
[[service]]
name = "web"
ports = ["tcp/8443", "udp/5000-5010"]
allow = '''
claims.sub == "a"
  && claims.x'''
ttl = "30s"
"#;

    #[test]
    fn a_small_file_gets_the_defaults() {
        let config = Config::for_tests(SMALL);
        assert_eq!((config.mode, config.listen.port), (Mode::Audit, 1337));
        assert_eq!(config.services[0].issuers, ["corp"]);
        assert_eq!(config.services[0].ports[1].to_string(), "udp/5000-5010");
        assert_eq!(
            (&config.issuers[0].keys, config.issuers[0].replay),
            (&KeySource::Discovery, ReplayMode::BindSource)
        );
        assert_eq!(config.issuers[0].typ, ["jwt", "at+jwt", "jpat+jwt"]);
    }

    #[test]
    fn sessions_hold_for_both_protocols_where_they_are_written() {
        for (written, keeps) in
            [("", (true, false)), ("sessions = \"keep\"", (true, true)), ("sessions = \"cut\"", (false, false))]
        {
            let sessions = Config::for_tests(&format!("{SMALL}{written}\n")).services[0].sessions;
            assert_eq!((sessions.keeps_tcp, sessions.keeps_udp), keeps, "{written}");
            let (idle, max) = (sessions.flow_idle.as_secs(), sessions.flow_max.as_secs());
            assert_eq!((idle, max), (600, 12 * 3600));
        }
    }

    #[test]
    fn an_error_in_an_expression_points_into_the_file() {
        let error = Config::for_tests(SMALL).rule_error(&Owner::Service("web".into()), Some((2, 6)), "no such claim").0;
        assert_eq!((error.line, error.column, error.key.as_str()), (15, 6, "service[0].allow"));
    }
}
