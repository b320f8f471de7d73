//! `tests/vectors/protocol`: made by the second writing, agreed with by the library, value by value. `JPAT_WRITE_VECTORS=1`
//! writes them anew.

pub(crate) mod case;
mod negative;
mod tokens;

use std::{fs, path::PathBuf};

use serde_json::Value;

use case::{cases, vector};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/protocol").join(format!("{name}.json"))
}

pub(crate) fn read(name: &str) -> Value {
    serde_json::from_slice(&fs::read(path(name)).unwrap()).unwrap()
}

fn is_written_anew() -> bool {
    std::env::var_os("JPAT_WRITE_VECTORS").is_some()
}

fn compare(name: &str, wanted: &Value) {
    let text = format!("{}\n", serde_json::to_string_pretty(wanted).unwrap());
    if is_written_anew() {
        fs::write(path(name), &text).unwrap();
    }
    assert!(fs::read_to_string(path(name)).unwrap() == text, "{name}.json is not what the generator says");
}

#[test]
fn p6_every_value_is_what_the_document_says() {
    for case in cases() {
        // ECDSA signatures are random: the one in the file is verified and kept.
        let kept = (!is_written_anew()).then(|| read(case.name));
        compare(case.name, &vector(&case, kept.as_ref()));
    }
}

#[test]
fn p6_the_library_agrees_with_every_vector() {
    for case in cases() {
        case::library_agrees(&case, &read(case.name));
    }
}

#[test]
fn p6_negative_vectors_are_refused_for_their_reason() {
    compare("negative", &negative::all());
    negative::library_agrees(&read("negative"));
}

#[test]
fn the_example_in_the_document_is_the_vector() {
    let document = include_str!("../../../docs/protocol.md");
    let packed: String = document.split_whitespace().collect();
    let vector = read("open-proof-jwk-ed25519");
    let mut count = 0;
    for part in ["server", "knock_key", "hpke", "inner", "proof", "reply"] {
        for (name, value) in vector[part].as_object().unwrap() {
            let Some(value) = value.as_str() else { continue };
            let value: String = value.split_whitespace().collect();
            assert!(packed.contains(&value), "{part}.{name}: {value}");
            count += 1;
        }
    }
    assert!(packed.contains(vector["datagram"].as_str().unwrap()) && count > 20, "{count}");
}
