//! Flows outlive their grant, and nothing that revokes it.

use super::*;

const NAT: &str = "203.0.113.1";
const HOME: &str = "192.0.2.7";

impl Host {
    /// Connections are opened under a grant, which must be live.
    fn connect(&mut self, source: &str, service: &Opening, count: usize) {
        assert!(self.open(source, service) > 0, "no grant, no flow");
        *self.flows.entry(lease::key(service, ip(source))).or_default() += count;
    }

    fn flows(&self, source: &str, service: &Opening) -> usize {
        self.flows.get(&lease::key(service, ip(source))).copied().unwrap_or(0)
    }

    /// Somebody looks at the flow map and tells.
    fn look(&mut self) {
        self.gate.handle_flows(self.flows.clone(), self.now.boot);
        self.run();
    }

    /// A live connection under a grant that ended ten seconds ago.
    fn outlived(principal: &str, source: &str) -> Self {
        let mut host = Self::new();
        host.bound(&token(principal, "1", 600), source, &[web(30)]).unwrap();
        host.connect(source, &web(0), 2);
        host.look();
        host.sleep(40);
        host.tick();
        host.look();
        host.run();
        host.story();
        host
    }

    fn revoke(&mut self, selector: &Selector) -> Revoked {
        let revoked = self.gate.revoke(selector, "root", self.now);
        self.run();
        revoked
    }
}

fn of(principal: &str) -> Selector {
    Selector { principal: Some(principal.to_owned()), ..Selector::default() }
}

const fn found(leases: usize, outlived: usize) -> Revoked {
    Revoked { leases, outlived }
}

#[test]
fn p4_the_end_of_a_grant_and_its_renewal_end_no_flow() {
    let mut host = Host::outlived("alice", HOME);
    assert_eq!((host.open(HOME, &web(0)), host.flows(HOME, &web(0))), (0, 2));
    let [view] = &host.gate.outlived(host.now)[..] else { panic!("one that outlived its grant") };
    assert_eq!((view.principal.as_str(), view.flows, view.remaining), ("corp:alice", 2, Duration::ZERO));
    host.bound(&token("alice", "2", 600), HOME, &[web(30)]).unwrap();
    host.bound(&token("alice", "2", 600), HOME, &[web(30)]).unwrap();
    host.look();
    assert_eq!((host.flows(HOME, &web(0)), host.gate.grants(host.now)[0].flows), (2, 2));
    assert!(host.gate.outlived(host.now).is_empty(), "it has a grant again");
}

#[test]
fn p3_a_revocation_ends_flows_also_after_their_grant_ended() {
    let network = |text: &str| Selector { source: Some(text.parse().unwrap()), ..Selector::default() };
    for (selector, expected) in [
        (of("corp:alice"), 1),
        (network("192.0.2.0/24"), 1),
        (Selector { service: Some(WEB), ..Selector::default() }, 1),
        (Selector { token_id: Some("1".to_owned()), ..Selector::default() }, 1),
        (of("corp:bob"), 0),
        (network("192.0.3.0/24"), 0),
        (Selector { service: Some(SSH), ..Selector::default() }, 0),
        (Selector::default(), 0),
    ] {
        let mut host = Host::outlived("alice", HOME);
        assert_eq!(host.revoke(&selector), found(0, expected), "{selector:?}");
        assert_eq!(host.flows(HOME, &web(0)), 2 - 2 * expected, "{selector:?}");
        assert_eq!(host.story(), vec!["Revoked admin"; expected]);
        assert_eq!(host.revoke(&selector), found(0, 0), "it is forgotten");
    }
}

#[test]
fn p3_a_revocation_ends_the_flows_of_a_live_grant() {
    let mut host = Host::new();
    host.bound(&token("alice", "1", 600), HOME, &[web(30), ssh(30)]).unwrap();
    host.connect(HOME, &web(0), 1);
    host.connect(HOME, &ssh(0), 1);
    let selector = Selector { service: Some(SSH), ..of("corp:alice") };
    assert_eq!(host.revoke(&selector), found(1, 0));
    assert_eq!((host.flows(HOME, &web(0)), host.flows(HOME, &ssh(0))), (1, 0));
}

