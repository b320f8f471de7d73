//! A controller that was killed, and the next over the same map: with its store, without, after another boot.

use super::*;
use crate::clock::BootTime;

const HERE: &str = "192.0.2.7";
const THERE: &str = "192.0.2.8";

#[test]
fn p6_after_a_restart_with_the_store_everything_is_as_it_was() {
    let mut host = Host::new();
    let (bound, once, open) = (token("alice", "1", 600), token("alice", "2", 600), token("bob", "3", 600));
    host.bound(&bound, HERE, &[web(30)]).unwrap();
    let once = SealedKnock { mode: ReplayMode::Once, ..SealedKnock::new(1, &once, host.now) };
    host.sealed(&once, HERE).unwrap();
    host.sealed(&SealedKnock::new(2, &open, host.now), HERE).unwrap();
    host.sleep(5);
    host.restart_with_store();
    assert_eq!(host.sealed(&once, HERE), Err(Refusal::KnockReplayed));
    assert_eq!(host.sealed(&SealedKnock { nonce: 3, ..once.clone() }, THERE), Err(Refusal::Replayed));
    assert_eq!(host.sealed(&SealedKnock { nonce: 4, ..once.clone() }, HERE), Ok(Taken::Repeated), "its grant lives");
    assert_eq!(host.bound(&bound, THERE, &[web(30)]), Err(Refusal::OtherSource));
    assert_eq!(host.sealed(&SealedKnock::new(5, &open, host.now), THERE), Err(Refusal::OtherSource));
    host.sleep(30);
    host.restart_with_store();
    assert_eq!(host.sealed(&SealedKnock { nonce: 6, time: host.now.unix, ..once }, HERE), Err(Refusal::Replayed));
    assert_eq!(
        host.sealed(&SealedKnock::new(7, &open, host.now), THERE),
        Ok(Taken::Granted),
        "nothing binds it any more"
    );
}

#[test]
fn p6_without_the_store_nothing_dated_before_the_start_is_accepted_or_answered() {
    let mut host = Host::new();
    let captured = SealedKnock::new(1, &token("alice", "1", 600), host.now);
    host.sealed(&captured, HERE).unwrap();
    let replies = host.replies.len();
    host.sleep(5);
    host.restart(Recovered::nothing(host.now));
    let unseen = SealedKnock { nonce: 2, ..captured.clone() };
    for knock in [&captured, &unseen] {
        assert_eq!(host.sealed(knock, HERE), Err(Refusal::BeforeStart));
        host.step(200);
        assert_eq!(host.sealed(knock, HERE), Err(Refusal::BeforeStart));
        host.step(3_400);
        assert_eq!(host.sealed(knock, HERE), Err(Refusal::ClockSkew));
        host.step(-3_600);
    }
    assert_eq!(host.replies.len(), replies);
    assert_eq!(host.once(&token("alice", "2", 600), HERE), Err(Refusal::BeforeStart));
    // A sender's clock that is ahead dates what was taken before the start after it.
    let mut ahead = SealedKnock::new(3, &token("alice", "3", 600), host.now);
    ahead.time = host.now.unix.after(Duration::from_secs(29));
    assert_eq!(host.sealed(&ahead, HERE), Err(Refusal::BeforeStart));
    ahead.time = host.now.unix.after(Duration::from_secs(290));
    assert_eq!(host.sealed(&ahead, HERE), Err(Refusal::BeforeStart));
    assert_eq!(host.replies.len(), replies);
    host.sleep(31);
    assert_eq!(host.sealed(&SealedKnock::new(4, &token("alice", "3", 600), host.now), HERE), Ok(Taken::Granted));
}

#[test]
fn p6_after_another_boot_what_is_dated_before_it_is_refused() {
    let mut host = Host::new();
    host.sleep(1_000);
    let captured = SealedKnock::new(1, &token("alice", "1", 9_000), host.now);
    // The host crashed 5 seconds ago, and the last of the store was lost.
    host.map.clear();
    host.sleep(5);
    host.now.boot = BootTime(4 * SECOND);
    host.restart(Recovered { floor: UnixTime::from_secs(START), origin: BootTime(0), ..Recovered::default() });
    assert_eq!(host.sealed(&captured, HERE), Err(Refusal::BeforeStart));
    assert_eq!(host.once(&token("alice", "2", 9_000), HERE), Err(Refusal::BeforeStart));
    host.sleep(30);
    assert_eq!(host.sealed(&SealedKnock::new(2, &token("alice", "1", 9_000), host.now), HERE), Ok(Taken::Granted));
}

