use std::{net::Ipv4Addr, process::Command, sync::Arc};

use serde_json::json;

use super::*;
use crate::token::{KeptToken, VerifiedToken};

const SECOND: u64 = 1_000_000_000;
const BOOT: &str = "11111111-1111-1111-1111-111111111111";
const NEXT_BOOT: &str = "22222222-2222-2222-2222-222222222222";

#[test]
fn p6_claims_are_there_after_the_process_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, recovered) = ReplayStore::open(dir.path(), BOOT, true, now(1_000)).unwrap();
    assert_eq!(recovered, Recovered::first(now(1_000)));
    let (nonce, token) = (nonce(1, 1_001), record(1, 1_600, vec![lease(30), lease(40)]));
    let records = [ClaimRecord::Nonce(nonce), ClaimRecord::Token(token.clone())];
    store.append(&records, now(1_001)).unwrap();
    // What another process reads of the files now is what a kill leaves behind: nothing else is with the kernel.
    let killed = copy(dir.path());
    let (_store, recovered) = ReplayStore::open(killed.path(), BOOT, true, now(1_010)).unwrap();
    assert_eq!(recovered, Recovered { nonces: vec![nonce], tokens: vec![token], ..Recovered::first(now(1_000)) });
}

#[test]
fn p6_a_later_use_of_a_token_takes_the_place_of_the_first_and_what_is_over_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = ReplayStore::open(dir.path(), BOOT, true, now(1_000)).unwrap();
    let first = record(1, 1_600, vec![lease(30)]);
    let second = TokenRecord { v6: Some("2001:db8::1".parse().unwrap()), leases: vec![], token: None, ..first.clone() };
    let place = TokenPlace { expires: unix(1_700), ..first.place };
    let third = TokenRecord { place, left: Some(first.place), ..second.clone() };
    let over = record(2, 1_600, vec![lease(30)]);
    for (records, expected) in [
        (vec![first.clone(), over.clone()], vec![first, over.clone()]),
        (vec![second.clone()], vec![second, over.clone()]),
        (vec![third.clone()], vec![over.clone(), TokenRecord { left: None, ..third.clone() }]),
        (vec![], vec![over.clone(), TokenRecord { left: None, ..third.clone() }]),
    ] {
        let records: Vec<_> = records.into_iter().map(ClaimRecord::Token).collect();
        store.append(&records, now(1_001)).unwrap();
        assert_eq!(store.tables.as_ref().unwrap().recover().unwrap().tokens, expected);
    }
    store.append(&[ClaimRecord::TokenOver(over.place)], now(1_001)).unwrap();
    drop(store);
    let (mut store, recovered) = ReplayStore::open(dir.path(), BOOT, true, now(1_010)).unwrap();
    assert_eq!((recovered.tokens, recovered.forgotten_token), (vec![TokenRecord { left: None, ..third }], unix(0)));
    for expires in [place.expires, unix(1_500)] {
        let place = TokenPlace { expires, ..place };
        store.append(&[ClaimRecord::TokenForgotten(place)], now(1_800)).unwrap();
    }
    drop(store);
    let (_store, recovered) = ReplayStore::open(dir.path(), BOOT, true, now(1_810)).unwrap();
    assert_eq!((recovered.tokens, recovered.forgotten_token), (vec![], unix(1_700)));
}

#[test]
fn p6_what_is_forgotten_leaves_a_mark() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = ReplayStore::open(dir.path(), BOOT, true, now(1_000)).unwrap();
    let records = [
        ClaimRecord::Nonce(nonce(1, 1_000)),
        ClaimRecord::Nonce(nonce(2, 1_001)),
        ClaimRecord::Token(record(1, 1_310, vec![])),
        ClaimRecord::Token(record(2, 1_311, vec![])),
    ];
    for record in &records {
        store.append([record], now(1_001)).unwrap();
    }
    // Nonces that were stored together are forgotten together, when all of them may be.
    store.append(&[nonce(3, 999), nonce(4, 1_001)].map(ClaimRecord::Nonce), now(1_001)).unwrap();
    store.compact(now(1_309)).unwrap();
    assert_eq!(store.tables.as_ref().unwrap().recover().unwrap().nonces.len(), 4, "not yet");
    store.compact(now(1_310)).unwrap();
    store.compact(now(1_310)).unwrap();
    drop(store);
    let (_store, recovered) = ReplayStore::open(dir.path(), BOOT, true, now(1_310)).unwrap();
    assert_eq!(recovered.nonces, [nonce(2, 1_001), nonce(3, 999), nonce(4, 1_001)]);
    assert_eq!(recovered.tokens, [record(2, 1_311, vec![])]);
    assert_eq!((recovered.forgotten_knock, recovered.forgotten_token), (unix(1_000), unix(1_310)));
}

