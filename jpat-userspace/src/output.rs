//! What people and programs read: facts on standard output, talk on standard error.

use std::io::{self, Write};

/// Form of the facts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document with a `version`, stable within it.
    Json,
}

/// Version of the JSON documents.
pub const JSON_VERSION: u32 = 1;

/// Writes facts, with a line end unless they have one. A closed pipe is no error: the reader has seen enough.
pub fn fact(text: &str) {
    write_line(&mut io::stdout().lock(), text);
}

/// Writes a JSON document as a fact: `version` and the members of `body`, which must be an object.
pub fn json(body: serde_json::Value) {
    let mut document = serde_json::Map::from_iter([("version".to_owned(), JSON_VERSION.into())]);
    if let serde_json::Value::Object(members) = body {
        document.extend(members);
    }
    fact(&serde_json::Value::Object(document).to_string());
}

/// Says something beside the facts: a warning, a hint, an error.
pub fn talk(text: &str) {
    write_line(&mut io::stderr().lock(), text);
}

/// Somebody else's text, such as a claim, so that nothing in it steers a terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_debug().collect() } else { String::from(c) };
    text.chars().map(escaped).collect()
}

fn write_line(to: &mut impl Write, text: &str) {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    let _closed = write!(to, "{text}{end}").and_then(|()| to.flush());
}
