//! Quotas, headroom, and what is refused before verification.

use super::*;
use crate::verify::Denied;

#[test]
fn a_principal_holds_grants_from_so_many_sources() {
    let mut host = Host::with(Limits { replay_entries: 10, ..LIMITS }, 100);
    let sources = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
    for (at, source) in sources.iter().enumerate() {
        host.bound(&token("alice", &at.to_string(), 600), source, &[web(30), ssh(30)]).unwrap();
    }
    let fourth = token("alice", "9", 600);
    assert_eq!(host.bound(&fourth, "192.0.2.4", &[web(30)]), Err(Refusal::TooManySources));
    assert_eq!(host.bound(&fourth, sources[0], &[web(30)]), Ok(()), "a source that it has already");
    assert_eq!(host.bound(&token("bob", "8", 600), "192.0.2.4", &[web(30)]), Ok(()), "somebody else");
    host.sleep(30);
    host.tick();
    assert_eq!(host.bound(&token("alice", "7", 600), "192.0.2.4", &[web(30)]), Ok(()), "the others have ended");
}

#[test]
fn p4_the_map_keeps_its_headroom_and_a_knock_opens_all_or_nothing() {
    let mut host = Host::with(LIMITS, 3);
    host.bound(&token("alice", "1", 600), "192.0.2.1", &[web(30), ssh(30)]).unwrap();
    let bob = token("bob", "2", 600);
    assert_eq!(host.bound(&bob, "192.0.2.2", &[web(30), ssh(30)]), Err(Refusal::GrantsFull));
    assert_eq!(host.map.len(), 2, "nothing half done");
    assert_eq!(host.bound(&bob, "192.0.2.2", &[web(30)]), Ok(()));
    let carol = token("carol", "3", 600);
    assert_eq!(host.bound(&carol, "192.0.2.3", &[web(30)]), Err(Refusal::GrantsFull));
    assert_eq!(host.bound(&carol, "192.0.2.1", &[web(30)]), Ok(()), "an entry that is there takes no new room");
    host.sleep(30);
    assert_eq!(host.bound(&bob, "192.0.2.2", &[web(30), ssh(30)]), Ok(()), "ended ones are swept first");
}

#[test]
fn a_service_with_a_wide_prefix_takes_one_entry_for_it() {
    let mut host = Host::new();
    let wide = Opening { prefix: PrefixWidths { v4: 24, v6: 64 }, ..web(30) };
    let alice = token("alice", "1", 600);
    for source in ["192.0.2.1", "2001:db8::1:2:3:4"] {
        host.bound(&alice, source, std::slice::from_ref(&wide)).unwrap();
    }
    host.bound(&token("bob", "2", 600), "192.0.2.200", std::slice::from_ref(&wide)).unwrap();
    assert_eq!(host.map.len(), 2);
    let networks: Vec<_> = host.gate.grants(host.now).iter().map(|view| view.source.to_string()).collect();
    assert_eq!(
        networks,
        ["192.0.2.0/24", "192.0.2.0/24", "2001:db8:0:0::/64".parse::<ipnet::IpNet>().unwrap().to_string().as_str()]
    );
}

#[test]
fn p5_what_waits_for_verification_is_bounded_and_places_come_back() {
    let mut host = Host::new();
    let mut jobs = Vec::new();
    for _ in 0..100 {
        jobs.extend(host.admit("192.0.2.1"));
    }
    // One worker has 64 jobs, and `limits.queue` wait.
    assert_eq!((jobs.len(), host.refused.len()), (64, 100 - 64 - LIMITS.queue as usize));
    assert!(host.refused.iter().all(|refusal| *refusal == Refusal::QueueFull));
    host.refused.clear();
    let [first, second, ..] = &jobs[..] else { panic!("two jobs at least") };
    let outcome = || Outcome::Denied(Denied { refusal: Refusal::BadSignature, issuer: None, who: None, rule: None });
    assert!(host.gate.conclude(first.clone(), SNAPSHOT, outcome(), host.now).is_none());
    assert!(host.gate.conclude(first.clone(), SNAPSHOT, outcome(), host.now).is_none(), "twice counts once");
    host.gate.abandon(second.id);
    host.run();
    assert_eq!(host.refused, [Refusal::BadSignature]);
    assert_eq!(std::iter::from_fn(|| host.gate.next_job()).count(), 2);
    assert_eq!(host.gate.next_job().map(|job| job.id), None, "two wait, and the worker has enough");
}

