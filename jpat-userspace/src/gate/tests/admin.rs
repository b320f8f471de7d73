//! Shared addresses, revocation, reload, restart.

use super::*;

const NAT: &str = "203.0.113.1";

#[test]
fn two_principals_behind_one_address_hold_one_entry_and_keep_their_own_ends() {
    for (revoked, left) in [("corp:alice", 30), ("corp:bob", 60), ("corp:carol", 60)] {
        let mut host = Host::new();
        host.bound(&token("alice", "1", 600), NAT, &[web(60)]).unwrap();
        host.bound(&token("bob", "2", 600), NAT, &[web(30)]).unwrap();
        assert_eq!((host.map.len(), host.open(NAT, &web(0))), (1, 60));
        let selector = Selector { principal: Some(revoked.to_owned()), ..Selector::default() };
        let count = host.gate.revoke(&selector, "root", host.now).leases;
        host.run();
        assert_eq!((count, host.open(NAT, &web(0))), (usize::from(revoked != "corp:carol"), left), "{revoked}");
    }
}

#[test]
fn a_lease_is_of_one_token_so_that_it_can_be_closed_alone() {
    let mut host = Host::new();
    host.bound(&token("alice", "1", 600), NAT, &[web(60)]).unwrap();
    host.bound(&token("alice", "2", 600), NAT, &[web(30)]).unwrap();
    let selector = |id: &str| Selector { token_id: Some(id.to_owned()), ..Selector::default() };
    for (id, left) in [("1", 30), ("2", 0)] {
        assert_eq!(host.gate.revoke(&selector(id), "root", host.now).leases, 1);
        host.run();
        assert_eq!(host.open(NAT, &web(0)), left);
    }
    assert!(host.map.is_empty() && host.gate.poll_timeout().is_none());
    assert_eq!(host.story(), ["Granted -", "Granted -", "Revoked admin", "Revoked admin"]);
}

#[test]
fn a_selector_matches_everything_it_names_and_an_empty_one_nothing() {
    let net = |text: &str| Some(text.parse().unwrap());
    let name = |text: &str| Some(text.to_owned());
    for (selector, expected) in [
        (Selector::default(), 0),
        (Selector { source: net("192.0.2.0/24"), ..Selector::default() }, 2),
        (Selector { source: net("192.0.2.1/32"), service: Some(WEB), ..Selector::default() }, 1),
        (Selector { service: Some(WEB), ..Selector::default() }, 2),
        (Selector { service: Some(WEB), principal: name("corp:alice"), ..Selector::default() }, 1),
        (Selector { principal: name("corp:alice"), token_id: name("2"), ..Selector::default() }, 0),
        (Selector { source: net("10.1.2.3/32"), ..Selector::default() }, 1),
        (Selector { source: net("10.1.3.3/32"), ..Selector::default() }, 0),
    ] {
        let mut host = Host::new();
        host.bound(&token("alice", "1", 600), "192.0.2.1", &[web(30), ssh(30)]).unwrap();
        host.bound(&token("bob", "2", 600), "198.51.100.7", &[web(30)]).unwrap();
        let wide = Opening { prefix: PrefixWidths { v4: 24, v6: 64 }, ..opening(3, "wide", 30) };
        host.bound(&token("carol", "3", 600), "10.1.2.200", &[wide]).unwrap();
        assert_eq!(host.gate.revoke(&selector, "root", host.now).leases, expected, "{selector:?}");
        host.run();
        assert_eq!(host.map.len(), 4 - expected);
    }
}

#[test]
fn an_admin_adds_grants_within_the_same_bounds() {
    let mut host = Host::with(LIMITS, 1);
    let view = host.gate.add(ip(NAT), &web(99_999), "root", host.now).unwrap();
    host.run();
    assert_eq!((view.principal.as_str(), view.remaining), ("root", MAX_TTL));
    assert_eq!(host.open(NAT, &web(0)), 3_600);
    assert_eq!(host.gate.add(ip("192.0.2.1"), &web(30), "root", host.now), Err(Refusal::GrantsFull));
    assert_eq!(host.gate.add(ip("169.254.1.1"), &web(30), "root", host.now), Err(Refusal::BadSource));
    host.sleep(10);
    host.step(100_000);
    host.tick();
    assert_eq!(host.open(NAT, &web(0)), 3_590, "no exp, so no wall clock");
    assert_eq!(
        serde_json::to_value(host.gate.grants(host.now)).unwrap(),
        json!([{
            "source": "203.0.113.1/32", "service": "web", "service_id": 1, "principal": "root",
            "until": "2027-01-16T12:46:40.000Z", "remaining_ms": 3_590_000, "flows": 0,
        }])
    );
}

#[test]
fn a_flush_raises_the_generation_before_it_deletes() {
    let mut host = Host::new();
    host.bound(&token("alice", "1", 600), NAT, &[web(60), ssh(60)]).unwrap();
    assert_eq!(host.gate.flush("root", host.now), 8);
    assert!(matches!(host.gate.next_command(), Some(Command::SetGeneration(8))));
    host.generation = 8;
    assert_eq!(host.open(NAT, &web(0)), 0, "revoked before any entry is deleted");
    host.run();
    assert!(host.map.is_empty() && host.gate.grants(host.now).is_empty());
    host.bound(&token("alice", "1", 600), NAT, &[web(60)]).unwrap();
    assert_eq!(host.open(NAT, &web(0)), 60, "the next knock opens in the new generation");
    assert_eq!(host.story(), ["Granted -", "Granted -", "Revoked flush", "Revoked flush", "Granted -"]);
}

