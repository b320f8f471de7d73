//! Sealed knocks: nonces, duplicates, bindings, verbs, replies, and a store that fails.

use super::*;

const HERE: &str = "192.0.2.7";
const THERE: &str = "192.0.2.8";
const HERE6: &str = "2001:db8::7";

#[test]
fn p6_a_nonce_is_used_up_by_the_first_who_brings_it_and_a_replay_is_never_answered() {
    let mut host = Host::new();
    let knock = SealedKnock::new(1, &token("alice", "1", 600), host.now);
    assert_eq!(host.sealed(&knock, HERE), Ok(Taken::Granted));
    assert_eq!(host.replies.len(), 1);
    for (source, wait) in [(HERE, 0), (THERE, 0), (HERE, 29), (HERE6, 270)] {
        host.sleep(wait);
        assert_eq!(host.sealed(&knock, source), Err(Refusal::KnockReplayed), "{source} {wait}");
    }
    // From here on its date is refused, and the nonce may be forgotten.
    for nonces in [1, 0] {
        host.sleep(6);
        assert_eq!(host.sealed(&knock, HERE), Err(Refusal::ClockSkew));
        assert_eq!((host.replies.len(), host.gate.nonces.len()), (1, nonces));
    }
}

#[test]
fn p1_p6_a_knock_that_the_filter_would_not_let_in_any_more_is_refused_in_silence() {
    const WINDOW: u64 = jpat_common::sealed::FILTER_WINDOW_MS * 1_000_000;
    const MS: u64 = 1_000_000;
    let mut host = Host::new();
    host.sleep(1_000);
    let now = host.now.unix.0;
    let dates = [now - WINDOW - MS, now - WINDOW, now + WINDOW, now + WINDOW + MS];
    for (nonce, (date, replies)) in (1..).zip(dates.into_iter().zip([0, 1, 2, 2])) {
        let knock =
            SealedKnock { time: UnixTime(date), ..SealedKnock::new(nonce, &token("alice", "1", 9_000), host.now) };
        assert_eq!(host.sealed(&knock, HERE), Err(Refusal::ClockSkew));
        assert_eq!((host.replies.len(), host.gate.nonces.len()), (replies, replies), "{nonce}");
    }
}

#[test]
fn p6_a_refused_knock_is_answered_once_and_opens_nothing_when_its_time_has_come() {
    let mut host = Host::new();
    let early = SealedKnock {
        time: host.now.unix.after(Duration::from_secs(94)),
        ..SealedKnock::new(1, &token("alice", "1", 600), host.now)
    };
    assert_eq!(host.sealed(&early, HERE), Err(Refusal::ClockSkew));
    assert_eq!(host.replies, [reply::Outcome::Refused("clock_skew".to_owned())]);
    host.sleep(94);
    assert_eq!(host.sealed(&early, HERE), Err(Refusal::KnockReplayed), "in time now");
    let expired = SealedKnock::new(2, &token("alice", "2", 90), host.now);
    assert_eq!(host.sealed(&expired, HERE), Err(Refusal::Expired));
    host.step(-10);
    assert_eq!(host.sealed(&expired, HERE), Err(Refusal::KnockReplayed), "not expired any more");
    assert_eq!(host.replies.len(), 1, "whose token does not hold gets no answer");
    assert!(host.map.is_empty());
}

#[test]
fn p6_a_clock_set_back_or_forth_makes_no_nonce_new() {
    for steps in [vec![-200], vec![200], vec![3_600, -3_600], vec![-3_600, 3_600], vec![400, -100], vec![-400, 500]] {
        let mut host = Host::new();
        host.sleep(4_000);
        let knock = SealedKnock::new(1, &token("alice", "1", 9_000), host.now);
        assert_eq!(host.sealed(&knock, HERE), Ok(Taken::Granted));
        for step in &steps {
            host.step(*step);
            // Another knock makes the gate forget what it may.
            host.send(&SealedKnock::new(2, &token("bob", "2", 90_000), host.now), THERE);
            let replies = host.replies.len();
            let refusal = host.sealed(&knock, HERE).unwrap_err();
            let expected = [Refusal::KnockReplayed, Refusal::BeforeStart, Refusal::ClockSkew];
            assert!(expected.contains(&refusal) && host.replies.len() == replies, "{steps:?}: {refusal}");
        }
    }
}