#[test]
fn a_restart_knows_whose_grants_they_are() {
    let mut host = Host::with(Limits { replay_entries: 100, ..LIMITS }, 100);
    for (at, source) in ["192.0.2.1", "192.0.2.2", "192.0.2.3"].into_iter().enumerate() {
        host.sealed(&SealedKnock::new(at as u64, &token("alice", &at.to_string(), 600), host.now), source).unwrap();
    }
    host.bound(&token("bob", "b", 600), "192.0.2.1", &[web(60), ssh(60)]).unwrap();
    host.gate.add(ip("192.0.2.9"), &web(30), "root", host.now).unwrap();
    host.run();
    host.sleep(5);
    let before = host.gate.grants(host.now);
    host.restart_with_store();
    let after = host.gate.grants(host.now);
    let names = |views: &[GrantView]| -> Vec<_> {
        views
            .iter()
            .map(|view| (view.source, view.service.clone(), view.principal.clone(), view.token_id.clone(), view.until))
            .collect()
    };
    let (mut expected, found) = (names(&before), names(&after));
    for view in &mut expected {
        if view.2 == "root" {
            // Who added it is not kept.
            view.2 = "adopted".to_owned();
        }
    }
    assert_eq!(found, expected);
    assert_eq!(
        host.sealed(&SealedKnock::new(10, &token("alice", "9", 600), host.now), "192.0.2.4"),
        Err(Refusal::TooManySources),
        "the quota holds"
    );
    let denied = |token: &VerifiedToken, _, form| {
        (token.principal().subject == "bob" && form == Form::Bare).then(|| "left".to_owned())
    };
    host.gate.reload(SNAPSHOT, LIMITS, &BTreeSet::new(), &denied, host.now);
    host.run();
    assert_eq!((host.open("192.0.2.1", &ssh(0)), host.open("192.0.2.1", &web(0))), (0, 25), "bob is out, alice is not");
    let selector = Selector { principal: Some("corp:alice".to_owned()), ..Selector::default() };
    assert_eq!(host.gate.revoke(&selector, "root", host.now).leases, 3);
    host.run();
    assert_eq!(host.map.len(), 1);
    // What was revoked does not come back.
    host.restart_with_store();
    assert_eq!(host.gate.grants(host.now).iter().map(|view| view.principal.as_str()).collect::<Vec<_>>(), ["adopted"]);
}

#[test]
fn p3_an_adopted_lease_ends_no_later_than_the_map_says_or_its_exp() {
    let mut host = Host::new();
    host.sealed(
        &SealedKnock { openings: vec![web(600)], ..SealedKnock::new(1, &token("alice", "1", 300), host.now) },
        HERE,
    )
    .unwrap();
    assert_eq!(host.open(HERE, &web(0)), 300);
    host.step(200);
    host.restart_with_store();
    host.tick();
    assert_eq!(host.open(HERE, &web(0)), 100, "the clock went forward while nobody looked");
    for lease in host.disk.known.tokens.iter_mut().flat_map(|token| &mut token.leases) {
        lease.end.0 += 1_000 * SECOND;
    }
    host.restart_with_store();
    host.tick();
    assert_eq!(host.open(HERE, &web(0)), 100);
}

#[test]
fn p6_without_the_store_a_clock_set_back_makes_nothing_new_of_what_was_before_the_start() {
    let mut host = Host::new();
    let captured = SealedKnock::new(1, &token("alice", "1", 600), host.now);
    host.sealed(&captured, HERE).unwrap();
    host.sleep(5);
    host.restart(Recovered::nothing(host.now));
    host.step(-100);
    host.sleep(70);
    assert_eq!(host.sealed(&captured, THERE), Err(Refusal::BeforeStart), "by this clock it is dated after the start");
}

