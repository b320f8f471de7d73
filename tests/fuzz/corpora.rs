//! Every input that searches begin with, that one has found worth keeping, or that once showed a defect, through the target it is
//! for.

#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

#[path = "seeds/inputs/mod.rs"]
mod inputs;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use jpat_fuzz::{MAX_INPUT, TARGETS, Target};

/// What a corpus may weigh, so that nobody minds having it.
const MAX_FILES: usize = 300;
const MAX_BYTES: usize = 1 << 20;

fn files(kind: &str, target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(kind).join(target.name);
    let Ok(entries) = fs::read_dir(&directory) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let corpus = files("corpus", target);
    assert!(corpus.len() > 20, "{} inputs for {name}", corpus.len());
    let seeds = inputs::of(name).unwrap();
    assert!(seeds.len() > 50, "{} seeds for {name}", seeds.len());
    let named = |(path, bytes): (PathBuf, Vec<u8>)| (path.display().to_string(), bytes);
    let kept = corpus.into_iter().chain(files("regressions", target)).map(named);
    let seeds = seeds.into_iter().enumerate().map(|(at, bytes)| (format!("seed {at}"), bytes));
    for (input, bytes) in kept.chain(seeds) {
        // Named where it fails: the panic itself names no input.
        if let Err(panic) = std::panic::catch_unwind(|| (target.run)(&bytes)) {
            let why = panic.downcast_ref::<String>().cloned();
            let why = why.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            panic!("{input}: {}", why.unwrap_or_default());
        }
    }
}

#[test]
fn wire() {
    replay("wire");
}

#[test]
fn sealed() {
    replay("sealed");
}

#[test]
fn jwt() {
    replay("jwt");
}

#[test]
fn jwks() {
    replay("jwks");
}

#[test]
fn config() {
    replay("config");
}

/// A corpus is small, and each input is called by its hash, as libFuzzer does: nothing is there twice, nothing was edited.
#[test]
fn corpora_are_small_and_named_by_content() {
    let mut all = BTreeSet::new();
    for target in &TARGETS {
        let corpus = files("corpus", target);
        let total: usize = corpus.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(
            corpus.len() <= MAX_FILES && total <= MAX_BYTES,
            "{}: {} files, {total} bytes",
            target.name,
            corpus.len()
        );
        for (path, bytes) in corpus {
            assert!(bytes.len() <= MAX_INPUT, "{}: {} bytes", path.display(), bytes.len());
            let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &bytes);
            let name: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(path.file_name().unwrap().to_str(), Some(&*name), "{}", path.display());
            assert!(all.insert(path), "twice");
        }
    }
}

/// Bytes that nobody chose, in front of what somebody chose: no target minds.
#[test]
fn no_target_minds_the_inputs_of_another() {
    for target in &TARGETS {
        for other in &TARGETS {
            for (_, bytes) in files("corpus", other).iter().step_by(7) {
                (target.run)(bytes);
                (target.run)(&bytes[..bytes.len() / 2]);
            }
        }
    }
}
