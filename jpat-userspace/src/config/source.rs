//! The text of a configuration and where each key stands in it.

use std::{collections::BTreeMap, ops::Range, path::PathBuf};

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Finding, Warning};

/// Stands for an escaped line end, which is nothing in the value.
const JOINED: char = '\0';

/// A configuration file as it was read. Kept by the resolved configuration, so that what is found out later (CEL that
/// does not compile, a key file without keys, a device that is not there) points at its line as well.
#[derive(Clone, Default, Debug)]
pub struct Source {
    file: PathBuf,
    text: String,
    values: BTreeMap<String, Range<usize>>,
}

impl Source {
    pub(super) fn new(file: PathBuf, text: String) -> Self {
        Self { file, text, values: BTreeMap::new() }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Notes where each value stands.
    pub(super) fn index(&mut self, root: &DeTable<'_>) {
        self.values.clear();
        index_table(&mut self.values, root, "");
    }

    /// An error at `key` (`service[0].ttl`), or at what is above it where the file does not have the key.
    #[must_use]
    pub fn error(&self, key: &str, message: impl Into<String>, remedy: impl Into<String>) -> ConfigError {
        ConfigError(self.finding(key, self.offset(key), message.into(), remedy.into()))
    }

    /// A warning at `key`, placed as [`Self::error`] places its errors.
    #[must_use]
    pub fn warning(&self, key: &str, message: impl Into<String>, remedy: impl Into<String>) -> Warning {
        Warning(self.finding(key, self.offset(key), message.into(), remedy.into()))
    }

    /// An error inside the string at `key`: `line` and `column` (characters) count from 1 within the string's value.
    #[must_use]
    pub fn error_within(&self, key: &str, line: usize, column: usize, message: impl Into<String>) -> ConfigError {
        let offset = match self.values.get(key) {
            Some(span) => span.start + string_offset(&self.text[span.clone()], line, column),
            None => self.offset(key),
        };
        ConfigError(self.finding(key, offset, message.into(), String::new()))
    }

    pub(super) fn error_at(&self, offset: usize, key: &str, message: String, remedy: String) -> ConfigError {
        ConfigError(self.finding(key, offset, message, remedy))
    }

    /// Line and column of a key, counted from 1, for "first seen in line N".
    #[must_use]
    pub fn place(&self, key: &str) -> (u32, u32) {
        self.line_column(self.offset(key))
    }

    /// The innermost value that covers `span`.
    pub(super) fn key_covering(&self, span: &Range<usize>) -> Option<&str> {
        let covering = self.values.iter().filter(|(_, value)| value.start <= span.start && span.end <= value.end);
        covering.min_by_key(|(key, value)| (value.len(), std::cmp::Reverse(key.len()))).map(|(key, _)| key.as_str())
    }

    fn finding(&self, key: &str, offset: usize, message: String, remedy: String) -> Finding {
        let (line, column) = self.line_column(offset);
        let remedy = (!remedy.is_empty()).then_some(remedy);
        Finding { file: self.file.clone(), line, column, key: key.to_owned(), message, remedy }
    }

    fn offset(&self, key: &str) -> usize {
        let mut key = key;
        loop {
            if let Some(span) = self.values.get(key) {
                return span.start;
            }
            match key.rfind(['.', '[']) {
                Some(end) => key = &key[..end],
                None => return 0,
            }
        }
    }

    fn line_column(&self, offset: usize) -> (u32, u32) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }
}

/// The key of `name` inside `parent`.
pub(super) fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

/// The table that a value is, or the tables of the list that it is, with their keys.
pub(super) fn tables<'v, 'i>(value: &'v mut DeValue<'i>, path: &str) -> Vec<(String, &'v mut DeTable<'i>)> {
    match value {
        DeValue::Table(table) => vec![(path.to_owned(), table)],
        DeValue::Array(array) => {
            let elements = array.iter_mut().enumerate();
            elements.flat_map(|(at, element)| tables(element.get_mut(), &format!("{path}[{at}]"))).collect()
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            Vec::new()
        }
    }
}

fn index_table(values: &mut BTreeMap<String, Range<usize>>, table: &DeTable<'_>, path: &str) {
    for (name, value) in table.iter() {
        index_value(values, value, join(path, name.get_ref()));
    }
}

fn index_value(values: &mut BTreeMap<String, Range<usize>>, value: &Spanned<DeValue<'_>>, path: String) {
    if let Some(table) = value.get_ref().as_table() {
        index_table(values, table, &path);
    } else if let Some(array) = value.get_ref().as_array() {
        for (at, element) in array.iter().enumerate() {
            index_value(values, element, format!("{path}[{at}]"));
        }
    }
    values.insert(path, value.span());
}

/// Byte offset, within the token of a TOML string, of a line and column of the string's value.
fn string_offset(token: &str, line: usize, column: usize) -> usize {
    let literal = token.starts_with('\'');
    let quote = if token.starts_with("'''") || token.starts_with("\"\"\"") { 3 } else { 1 };
    let first = token.get(quote..).unwrap_or("");
    // TOML drops a line end right after the opening quotes.
    let trimmed = match quote {
        3 if first.starts_with("\r\n") => 2,
        3 if first.starts_with('\n') => 1,
        _ => 0,
    };
    let mut at = quote + trimmed;
    let (mut seen_line, mut seen_column) = (1, 1);
    while let Some(next) = token.get(at..).and_then(|rest| rest.chars().next()) {
        let escaped = next == '\\' && !literal;
        let (value, length) = if escaped { escape(&token[at..]) } else { (next, next.len_utf8()) };
        if value != JOINED && (seen_line, seen_column) >= (line, column) {
            break;
        }
        at += length;
        match value {
            '\n' => (seen_line, seen_column) = (seen_line + 1, 1),
            JOINED => {}
            _ => seen_column += 1,
        }
    }
    at.min(token.len())
}

/// The character that an escape at the start of `rest` stands for and its length in bytes.
fn escape(rest: &str) -> (char, usize) {
    match rest[1..].chars().next() {
        Some('n') => ('\n', 2),
        Some('x') => ('x', 4),
        Some('u') => ('u', 6),
        Some('U') => ('U', 10),
        Some(blank) if blank.is_whitespace() => (JOINED, 1 + rest[1..].len() - rest[1..].trim_start().len()),
        Some(other) => (other, 1 + other.len_utf8()),
        None => (JOINED, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_string_is_found_through_quotes_and_escapes() {
        let at = |token: &str, line, column| token[string_offset(token, line, column)..].chars().next();
        assert_eq!(at("'abc'", 1, 2), Some('b'));
        assert_eq!(at("'''abc\n def'''", 2, 2), Some('d'));
        assert_eq!(at("'''\nabc\n def'''", 1, 1), Some('a'));
        assert_eq!(at("'''\r\nabc'''", 1, 3), Some('c'));
        assert_eq!(at(r#""a\"b""#, 1, 3), Some('b'));
        assert_eq!(at(r#""a\nb""#, 2, 1), Some('b'));
        assert_eq!(at(r#""\u0041b""#, 1, 2), Some('b'));
        assert_eq!(at("\"\"\"a \\\n   b\"\"\"", 1, 3), Some('b'));
        assert_eq!(at("'abc'", 9, 9), None);
    }
}