#[test]
fn p6_without_the_store_a_bare_token_from_before_the_start_is_bound_to_nobody() {
    let mut host = Host::new();
    let stolen = token("alice", "1", 600);
    assert_eq!(host.outcome(&stolen, ReplayMode::BindSource, HERE, &[web(30)]), Ok(()));
    host.sleep(5);
    host.restart(Recovered::nothing(host.now));
    for source in [HERE, "192.0.2.99"] {
        let refused = host.outcome(&stolen, ReplayMode::BindSource, source, &[web(30)]);
        assert_eq!(refused, Err(Refusal::BeforeStart), "{source}");
    }
    // A first start comes after nothing.
    host.restart(Recovered::first(host.now));
    assert_eq!(host.outcome(&stolen, ReplayMode::BindSource, HERE, &[web(30)]), Ok(()));
}

#[test]
fn p6_numbers_given_without_the_store_are_not_those_of_the_store() {
    let mut host = Host::new();
    let used = token("alice", "1", 600);
    host.once(&used, HERE).unwrap();
    let before = host.disk.known.clone();
    // It could not be opened at this start, and was opened later.
    host.sleep(1);
    host.restart(Recovered::nothing(host.now));
    host.bound(
        &Arc::new(VerifiedToken::for_tests(
            "corp",
            json!({
                "sub": "bob", "jti": "2", "iat": START + 5, "exp": START + 600
            }),
        )),
        HERE,
        &[web(30)],
    )
    .unwrap();
    assert_eq!(host.disk.known.tokens.len(), 2, "none took the other's place");
    host.disk.known = Recovered { tokens: host.disk.known.tokens.clone(), ..before };
    host.restart_with_store();
    assert_eq!(host.once(&used, HERE), Err(Refusal::Replayed));
}

#[test]
fn p6_a_lease_that_ends_while_its_token_is_renewed_does_not_take_the_use_with_it() {
    let mut host = Host::new();
    let token = token("alice", "1", 600);
    host.sealed(&SealedKnock::new(1, &token, host.now), HERE).unwrap();
    host.sleep(29);
    // The store takes its time: the lease ends before the answer.
    host.slow_disk = 2;
    assert_eq!(host.sealed(&SealedKnock::new(2, &token, host.now), HERE), Ok(Taken::Granted));
    host.slow_disk = 0;
    assert_eq!(host.sealed(&SealedKnock::new(3, &token, host.now), THERE), Err(Refusal::OtherSource));
    host.restart_with_store();
    assert_eq!(
        host.gate.grants(host.now).iter().map(|view| view.principal.as_str()).collect::<Vec<_>>(),
        ["corp:alice"]
    );
    assert_eq!(host.sealed(&SealedKnock::new(4, &token, host.now), THERE), Err(Refusal::OtherSource));
}

#[test]
fn p2_what_was_revoked_while_the_disk_was_full_does_not_come_back() {
    let mut host = Host::new();
    host.sealed(&SealedKnock::new(1, &token("alice", "1", 600), host.now), HERE).unwrap();
    host.sealed(&SealedKnock::new(2, &token("bob", "2", 600), host.now), HERE).unwrap();
    host.disk.is_full = true;
    let selector = Selector { principal: Some("corp:alice".to_owned()), ..Selector::default() };
    assert_eq!(host.gate.revoke(&selector, "root", host.now).leases, 1);
    host.run();
    host.disk.is_full = false;
    let names = |host: &Host| host.gate.grants(host.now).into_iter().map(|view| view.principal).collect::<Vec<_>>();
    let full = host.disk.clone();
    host.sleep(2);
    host.tick();
    // It was told again, and the store itself tells what it missed.
    assert!(host.disk.known.tokens.iter().all(|token| token.leases.is_empty() || token.id.to_string() == "2"));
    host.restart_with_store();
    assert_eq!(names(&host), ["adopted"], "after a failed write nobody's name is sure");
    host.disk = full;
    host.restart_with_store();
    assert_eq!(names(&host), ["adopted"]);
}