#[test]
fn p6_after_another_boot_nothing_from_before_it_counts_and_no_lease_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = ReplayStore::open(dir.path(), BOOT, true, now(1_000)).unwrap();
    let (kept, freed) = (record(1, 9_000, vec![lease(30)]), record(2, 9_000, vec![lease(30)]));
    let freed = TokenRecord { until_exp: false, ..freed };
    store.append(&[ClaimRecord::Token(kept), ClaimRecord::Token(freed)], now(1_001)).unwrap();
    drop(store);
    for _ in 0..2 {
        let (_store, recovered) = ReplayStore::open(dir.path(), NEXT_BOOT, true, now(2_000)).unwrap();
        assert_eq!((recovered.floor, recovered.origin), (unix(1_000), BootTime(0)));
        assert_eq!((recovered.tokens, recovered.note), (vec![record(1, 9_000, vec![])], None));
    }
}

#[test]
fn p6_a_state_directory_that_has_seen_a_controller_is_no_first_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("services.json"), "{}").unwrap();
    let (_store, recovered) = ReplayStore::open(dir.path(), BOOT, true, now(1_000)).unwrap();
    assert_eq!(recovered, Recovered::nothing(now(1_000)));
}

#[test]
fn p6_a_store_that_is_gone_means_that_nothing_is_known() {
    let dir = tempfile::tempdir().unwrap();
    drop(ReplayStore::open(dir.path(), BOOT, true, now(1_000)).unwrap());
    fs::remove_dir_all(dir.path().join("replay")).unwrap();
    let (_store, recovered) = ReplayStore::open(dir.path(), BOOT, true, now(2_000)).unwrap();
    assert!(recovered.note.as_ref().unwrap().contains("is gone"));
    assert_eq!(recovered, Recovered { note: recovered.note.clone(), ..Recovered::nothing(now(2_000)) });
}

#[test]
fn p6_after_an_append_that_failed_the_next_start_accepts_nothing_from_before_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = ReplayStore::open(dir.path(), BOOT, true, now(1_000)).unwrap();
    let token = ClaimRecord::Token(record(1, 9_000, vec![lease(30)]));
    store.append(&[ClaimRecord::Nonce(nonce(1, 1_001)), token], now(1_001)).unwrap();
    // What a failed append leaves behind: no tables, which the next call opens anew.
    store.tables = None;
    fs::rename(dir.path().join("replay"), dir.path().join("away")).unwrap();
    fs::write(dir.path().join("replay"), "in the way").unwrap();
    store.append(&[ClaimRecord::Nonce(nonce(2, 1_001))], now(1_001)).unwrap_err();
    fs::remove_file(dir.path().join("replay")).unwrap();
    fs::rename(dir.path().join("away"), dir.path().join("replay")).unwrap();
    let retried = store.append(&[ClaimRecord::Nonce(nonce(3, 1_001))], now(1_001));
    assert!(retried.is_err(), "not at once");
    store.append(&[ClaimRecord::Nonce(nonce(3, 1_001))], now(1_002)).unwrap();
    drop(store);
    let (store, recovered) = ReplayStore::open(dir.path(), BOOT, true, now(1_010)).unwrap();
    assert_eq!((recovered.floor, recovered.origin), (unix(1_010), BootTime(10 * SECOND)));
    assert_eq!(recovered.nonces, [nonce(1, 1_001), nonce(3, 1_001)]);
    assert!(recovered.note.unwrap().contains("could not be written"));
    assert_eq!(recovered.tokens, [record(1, 9_000, vec![])], "it may have been revoked");
    drop(store);
    let (_store, recovered) = ReplayStore::open(dir.path(), BOOT, true, now(1_020)).unwrap();
    assert_eq!((recovered.floor, recovered.origin, recovered.note), (unix(1_010), BootTime(10 * SECOND), None));
}

#[test]
fn p6_a_damaged_store_is_an_error_and_stays_until_the_host_crashed() {
    for damage in
        [damage_journal as fn(&Path), cut_journal, |state| fs::write(state.join("replay/version"), "x").unwrap()]
    {
        let dir = filled();
        damage(dir.path());
        let error = ReplayStore::open(dir.path(), BOOT, true, now(2_000)).unwrap_err();
        assert!(matches!(error, ReplayStoreError::Damaged(..) | ReplayStoreError::Version(..)), "{error:?}");
        assert!(error.to_string().contains("remedy: "), "{error}");
        assert!(dir.path().join("replay").is_dir(), "nothing is thrown away");
    }
    let dir = filled();
    damage_journal(dir.path());
    let (_store, recovered) = ReplayStore::open(dir.path(), NEXT_BOOT, true, now(2_000)).unwrap();
    assert_eq!(recovered, Recovered { note: recovered.note.clone(), ..Recovered::nothing(now(2_000)) });
    assert!(recovered.note.unwrap().contains("replay.damaged"));
    assert!(dir.path().join("replay.damaged").is_dir());
}