/// Who of them opened which flow cannot be told.
#[test]
fn p3_one_revocation_ends_the_flows_of_all_who_share_the_key() {
    let mut host = Host::outlived("alice", NAT);
    host.bound(&token("bob", "2", 600), NAT, &[web(30)]).unwrap();
    host.connect(NAT, &web(0), 3);
    host.look();
    assert_eq!(host.revoke(&of("corp:alice")), found(0, 1));
    assert_eq!((host.flows(NAT, &web(0)), host.open(NAT, &web(0))), (0, 30), "bob's grant stays");
    host.connect(NAT, &web(0), 1);
    assert_eq!(host.revoke(&of("corp:bob")), found(1, 0));
    assert_eq!((host.flows(NAT, &web(0)), host.open(NAT, &web(0))), (0, 0));
}

#[test]
fn p3_a_flush_ends_every_flow_without_looking_for_any() {
    let mut host = Host::outlived("alice", HOME);
    host.bound(&token("bob", "2", 600), NAT, &[web(30)]).unwrap();
    host.connect(NAT, &web(0), 1);
    host.gate.flush("root", host.now);
    assert_eq!(host.gate.next_command().map(|command| matches!(command, Command::Write { .. })), Some(false));
    let rest: Vec<_> = std::iter::from_fn(|| host.gate.next_command()).collect();
    assert!(!rest.iter().any(|command| matches!(command, Command::EndFlows(_))), "{rest:?}");
    assert!(host.gate.outlived(host.now).is_empty());
}

#[test]
fn p3_a_new_deny_rule_ends_the_flows_of_whom_it_matches_also_after_their_grant_ended() {
    let mut host = Host::outlived("alice", HOME);
    host.bound(&token("bob", "2", 600), NAT, &[web(30), ssh(30)]).unwrap();
    host.connect(NAT, &web(0), 1);
    host.connect(NAT, &ssh(0), 1);
    host.story();
    let denied = |token: &VerifiedToken, source: IpAddr, _| {
        assert_eq!(source, if token.principal().subject == "alice" { ip(HOME) } else { ip(NAT) });
        (token.principal().subject == "alice").then(|| "left".to_owned())
    };
    host.gate.reload(2, LIMITS, &BTreeSet::new(), &denied, host.now);
    host.run();
    assert_eq!((host.flows(HOME, &web(0)), host.flows(NAT, &web(0)), host.flows(NAT, &ssh(0))), (0, 1, 1));
    assert_eq!(host.events[0].rule.as_deref(), Some("left"));
    assert_eq!(host.story(), ["Revoked deny_rule"]);
}

#[test]
fn p3_a_changed_service_ends_its_flows_and_no_others() {
    let mut host = Host::outlived("alice", HOME);
    host.bound(&token("bob", "2", 600), NAT, &[web(30), ssh(30)]).unwrap();
    host.connect(NAT, &web(0), 1);
    host.connect(NAT, &ssh(0), 1);
    host.story();
    host.gate.reload(2, LIMITS, &BTreeSet::from([WEB]), &|_, _, _| None, host.now);
    host.run();
    assert_eq!((host.flows(HOME, &web(0)), host.flows(NAT, &web(0)), host.flows(NAT, &ssh(0))), (0, 0, 1));
    assert_eq!(host.story(), ["Revoked service_changed"; 2], "bob's grant, and alice's that had ended");
}

/// In the very moment of a revocation a packet on another CPU may still open a flow.
#[test]
fn p3_flows_of_which_no_holder_is_known_are_ended() {
    let mut host = Host::outlived("alice", HOME);
    host.revoke(&of("corp:alice"));
    host.flows.insert(lease::key(&web(0), ip(HOME)), 1);
    host.look();
    assert_eq!(host.flows(HOME, &web(0)), 0);
}