#[test]
fn p5_bare_knocks_have_a_budget_that_garbage_does_not_use_up() {
    let mut host = Host::with(Limits { bare_per_second: 2, queue: 100, ..LIMITS }, 100);
    for (bytes, source, expected) in [
        (&b"garbage"[..], "192.0.2.1", Some(Refusal::NotJws)),
        (b"a.b!.c", "192.0.2.1", Some(Refusal::BadBase64)),
        (&[b'a'; 1_233], "192.0.2.1", Some(Refusal::TooLong)),
        (b"a.b.c", "fe80::1", Some(Refusal::BadSource)),
        (b"a.b.c", "192.0.2.1", None),
        (b"a.b.c", "192.0.2.1", None),
        (b"a.b.c", "192.0.2.1", Some(Refusal::RateLimited)),
    ] {
        let before = host.refused.len();
        host.gate.admit(datagram(source, bytes, host.now), host.now);
        let job = host.gate.next_job();
        if let Some(job) = &job {
            host.gate.abandon(job.id);
        }
        host.run();
        assert_eq!((job.is_none(), host.refused.get(before).copied()), (expected.is_some(), expected));
    }
    host.sleep(1);
    assert!(host.admit("192.0.2.1").is_some());
}

#[test]
fn p5_strangers_get_ten_lines_a_second_and_every_refusal_is_counted() {
    let mut host = Host::new();
    for _ in 0..1_000 {
        host.gate.admit(datagram("192.0.2.1", b"?", host.now), host.now);
    }
    host.run();
    assert_eq!((host.refused.len(), host.events.len()), (1_000, 10));
    assert!(host.events.iter().all(|event| event.suppressed == 0 && event.reason == Some("not_jws")));
    host.sleep(1);
    host.gate.admit(datagram("192.0.2.1", b"?", host.now), host.now);
    host.run();
    assert_eq!(host.events[10].suppressed, 990);
}

#[test]
fn who_was_authenticated_is_in_the_log_once_a_second() {
    let mut host = Host::new();
    for jti in ["1", "2", "1", "1", "2"] {
        deny(&mut host, "alice", jti);
    }
    host.sleep(1);
    deny(&mut host, "alice", "1");
    deny(&mut host, "bob", "1");
    let lines: Vec<_> = host
        .events
        .iter()
        .map(|event| (event.principal.as_deref().unwrap(), event.token_id.as_deref().unwrap(), event.suppressed))
        .collect();
    assert_eq!(lines, [("corp:alice", "1", 0), ("corp:alice", "2", 0), ("corp:alice", "1", 3), ("corp:bob", "1", 0)]);
    assert_eq!(host.refused, [Refusal::DenyRule; 7], "each is counted");
    assert_eq!(
        serde_json::to_value(&host.events[2]).unwrap(),
        json!({
            "time": "2027-01-15T08:00:01.000Z", "event": "denied", "principal": "corp:alice", "issuer": "corp",
            "token_id": "1", "source": "192.0.2.1", "rule": "left", "reason": "deny_rule", "suppressed": 3,
        })
    );
}

fn deny(host: &mut Host, sub: &str, jti: &str) {
    let token = token(sub, jti, 60);
    let denied = Denied {
        refusal: Refusal::DenyRule,
        issuer: Some("corp".into()),
        who: Some(Who { principal: token.principal().clone(), token: token.id().clone() }),
        rule: Some("left".to_owned()),
    };
    let job = host.admit("192.0.2.1").unwrap();
    assert!(host.gate.conclude(job, SNAPSHOT, Outcome::Denied(denied), host.now).is_none());
    host.run();
}