#[test]
fn p3_after_a_restart_each_lease_is_bounded_by_the_exp_of_its_own_token() {
    let mut host = Host::new();
    let (long, short) = (token("alice", "1", 6_000), token("alice", "1", 300));
    host.bound(&long, HERE, &[web(30)]).unwrap();
    host.bound(&short, HERE, &[ssh(600)]).unwrap();
    assert_eq!(host.open(HERE, &ssh(0)), 300);
    host.restart_with_store();
    host.step(200);
    host.tick();
    assert_eq!(host.open(HERE, &ssh(0)), 100);
}

#[test]
fn p3_what_the_clock_cut_short_stays_short_over_a_restart() {
    let mut host = Host::new();
    host.sealed(
        &SealedKnock { openings: vec![web(600)], ..SealedKnock::new(1, &token("alice", "1", 300), host.now) },
        HERE,
    )
    .unwrap();
    host.step(290);
    host.tick();
    let end = host.disk.known.tokens[0].leases[0].end;
    assert!(end <= BootTime(host.now.boot.0 + 10 * SECOND), "the store knows the end");
}

#[test]
fn p6_a_token_of_a_known_id_that_ends_later_takes_the_place_of_the_first() {
    let mut host = Host::new();
    for exp in [300, 6_000] {
        host.bound(&token("alice", "1", exp), HERE, &[web(30)]).unwrap();
    }
    let places: Vec<_> = host.disk.known.tokens.iter().map(|token| token.place.expires).collect();
    assert_eq!(places, [UnixTime::from_secs(START + 6_000)]);
    host.sleep(310);
    host.tick();
    host.disk.compact(host.now);
    host.restart_with_store();
    assert_eq!(host.bound(&token("alice", "1", 6_000), THERE, &[web(30)]), Err(Refusal::OtherSource));
}

#[test]
fn p2_a_bare_token_that_was_revoked_stays_used_and_its_lease_does_not_come_back() {
    let mut host = Host::new();
    for (sub, jti) in [("alice", "1"), ("bob", "2")] {
        host.bound(&token(sub, jti, 600), HERE, &[web(30)]).unwrap();
    }
    let selector = Selector { principal: Some("corp:alice".to_owned()), ..Selector::default() };
    assert_eq!(host.gate.revoke(&selector, "root", host.now).leases, 1);
    host.run();
    host.restart_with_store();
    assert_eq!(host.gate.grants(host.now).iter().map(|view| view.principal.as_str()).collect::<Vec<_>>(), ["corp:bob"]);
    assert_eq!(host.bound(&token("alice", "1", 600), THERE, &[web(30)]), Err(Refusal::OtherSource));
}

#[test]
fn p6_the_store_keeps_no_more_of_a_token_than_binds_it() {
    let mut host = Host::new();
    host.sealed(&SealedKnock::new(1, &token("alice", "1", 600), host.now), HERE).unwrap();
    host.bound(&token("bob", "2", 600), HERE, &[web(30)]).unwrap();
    assert_eq!(host.disk.known.tokens.len(), 2);
    // Nobody is in the map any more.
    host.map.clear();
    host.restart_with_store();
    let known: Vec<_> = host.disk.known.tokens.iter().map(|token| (token.id.to_string(), token.leases.len())).collect();
    assert_eq!(known, [("2".to_owned(), 0)]);
    host.sealed(&SealedKnock::new(3, &token("alice", "3", 600), host.now), HERE).unwrap();
    host.sleep(31);
    host.tick();
    assert_eq!(host.disk.known.tokens.len(), 1, "its lease has ended");
}

#[test]
fn p6_what_the_gate_forgot_the_store_does_not_take_for_unused() {
    let mut host = Host::new();
    let used = token("alice", "1", 40);
    host.once(&used, HERE).unwrap();
    host.step(443);
    // This one makes the gate forget the first, whose lease ends with it.
    host.bound(&token("bob", "2", 4_000), HERE, &[web(30)]).unwrap();
    host.tick();
    host.step(-443);
    host.restart_with_store();
    assert_eq!(host.once(&used, HERE), Err(Refusal::Expired));
}
