//! P3: a grant ends on time.

use super::*;

const HERE: &str = "192.0.2.7";

#[test]
fn p3_a_grant_ends_at_the_first_of_ttl_exp_and_cap() {
    for (ttl, exp, expected) in [(30, 600, 30), (600, 30, 30), (30, 30, 30), (9_999, 99_999, 3_600), (9_999, 10, 10)] {
        let mut host = Host::new();
        host.bound(&token("alice", "1", exp), HERE, &[web(ttl)]).unwrap();
        assert_eq!(host.open(HERE, &web(0)), expected, "ttl {ttl}, exp {exp}");
        host.sleep(expected);
        assert_eq!(host.open(HERE, &web(0)), 0, "the data path ends it without the controller");
        host.tick();
        assert!(host.map.is_empty() && host.gate.poll_timeout().is_none());
        assert_eq!(host.story(), ["Granted -", "Expired -"]);
    }
}

#[test]
fn p3_a_token_that_expired_in_the_queue_opens_nothing() {
    let mut host = Host::new();
    host.sleep(10);
    assert_eq!(host.bound(&token("alice", "1", 10), HERE, &[web(30)]), Err(Refusal::Expired));
    assert!(host.map.is_empty());
}

#[test]
fn p3_a_clock_set_back_never_lengthens() {
    let mut host = Host::new();
    let token = token("alice", "1", 60);
    host.bound(&token, HERE, &[web(600)]).unwrap();
    host.step(-1_000);
    host.tick();
    assert_eq!(host.open(HERE, &web(0)), 60);
    host.sleep(10);
    host.bound(&token, HERE, &[web(600)]).unwrap();
    assert_eq!(host.open(HERE, &web(0)), 50, "nor does a renewal: exp became boot time once");
    host.sleep(50);
    host.tick();
    assert!(host.map.is_empty());
    assert_eq!(host.bound(&token, HERE, &[web(600)]), Err(Refusal::Expired), "nor a new grant after the end");
}

#[test]
fn p3_a_clock_set_forward_shortens_at_the_next_tick() {
    let mut host = Host::new();
    host.bound(&token("alice", "1", 60), HERE, &[web(600)]).unwrap();
    host.bound(&token("bob", "2", 600), "192.0.2.8", &[web(30)]).unwrap();
    host.sleep(5);
    host.step(40);
    host.tick();
    assert_eq!(host.open(HERE, &web(0)), 15);
    assert_eq!(host.open("192.0.2.8", &web(0)), 25, "a TTL does not depend on the wall clock");
    host.step(100);
    host.tick();
    assert_eq!(host.map.len(), 1, "exp has passed");
    host.step(-140);
    host.tick();
    assert_eq!(host.open(HERE, &web(0)), 0);
    assert_eq!(host.story(), ["Granted -", "Granted -", "Expired -"]);
}

#[test]
fn p3_a_clock_that_goes_back_and_forward_again_shortens() {
    let mut host = Host::new();
    host.bound(&token("alice", "1", 300), HERE, &[web(600)]).unwrap();
    host.step(-100);
    host.bound(&token("bob", "2", 300), "192.0.2.8", &[web(600)]).unwrap();
    assert_eq!(host.open("192.0.2.8", &web(0)), 400);
    host.tick();
    host.step(100);
    host.tick();
    assert_eq!(host.open("192.0.2.8", &web(0)), 300);
    assert_eq!(host.open(HERE, &web(0)), 300);
}

#[test]
fn p3_small_corrections_of_the_clock_do_not_rewrite_the_map() {
    let mut host = Host::new();
    host.bound(&token("alice", "1", 60), HERE, &[web(600)]).unwrap();
    host.now.unix.0 += 9_000_000;
    host.gate.handle_timeout(host.now);
    assert!(host.gate.next_command().is_none());
    host.now.unix.0 += 2_000_000;
    host.gate.handle_timeout(host.now);
    assert!(matches!(host.gate.next_command(), Some(Command::Write { knock: None, .. })));
}

#[test]
fn p3_ticks_come_every_second_while_there_are_leases() {
    let mut host = Host::new();
    assert_eq!(host.gate.poll_timeout(), None);
    host.bound(&token("alice", "1", 600), HERE, &[web(2)]).unwrap();
    for left in [1, 0] {
        let due = host.gate.poll_timeout().unwrap();
        assert_eq!(due, host.now.boot.after(TICK));
        host.sleep(1);
        host.tick();
        assert_eq!(host.map.len(), left);
    }
    assert_eq!(host.gate.poll_timeout(), None);
}

#[test]
fn p3_a_renewal_lengthens_up_to_exp_and_never_shortens() {
    let mut host = Host::new();
    let token = token("alice", "1", 50);
    host.bound(&token, HERE, &[web(30)]).unwrap();
    host.sleep(10);
    host.bound(&token, HERE, &[web(30)]).unwrap();
    assert_eq!(host.open(HERE, &web(0)), 30);
    host.bound(&token, HERE, &[web(5)]).unwrap();
    assert_eq!(host.open(HERE, &web(0)), 30, "a TTL made shorter does not cut");
    host.sleep(15);
    host.bound(&token, HERE, &[web(30)]).unwrap();
    assert_eq!(host.open(HERE, &web(0)), 25);
    // Of two in one moment one is told.
    assert_eq!(host.story(), ["Granted -", "Renewed -", "Renewed -"]);
    assert_eq!(
        host.accepted.iter().map(|accepted| accepted.result == Taken::Renewed).collect::<Vec<_>>(),
        [false, true, true, true]
    );
}