#[test]
fn p4_what_an_earlier_controller_left_goes_on_as_adopted_and_can_be_revoked() {
    let mut host = Host::new();
    let [kept, gone] = [(web(0), HOME), (opening(9, "gone", 0), NAT)].map(|(service, source)| {
        let key = lease::key(&service, ip(source));
        host.flows.insert(key, 1);
        key
    });
    let views = host.gate.adopt_flows(&[(kept, 1), (gone, 1)].into(), &[web(30), ssh(30)], host.now);
    assert_eq!(views.len(), 1);
    host.look();
    assert_eq!((host.flows(HOME, &web(0)), host.flows.contains_key(&gone)), (1, false));
    assert_eq!(host.gate.outlived(host.now)[0].principal, "adopted");
    for _ in 0..100 {
        host.sleep(60);
        host.tick();
        host.look();
    }
    assert_eq!(host.flows(HOME, &web(0)), 1);
    assert_eq!(host.revoke(&of("adopted")), found(0, 1));
    assert_eq!(host.flows(HOME, &web(0)), 0);
}

#[test]
fn who_held_a_grant_without_flows_is_forgotten_once_that_is_certain() {
    let mut host = Host::new();
    host.bound(&token("alice", "1", 600), HOME, &[web(30)]).unwrap();
    let began = host.now.boot;
    host.sleep(30);
    host.tick();
    host.connect_late(HOME);
    // This reading began before the grant ended: it says nothing of flows that were opened until then.
    host.gate.handle_flows(BTreeMap::new(), began);
    host.look();
    assert_eq!(host.flows(HOME, &web(0)), 1, "opened in the last moment, by somebody who is known");
    host.flows.clear();
    host.sleep(3);
    host.look();
    assert_eq!(host.revoke(&of("corp:alice")), found(0, 0));
    host.flows.insert(lease::key(&web(0), ip(HOME)), 1);
    host.look();
    assert_eq!(host.flows(HOME, &web(0)), 0, "nobody is known any more");
}

impl Host {
    fn connect_late(&mut self, source: &str) {
        self.flows.insert(lease::key(&web(0), ip(source)), 1);
    }
}

/// What does not fit is not forgotten: it makes the key one that every principal's revocation ends.
#[test]
fn p3_more_holders_than_are_kept_cut_more_and_never_less() {
    let mut host = Host::with(Limits { replay_entries: 1_000, ..LIMITS }, 100);
    for number in 0..20 {
        host.bound(&token(&format!("user-{number}"), &number.to_string(), 600), NAT, &[web(1)]).unwrap();
        host.flows.insert(lease::key(&web(0), ip(NAT)), 1);
        host.look();
        host.sleep(2);
        host.tick();
    }
    assert_eq!(host.gate.outlived(host.now).len(), 16);
    assert_eq!(
        host.revoke(&Selector { source: Some("192.0.2.0/24".parse().unwrap()), ..of("corp:user-19") }),
        found(0, 0)
    );
    assert_eq!(host.revoke(&of("corp:user-19")), found(0, 1));
    assert_eq!(host.flows(NAT, &web(0)), 0);

    // Tokens are bounded as well.
    let mut host = Host::with(Limits { flows: 1, replay_entries: 1_000, ..LIMITS }, 100);
    for (number, source) in [HOME, NAT].into_iter().enumerate() {
        host.bound(&token(&format!("user-{number}"), &number.to_string(), 600), source, &[web(1)]).unwrap();
        host.connect(source, &web(0), 1);
    }
    host.sleep(2);
    host.tick();
    host.look();
    assert_eq!(host.revoke(&of("corp:user-0")), found(0, 2), "the second is partly unknown");
}

#[test]
fn p3_an_earlier_token_of_the_same_principal_is_not_forgotten() {
    let two = || {
        let mut host = Host::outlived("alice", HOME);
        host.bound(&token("alice", "2", 600), HOME, &[web(30)]).unwrap();
        host.look();
        host.sleep(40);
        host.tick();
        host.look();
        assert_eq!((host.open(HOME, &web(0)), host.flows(HOME, &web(0))), (0, 2));
        host
    };
    for (id, expected) in [("1", 1), ("2", 1)] {
        let mut host = two();
        let by_token = Selector { token_id: Some(id.to_owned()), ..Selector::default() };
        assert_eq!(host.revoke(&by_token), found(0, expected), "token {id}");
        assert_eq!(host.flows(HOME, &web(0)), 0);
    }
    let mut host = two();
    assert_eq!(host.revoke(&of("corp:bob")), found(0, 0), "it is not Bob's");
    host.gate.revoke_unknown("reload", host.now);
    host.run();
    assert_eq!(host.flows(HOME, &web(0)), 0, "a deny list that changed may mean the token that was forgotten");
}
