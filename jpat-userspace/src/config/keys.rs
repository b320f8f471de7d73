//! Keys that are in the file and that this version does not know.

use std::sync::LazyLock;

use serde_json::Value;
use toml::de::DeTable;

use super::{
    error::ConfigError,
    schema,
    source::{Source, join, tables},
};

/// Written once: making it takes longer than reading a file.
static SCHEMA: LazyLock<Value> = LazyLock::new(schema::inlined);

/// Reports and removes every key that the schema does not have.
pub(super) fn strip(root: &mut DeTable<'_>, source: &Source) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    strip_table(root, &SCHEMA, "", source, &mut errors);
    errors
}

fn strip_table(table: &mut DeTable<'_>, schema: &Value, path: &str, source: &Source, errors: &mut Vec<ConfigError>) {
    let Some(known) = schema.get("properties").and_then(Value::as_object) else { return };
    let mut unknown = Vec::new();
    for (name, value) in table.iter_mut() {
        let path = join(path, name.get_ref());
        let Some(inner) = known.get(&**name.get_ref()) else {
            let (message, remedy) = judge(name.get_ref(), known);
            errors.push(source.error_at(name.span().start, &path, message, remedy));
            unknown.push(name.get_ref().clone().into_owned());
            continue;
        };
        let inner = inner.get("items").unwrap_or(inner);
        for (path, table) in tables(value.get_mut(), &path) {
            strip_table(table, inner, &path, source, errors);
        }
    }
    unknown.iter().for_each(|name| drop(table.remove(name.as_str())));
}

fn judge(name: &str, known: &serde_json::Map<String, Value>) -> (String, String) {
    let remedy = match closest(name, known.keys().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known here: {}", known.keys().map(String::as_str).collect::<Vec<_>>().join(", ")),
    };
    ("unknown key".into(), remedy)
}

/// The candidate that a typing error most likely meant.
pub(super) fn closest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    let near = candidates.map(|candidate| (strsim::jaro_winkler(&name, &candidate.to_ascii_lowercase()), candidate));
    near.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, candidate)| candidate)
}
