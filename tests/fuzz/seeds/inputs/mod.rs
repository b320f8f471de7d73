//! Inputs to begin a search with; `mod.rs`, so that the test can include it by its path.

mod configurations;
mod frames;
mod keys;
mod messages;
mod tokens;

use std::{fs, io, path::Path};

use jpat_fuzz::MAX_INPUT;

/// The inputs of a target.
pub(crate) fn of(target: &str) -> io::Result<Vec<Vec<u8>>> {
    let mut seeds = match target {
        "wire" => frames::seeds(),
        "sealed" => messages::seeds(),
        "jwt" => tokens::seeds()?,
        "jwks" => keys::seeds()?,
        "config" => configurations::seeds()?,
        other => return Err(io::Error::other(format!("no seeds for `{other}`"))),
    };
    seeds.retain(|seed| seed.len() <= MAX_INPUT);
    Ok(seeds)
}

/// A file among the test vectors.
fn vector(path: &str) -> io::Result<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors").join(path))
}

/// Every string under `name`, at any depth.
fn strings<'j>(json: &'j serde_json::Value, name: &str, found: &mut Vec<&'j str>) {
    if let Some(members) = json.as_object() {
        found.extend(members.get(name).and_then(serde_json::Value::as_str));
        members.values().for_each(|value| strings(value, name, found));
    }
    json.as_array().into_iter().flatten().for_each(|value| strings(value, name, found));
}