#[test]
fn p4_a_start_adopts_live_grants_and_deletes_the_rest() {
    let mut host = Host::with(LIMITS, 2);
    let at = |secs: u64| host.now.boot.0 + secs * SECOND;
    let mut entries = vec![
        (lease::key(&web(0), ip("192.0.2.1")), GrantValue::new(at(60), 7)),
        (lease::key(&web(0), ip("192.0.2.2")), GrantValue::new(at(0), 7)),
        (lease::key(&web(0), ip("192.0.2.3")), GrantValue::new(at(60), 6)),
        (lease::key(&web(0), ip("192.0.2.4")), GrantValue::new(at(3_601), 7)),
        (lease::key(&opening(9, "gone", 0), ip("192.0.2.5")), GrantValue::new(at(60), 7)),
        (lease::key(&ssh(0), ip("2001:db8::6")), GrantValue::new(at(20), 7)),
        (lease::key(&web(0), ip("192.0.2.7")), GrantValue::new(at(60), 7)),
    ];
    let wide = Opening { prefix: PrefixWidths { v4: 24, v6: 64 }, ..opening(3, "wide", 0) };
    // Written when the service's prefix was narrower: under today's mask nothing would find it.
    entries.insert(0, (lease::key(&opening(3, "wide", 0), ip("192.0.2.8")), GrantValue::new(at(60), 7)));
    host.map = entries.iter().copied().collect();
    host.usable = 100;
    host.gate.adopt(entries, &[web(30), ssh(30), wide], host.now);
    host.run();
    host.usable = 2;
    assert_eq!(host.map.len(), 2);
    assert_eq!((host.open("192.0.2.1", &web(0)), host.open("2001:db8::6", &ssh(0))), (60, 20));
    assert_eq!(host.story(), ["Revoked not_adopted"; 3], "those that were live: gone, narrower, and one too many");
    assert!(host.gate.grants(host.now).iter().all(|view| view.principal == "adopted"));

    host.sleep(20);
    host.tick();
    assert_eq!(host.map.len(), 1, "adopted leases end as well");
    host.bound(&token("alice", "1", 600), "192.0.2.1", &[web(10)]).unwrap();
    assert_eq!(host.open("192.0.2.1", &web(0)), 40, "a knock does not cut what was adopted");
}

#[test]
fn a_reload_sends_outcomes_of_the_old_snapshot_back() {
    let mut host = Host::new();
    let job = host.admit(NAT).unwrap();
    host.gate.reload(2, LIMITS, &BTreeSet::new(), &|_, _, _| None, host.now);
    let token = token("alice", "1", 600);
    let outcome = || allowed(&token, ReplayMode::Once, &[web(30)]);
    let again = host.gate.conclude(job, SNAPSHOT, outcome(), host.now).expect("to be verified again");
    host.run();
    assert!(host.map.is_empty() && host.refused.is_empty());
    assert_eq!(host.gate.conclude(again, 2, outcome(), host.now).map(|job| job.id), None);
    host.run();
    assert_eq!(host.open(NAT, &web(0)), 30);
}

#[test]
fn a_reload_revokes_changed_services_and_what_a_deny_rule_matches() {
    let mut host = Host::new();
    host.bound(&token("alice", "1", 600), NAT, &[web(60), ssh(60)]).unwrap();
    host.bound(&token("bob", "2", 600), NAT, &[web(30)]).unwrap();
    host.gate.add(ip(NAT), &web(10), "root", host.now).unwrap();
    let denied = |token: &VerifiedToken, source: IpAddr, _| {
        assert_eq!(source, ip(NAT));
        (token.principal().subject == "alice").then(|| "left".to_owned())
    };
    host.run();
    host.story();
    host.gate.reload(2, LIMITS, &BTreeSet::from([SSH]), &denied, host.now);
    host.run();
    assert_eq!((host.open(NAT, &ssh(0)), host.open(NAT, &web(0))), (0, 30));
    assert_eq!(host.events[1].rule.as_deref(), Some("left"));
    assert_eq!(host.story(), ["Revoked service_changed", "Revoked deny_rule"]);
}

#[test]
fn p4_a_write_that_failed_opens_nothing_and_is_counted_as_refused() {
    let mut host = Host::new();
    let token = token("alice", "1", 600);
    let job = host.admit(NAT).unwrap();
    assert!(host.gate.conclude(job, SNAPSHOT, allowed(&token, ReplayMode::Once, &[web(30)]), host.now).is_none());
    host.full_map = Some(lease::key(&web(30), ip(NAT)));
    host.run();
    assert!(host.map.is_empty() && host.gate.grants(host.now).is_empty() && host.accepted.is_empty());
    assert_eq!(host.refused, [Refusal::WriteFailed]);
    assert_eq!(host.story(), ["Granted -", "Revoked write_failed"]);
    assert_eq!(host.once(&token, NAT), Err(Refusal::Replayed), "the token was seen on the wire");
}