#[test]
fn p6_nonces_are_bounded_by_rate_and_window_for_each_group() {
    let mut host = Host::with(Limits { knocks_per_second: 1, replay_entries: 10_000, ..LIMITS }, 100);
    let mut number = 0;
    let mut fill = |host: &mut Host, group| {
        let knock = SealedKnock { group, ..SealedKnock::new(number, &token("alice", "1", 600_000), host.now) };
        number += 1;
        host.sealed(&knock, HERE)
    };
    // As fast as the budget lets them in, and for as long: never full.
    for _ in 0..2_000 {
        host.sleep(1);
        fill(&mut host, 1).unwrap();
    }
    assert!(host.gate.nonces.len() <= 312, "{}", host.gate.nonces.len());
    // A rate that is lowered leaves more than its share: refused, not forgotten, and of that group alone.
    host.gate.nonces.set_rate(0);
    host.sleep(1);
    assert_eq!(fill(&mut host, 1), Err(Refusal::ReplayFull));
    let before = host.replies.len();
    assert_eq!(before, 2_000, "a knock that could not be remembered is not answered");
    host.gate.nonces.set_rate(1);
    host.sleep(1);
    assert!(fill(&mut host, 2).is_ok());
}

#[test]
fn p6_once_a_sealed_repeat_gives_the_grant_back_and_extends_nothing() {
    let mut host = Host::new();
    let first = token("alice", "1", 600);
    let once = |nonce, host: &Host| SealedKnock { mode: ReplayMode::Once, ..SealedKnock::new(nonce, &first, host.now) };
    assert_eq!(host.sealed(&once(1, &host), HERE), Ok(Taken::Granted));
    let end = host.now.unix.after(Duration::from_secs(30));
    host.sleep(10);
    assert_eq!(host.sealed(&once(2, &host), HERE), Ok(Taken::Repeated));
    let told = reply::Outcome::Done { services: vec![("web".to_owned(), end)], repeated: true };
    assert_eq!((host.replies.last(), host.open(HERE, &web(0))), (Some(&told), 20));
    assert_eq!(host.sealed(&once(3, &host), THERE), Err(Refusal::Replayed), "another address");
    assert_eq!(host.sealed(&once(4, &host), HERE6), Ok(Taken::Repeated), "the other family");
    assert_eq!((host.replies.last(), host.open(HERE6, &web(0))), (Some(&told), 20));
    assert_eq!(host.sealed(&once(5, &host), "2001:db8::8"), Err(Refusal::Replayed));
    assert_eq!(host.once(&first, HERE), Err(Refusal::Replayed), "bare, it may be a replay");
    host.sleep(20);
    assert_eq!(host.sealed(&once(6, &host), HERE), Err(Refusal::Replayed), "the grant has ended");
    let repeats = host.story().into_iter().filter(|line| line.starts_with("Repeated")).count();
    assert_eq!((repeats, host.refused.len()), (1, 4), "no denial");
}

#[test]
fn p6_what_a_sealed_knock_binds_is_free_when_the_last_grant_has_ended() {
    let mut host = Host::new();
    let alice = token("alice", "1", 600);
    let mut number = 0;
    let mut knock = |host: &mut Host, source| {
        number += 1;
        let knock = SealedKnock::new(number, &alice, host.now);
        host.sealed(&knock, source)
    };
    assert_eq!(knock(&mut host, HERE), Ok(Taken::Granted));
    assert_eq!(knock(&mut host, THERE), Err(Refusal::OtherSource));
    assert_eq!(knock(&mut host, HERE6), Ok(Taken::Granted), "the other family");
    host.sleep(20);
    assert_eq!(knock(&mut host, HERE), Ok(Taken::Renewed));
    assert_eq!(host.open(HERE, &web(0)), 30);
    host.sleep(29);
    assert_eq!(knock(&mut host, THERE), Err(Refusal::OtherSource));
    host.sleep(1);
    assert_eq!(knock(&mut host, THERE), Ok(Taken::Granted), "nothing is left");
    assert_eq!(knock(&mut host, HERE), Err(Refusal::OtherSource));
    assert_eq!(host.bound(&alice, THERE, &[web(30)]), Ok(()), "bare");
    host.sleep(60);
    assert_eq!(knock(&mut host, HERE), Err(Refusal::OtherSource), "bound bare, so until exp");
}