#[test]
fn p6_a_foreign_header_is_an_error_with_a_remedy() {
    for (text, expected) in [
        ("{", "is damaged"),
        ("{}", "names no version"),
        (r#"{"version":1}"#, "is of version 1"),
        (r#"{"version":3}"#, "is damaged"),
    ] {
        let dir = filled();
        fs::write(dir.path().join("replay.json"), text).unwrap();
        let error = ReplayStore::open(dir.path(), BOOT, true, now(2_000)).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("remedy: "), "{error}");
    }
    let dir = filled();
    fs::remove_file(dir.path().join("replay.json")).unwrap();
    let error = ReplayStore::open(dir.path(), BOOT, true, now(2_000)).unwrap_err().to_string();
    assert!(error.contains("replay.json is missing"), "{error}");
}

/// A store with a thousand nonces, as a kill leaves it.
fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = ReplayStore::open(dir.path(), BOOT, true, now(1_000)).unwrap();
    for at in 0..1_000 {
        store.append(&[ClaimRecord::Nonce(nonce(at, 1_001))], now(1_001)).unwrap();
    }
    copy(dir.path())
}

fn journal(state: &Path) -> PathBuf {
    let files = fs::read_dir(state.join("replay")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "jnl")).max().unwrap()
}

fn damage_journal(state: &Path) {
    let path = journal(state);
    let mut bytes = fs::read(&path).unwrap();
    bytes[10_000..10_008].fill(0xff);
    fs::write(path, bytes).unwrap();
}

fn cut_journal(state: &Path) {
    fs::remove_file(journal(state)).unwrap();
}

fn copy(state: &Path) -> tempfile::TempDir {
    let copied = tempfile::tempdir().unwrap();
    let from = format!("{}/.", state.display());
    assert!(Command::new("cp").arg("-a").arg(from).arg(copied.path()).status().unwrap().success());
    copied
}

fn now(secs: u64) -> Now {
    Now { boot: BootTime((secs - 1_000) * SECOND), unix: unix(secs) }
}

fn unix(secs: u64) -> UnixTime {
    UnixTime::from_secs(secs)
}

fn nonce(number: u16, secs: u64) -> NonceUse {
    let mut nonce = [0; 16];
    nonce[..2].copy_from_slice(&number.to_be_bytes());
    NonceUse { nonce, time: unix(secs), group: 7 }
}

/// Of a token with leases its claims are known too.
fn record(number: u64, exp: u64, leases: Vec<StoredLease>) -> TokenRecord {
    let claims = json!({ "sub": "alice", "jti": number.to_string(), "exp": exp, "x": [1.5, null] });
    let token = VerifiedToken::for_tests("corp", claims);
    TokenRecord {
        place: TokenPlace { expires: unix(exp), number },
        left: None,
        id: token.id().clone(),
        offset_ns: -5,
        until_exp: true,
        v4: Some(Ipv4Addr::new(192, 0, 2, 7)),
        v6: None,
        token: (!leases.is_empty()).then(|| Arc::new(KeptToken::of(&token))),
        leases,
    }
}

fn lease(end: u64) -> StoredLease {
    StoredLease {
        prefix: [3; 16],
        service: end as u32,
        end: BootTime(end * SECOND),
        source: "192.0.2.7".parse().unwrap(),
        sealed: true,
    }
}

#[test]
fn p7_nobody_else_may_look_into_the_store() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
    drop(ReplayStore::open(dir.path(), BOOT, true, now(1_000)).unwrap());
    assert_eq!(mode("replay"), 0o700);
    fs::set_permissions(dir.path().join("replay"), fs::Permissions::from_mode(0o755)).unwrap();
    drop(ReplayStore::open(dir.path(), BOOT, true, now(1_010)).unwrap());
    assert_eq!(mode("replay"), 0o700);
}

#[test]
fn p6_a_store_beside_pins_is_never_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let (_store, recovered) = ReplayStore::open(dir.path(), BOOT, false, now(1_000)).unwrap();
    assert!(!recovered.is_first);
}

#[test]
fn p6_what_a_start_without_the_store_did_not_know_the_next_does_not_take_for_unused() {
    let dir = filled();
    let (mut store, recovered) = ReplayStore::unopened(dir.path(), BOOT, true, now(2_000));
    assert_eq!(recovered, Recovered::first(now(2_000)));
    store.append(&[ClaimRecord::Nonce(nonce(1, 2_001))], now(2_001)).unwrap();
    drop(store);
    let (_store, recovered) = ReplayStore::open(dir.path(), BOOT, true, now(2_010)).unwrap();
    assert_eq!((recovered.floor, recovered.origin, recovered.is_first), (unix(2_000), BootTime(1_000 * SECOND), false));
    assert_eq!(recovered.nonces.len(), 1_001);
}

#[test]
fn p6_rows_that_expired_before_one_that_was_forgotten_are_removed_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = ReplayStore::open(dir.path(), BOOT, true, now(1_000)).unwrap();
    let (earlier, later) = (record(1, 1_310, vec![]), record(2, 1_320, vec![]));
    let place = later.place;
    store.append(&[ClaimRecord::Token(earlier), ClaimRecord::Token(later)], now(1_001)).unwrap();
    store.append(&[ClaimRecord::TokenForgotten(place)], now(1_330)).unwrap();
    store.compact(now(1_330)).unwrap();
    let recovered = store.tables.as_ref().unwrap().recover().unwrap();
    assert_eq!((recovered.tokens, recovered.forgotten_token), (vec![], unix(1_320)));
}
