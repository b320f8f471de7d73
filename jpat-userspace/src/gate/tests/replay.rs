//! P6: no second use.

use super::*;

const HERE: &str = "192.0.2.7";

#[test]
fn p6_once_means_one_use() {
    let mut host = Host::new();
    let first = token("alice", "1", 60);
    assert_eq!(host.once(&first, HERE), Ok(()));
    assert_eq!(host.once(&first, HERE), Err(Refusal::Replayed), "from the same source, while the grant lives");
    assert_eq!(host.once(&first, "192.0.2.8"), Err(Refusal::Replayed), "from another");
    assert_eq!(host.bound(&first, "192.0.2.8", &[web(30)]), Err(Refusal::OtherSource), "after a change of mode");
    assert_eq!(host.once(&token("alice", "2", 60), HERE), Ok(()), "another token");
    host.sleep(59);
    assert_eq!(host.once(&first, HERE), Err(Refusal::Replayed), "after the grant's end");
    host.sleep(1);
    assert_eq!(host.once(&first, HERE), Err(Refusal::Expired));
}

#[test]
fn p6_once_needs_an_id_and_a_date_after_the_start() {
    let cases = [
        (json!({ "exp": START + 60, "iat": START }), Err(Refusal::NoTokenId)),
        (json!({ "exp": START + 60, "iat": START, "jti": "a" }), Ok(())),
        (json!({ "exp": START + 60, "iat": START - 1, "jti": "b" }), Err(Refusal::BeforeStart)),
        (json!({ "exp": START + 60, "jti": "c" }), Err(Refusal::BeforeStart)),
    ];
    for (claims, expected) in cases {
        let token = Arc::new(VerifiedToken::for_tests("corp", claims));
        assert_eq!(Host::new().once(&token, HERE), expected, "{:?}", token.claims());
        assert_eq!(Host::new().bound(&token, HERE, &[web(30)]), Ok(()), "bind-source asks for neither");
    }
}

#[test]
fn p6_the_same_id_of_another_issuer_is_another_token() {
    let mut host = Host::new();
    let claims = json!({ "exp": START + 60, "iat": START, "jti": "1" });
    for issuer in ["corp", "partner"] {
        let token = Arc::new(VerifiedToken::for_tests(issuer, claims.clone()));
        assert_eq!(host.once(&token, HERE), Ok(()), "{issuer}");
        assert_eq!(host.once(&token, HERE), Err(Refusal::Replayed), "{issuer}");
    }
}

#[test]
fn p6_a_token_with_an_altered_signature_is_the_same_token() {
    // Nothing of the signature reaches the gate: what two encodings of a signature have in common is the signing input.
    let claims = json!({ "sub": "alice", "exp": START + 60 });
    let (captured, altered) = (
        Arc::new(VerifiedToken::for_tests("corp", claims.clone())),
        Arc::new(VerifiedToken::for_tests("corp", claims)),
    );
    let mut host = Host::new();
    assert_eq!(host.bound(&captured, HERE, &[web(30)]), Ok(()));
    assert_eq!(host.bound(&altered, "192.0.2.8", &[web(30)]), Err(Refusal::OtherSource));
}

#[test]
fn p6_a_bound_token_stays_at_one_address_of_each_family() {
    let mut host = Host::new();
    let token = token("alice", "1", 600);
    for (source, expected) in [
        (HERE, Ok(())),
        ("192.0.2.8", Err(Refusal::OtherSource)),
        (HERE, Ok(())),
        ("::ffff:192.0.2.7", Ok(())),
        ("::ffff:192.0.2.8", Err(Refusal::OtherSource)),
        ("2001:db8::1", Ok(())),
        ("2001:db8::2", Err(Refusal::OtherSource)),
        ("2001:db8::1", Ok(())),
    ] {
        assert_eq!(host.bound(&token, source, &[web(30)]), expected, "{source}");
    }
    host.sleep(599);
    host.tick();
    assert!(host.map.is_empty());
    assert_eq!(
        host.bound(&token, "192.0.2.8", &[web(30)]),
        Err(Refusal::OtherSource),
        "until exp, not the grant's end"
    );
}

#[test]
fn p6_a_full_memory_refuses_and_forgets_nothing_before_its_exp() {
    let mut host = Host::new();
    for jti in 0..5 {
        assert_eq!(host.once(&token("alice", &jti.to_string(), 60 + jti), HERE), Ok(()));
    }
    assert_eq!(host.once(&token("alice", "5", 600), HERE), Err(Refusal::ReplayFull));
    assert_eq!(host.bound(&token("bob", "5", 600), HERE, &[web(30)]), Err(Refusal::ReplayFull));
    assert_eq!(host.once(&token("alice", "0", 60), HERE), Err(Refusal::Replayed), "what is known is still known");
    host.sleep(60);
    assert_eq!(host.once(&token("alice", "5", 600), HERE), Ok(()), "one has expired");
    assert_eq!(host.once(&token("alice", "6", 600), HERE), Err(Refusal::ReplayFull));
    assert_eq!(host.once(&token("alice", "4", 64), HERE), Err(Refusal::Replayed));
}

#[test]
fn p6_a_clock_set_back_does_not_revive_a_used_token() {
    let mut host = Host::new();
    let used = token("alice", "1", 60);
    host.once(&used, HERE).unwrap();
    host.sleep(61);
    host.once(&token("alice", "2", 600), HERE).unwrap();
    host.step(-30);
    assert_eq!(host.once(&used, HERE), Err(Refusal::Expired), "valid by the clock, but forgotten");
    assert_eq!(host.once(&token("alice", "2", 600), HERE), Err(Refusal::Replayed));
    assert_eq!(host.once(&token("alice", "3", 600), HERE), Ok(()));
}

#[test]
fn p6_a_knock_that_is_refused_uses_no_token_up() {
    let mut host = Host::with(LIMITS, 1);
    host.bound(&token("bob", "1", 600), "192.0.2.8", &[web(30)]).unwrap();
    let token = token("alice", "2", 600);
    assert_eq!(host.once(&token, HERE), Err(Refusal::GrantsFull));
    host.sleep(30);
    assert_eq!(host.once(&token, HERE), Ok(()));
}