#[test]
fn p6_under_proof_a_token_moves_with_its_key_and_its_clock_is_read_once() {
    let mut host = Host::new();
    let alice = token("alice", "1", 100);
    let proof = |nonce, host: &Host| SealedKnock {
        mode: ReplayMode::Proof,
        openings: vec![web(90)],
        ..SealedKnock::new(nonce, &alice, host.now)
    };
    assert_eq!(host.sealed(&proof(1, &host), HERE), Ok(Taken::Granted));
    assert_eq!(host.sealed(&proof(2, &host), THERE), Ok(Taken::Granted));
    host.sleep(50);
    host.step(-40);
    // 40 s more are left by the clock that was set back, not by the one that read `exp`.
    assert_eq!(host.sealed(&proof(3, &host), HERE), Ok(Taken::Renewed));
    assert_eq!(host.open(HERE, &web(0)), 50);
}

#[test]
fn renew_is_for_whoever_has_something_open_from_here() {
    let mut host = Host::new();
    let (alice, next) = (token("alice", "1", 600), token("alice", "2", 600));
    let renew = |nonce, token: &Arc<VerifiedToken>, host: &Host| SealedKnock {
        verb: Verb::Renew,
        ..SealedKnock::new(nonce, token, host.now)
    };
    assert_eq!(host.sealed(&renew(1, &alice, &host), HERE), Err(Refusal::NotOpen));
    assert_eq!(host.sealed(&SealedKnock::new(2, &alice, host.now), HERE), Ok(Taken::Granted));
    assert_eq!(host.sealed(&renew(3, &alice, &host), HERE), Ok(Taken::Renewed));
    assert_eq!(host.sealed(&renew(4, &next, &host), THERE), Err(Refusal::NotOpen), "another address");
    assert_eq!(host.sealed(&renew(5, &token("bob", "3", 600), &host), HERE), Err(Refusal::NotOpen), "somebody else");
    assert_eq!(
        host.sealed(&renew(6, &next, &host), HERE),
        Ok(Taken::Granted),
        "the same principal, with its next token"
    );
    host.sleep(30);
    assert_eq!(host.sealed(&renew(7, &alice, &host), HERE), Err(Refusal::NotOpen), "it has ended");
}

#[test]
fn close_gives_back_ones_own_leases_and_leaves_flows_to_their_mode() {
    let mut host = Host::new();
    let (alice, bob) = (token("alice", "1", 600), token("bob", "2", 600));
    let open = |nonce, token: &Arc<VerifiedToken>, host: &Host| SealedKnock {
        openings: vec![web(30), ssh(30)],
        ..SealedKnock::new(nonce, token, host.now)
    };
    let close = |nonce, names: &[&str], host: &Host| SealedKnock {
        verb: Verb::Close,
        wanted: (!names.is_empty()).then(|| names.iter().map(|name| (*name).to_owned()).collect()),
        ..SealedKnock::new(nonce, &alice, host.now)
    };
    host.sealed(&open(1, &alice, &host), HERE).unwrap();
    host.sealed(&open(2, &bob, &host), HERE).unwrap();
    host.flows.insert(lease::key(&web(0), ip(HERE)), 1);
    host.gate.handle_flows(host.flows.clone(), host.now.boot);
    let told = |names: &[&str], repeated| reply::Outcome::Done {
        services: names.iter().map(|name| ((*name).to_owned(), UnixTime(0))).collect(),
        repeated,
    };
    for (nonce, source, names, closed, repeated) in [
        (3, THERE, &[][..], &[][..], true),
        (4, HERE, &["ssh"], &["ssh"], false),
        (5, HERE, &[], &["web"], false),
        (6, HERE, &[], &[], true),
    ] {
        assert_eq!(host.sealed(&close(nonce, names, &host), source), Ok(Taken::Closed));
        assert_eq!(host.replies.last(), Some(&told(closed, repeated)), "{nonce}");
    }
    assert_eq!((host.open(HERE, &web(0)), host.open(HERE, &ssh(0))), (30, 30), "bob's");
    assert_eq!(host.flows.len(), 1, "as at the end of a grant");
    let revoked: Vec<_> = host.story().into_iter().filter(|line| line.starts_with("Revoked")).collect();
    assert_eq!(revoked, ["Revoked closed"; 2]);
    // What was given back binds no more, and a token that was used once stays used.
    assert_eq!(host.sealed(&open(7, &alice, &host), THERE), Ok(Taken::Granted));
    let once = SealedKnock { mode: ReplayMode::Once, ..open(8, &token("carol", "3", 600), &host) };
    host.sealed(&once, HERE).unwrap();
    host.sealed(&SealedKnock { nonce: 9, verb: Verb::Close, ..once.clone() }, HERE).unwrap();
    assert_eq!(host.sealed(&SealedKnock { nonce: 10, ..once }, HERE), Err(Refusal::Replayed));
}

