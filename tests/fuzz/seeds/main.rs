//! Writes inputs to begin a search with: `seeds DIR` makes `DIR/TARGET/HASH`.

mod configurations;
mod frames;
mod keys;
mod messages;
mod tokens;

use std::{fs, io, path::Path};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use jpat_fuzz::MAX_INPUT;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args_os().nth(1).ok_or("seeds DIR")?;
    let directory = Path::new(&directory);
    write(&directory.join("wire"), frames::seeds())?;
    write(&directory.join("sealed"), messages::seeds())?;
    write(&directory.join("jwt"), tokens::seeds()?)?;
    write(&directory.join("jwks"), keys::seeds()?)?;
    write(&directory.join("config"), configurations::seeds()?)?;
    Ok(())
}

fn write(directory: &Path, seeds: Vec<Vec<u8>>) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for seed in seeds.iter().filter(|seed| seed.len() <= MAX_INPUT) {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, seed);
        let name: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(directory.join(name), seed)?;
    }
    Ok(())
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