#[test]
fn p4_p6_a_store_that_fails_opens_nothing_and_uses_no_token_up() {
    let mut host = Host::new();
    let once = token("alice", "1", 600);
    host.disk.is_full = true;
    assert_eq!(host.once(&once, HERE), Err(Refusal::StoreFailed));
    let knock = SealedKnock { mode: ReplayMode::Once, ..SealedKnock::new(1, &once, host.now) };
    assert_eq!(host.sealed(&knock, HERE), Err(Refusal::StoreFailed));
    assert_eq!(host.replies, [reply::Outcome::Refused("store_failed".to_owned())]);
    assert!(host.map.is_empty() && host.accepted.is_empty());
    host.disk.is_full = false;
    assert_eq!(host.sealed(&knock, HERE), Err(Refusal::KnockReplayed), "a nonce stays used up");
    assert_eq!(host.sealed(&SealedKnock { nonce: 3, ..knock }, HERE), Ok(Taken::Granted));
}

#[test]
fn p4_a_reply_never_tells_of_a_grant_that_the_map_did_not_take() {
    let mut host = Host::new();
    host.full_map = Some(lease::key(&ssh(0), ip(HERE)));
    let knock =
        SealedKnock { openings: vec![web(30), ssh(30)], ..SealedKnock::new(1, &token("alice", "1", 600), host.now) };
    host.send(&knock, HERE);
    assert_eq!(host.replies, [reply::Outcome::Refused("write_failed".to_owned())]);
    assert_eq!(host.refused, [Refusal::WriteFailed]);
}

#[test]
fn p1_only_a_sealed_knock_that_authenticates_is_answered() {
    let mut host = Host::new();
    let alice = token("alice", "1", 600);
    host.bound(&alice, HERE, &[web(30)]).unwrap();
    let knock = SealedKnock::new(1, &alice, host.now);
    let judged = knock.judged(host.now);
    let sealed = judged.sealed.unwrap();
    let unknown = Denied { refusal: Refusal::BadSignature, issuer: None, who: None, rule: None };
    let known = Denied {
        refusal: Refusal::WrongAudience,
        who: Some(Who { principal: alice.principal().clone(), token: alice.id().clone() }),
        ..unknown.clone()
    };
    for (denied, accepted, nonces) in [(unknown, false, 0), (known, false, 1)] {
        let job = host.admit(HERE).unwrap();
        let sealed = Some(Box::new(Sealed { accepted, ..Sealed::clone(&sealed) }));
        let judged = Judged { outcome: Outcome::Denied(denied), sealed };
        assert!(host.gate.conclude(job, SNAPSHOT, judged, host.now).is_none());
        host.run();
        assert_eq!((host.replies.len(), host.gate.nonces.len()), (0, nonces));
    }
}
