//! Rules that are refused when they are read, and the limits of those that are not.

use serde_json::json;

use super::*;

#[test]
fn broken_rules_are_refused_with_place_and_remedy() {
    for (rule, at, message) in [
        (
            "claim.sub == \"a\"",
            Some((1, 1)),
            "unknown variable `claim`; known: claims, header, issuer, source, now, knock, service",
        ),
        ("true &&\n  user == 1", Some((2, 3)), "unknown variable `user`"),
        ("\"ü\" == \"\" || user == 1", Some((1, 14)), "unknown variable `user`"),
        ("claims.roles.exists(r, role == \"a\")", Some((1, 24)), "unknown variable `role`"),
        ("claims.roles.exists(r, r == \"a\") && r == \"b\"", Some((1, 21)), "unknown variable `r`"),
        ("claims.sub.startswith(\"a\")", Some((1, 12)), "did you mean `startsWith`?"),
        ("claims.sub.replace(\"a\", \"b\") == \"\"", Some((1, 12)), "unknown function `replace`; known: "),
        ("cdir(source, \"10.0.0.0/8\")", Some((1, 1)), "did you mean `cidr`?"),
        ("optional.off(1) == 1", Some((1, 10)), "did you mean `of`?"),
        ("claims.roles.exists(\"a\")", Some((1, 14)), "list.exists(x, x == \"a\")"),
        ("knock.from == \"bare\"", Some((1, 7)), "`knock` has no `from`; it has: form, proof"),
        ("has(header.jwk)", Some((1, 12)), "`header` has no `jwk`"),
        ("cidr(source, \"10.1.0.0/8\")", Some((1, 14)), "host bits set; write \"10.0.0.0/8\""),
        ("cidr(source, \"10.0.0.0/40\")", Some((1, 14)), "is no prefix"),
        ("claims.sub.matches(\"(\")", Some((1, 20)), "invalid pattern: unclosed group"),
        ("claims.sub.matches(\"(\\\\w{99}){99}\")", Some((1, 20)), "too large"),
        ("claims.sub.matches(claims.pattern)", Some((1, 12)), "needs a pattern in quotes"),
        ("\"true\"", Some((1, 1)), "must be true or false, and this is a constant"),
        ("[true]", Some((1, 1)), "this is a list"),
        ("claims.sub ==", Some((1, 14)), ""),
        ("claims.sub = \"a\"", Some((1, 12)), ""),
        ("", None, "the expression is empty"),
        (" \n", None, "the expression is empty"),
        ("Foo{a: 1} == 1", Some((1, 1)), "unknown message type `Foo`"),
        ("claims.a.all(x, claims.b.all(y, claims.c.all(z, x == y)))", Some((1, 46)), "more than 2 of all, exists"),
    ] {
        let errors = compile_errors(rule);
        let first = &errors[0];
        assert_eq!(first.owner, Owner::Service("listings".to_owned()));
        assert!(first.message.contains(message), "{rule}: {first:?}");
        if let Some(at) = at {
            assert_eq!(first.line.zip(first.column), Some(at), "{rule}: {first:?}");
        }
        assert!(!first.message.contains('\n') && !first.message.is_empty(), "{rule}: {first:?}");
    }
    let errors = Policy::compile(&config(&[("a", "true")], &[("d", "service == \"a\"")]), &ids()).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "deny \"d\", when: `service` is unknown here: a deny rule is judged before any service"
    );
}

#[test]
fn all_errors_of_all_rules_are_reported_at_once() {
    let services = [("a", "x && y"), ("b", "true"), ("c", "z")];
    let errors = Policy::compile(&config(&services, &[("d", "w")]), &ids()).unwrap_err();
    let owners: Vec<_> = errors.iter().map(|error| error.owner.to_string()).collect();
    assert_eq!(owners, ["deny \"d\", when", "service \"a\", allow", "service \"a\", allow", "service \"c\", allow"]);
    let errors = Policy::compile(&config(&[("unnumbered", "true")], &[]), &ids()).unwrap_err();
    assert!(errors[0].message.contains("no number"), "{errors:?}");
}

#[test]
fn loops_beside_each_other_are_fine_within_each_other_two() {
    for rule in [
        "claims.a.all(x, claims.b.all(y, x == y))",
        "claims.a.filter(x, x > 1).map(x, x + 1).exists(x, x == 1) && claims.b.all(x, x == 1) && claims.a.exists(x, true)",
    ] {
        assert!(compile_errors(rule).is_empty(), "{rule}");
    }
}

/// On the stack of an ordinary thread, in a debug build, where frames are largest.
#[test]
fn the_longest_and_deepest_expressions_do_no_harm() {
    let chain = |part: &str, between: &str| {
        let count = (compile::MAX_EXPRESSION - 40) / (part.len() + between.len());
        vec![part; count].join(between)
    };
    let long = format!("{} == \"\"", "x".repeat(compile::MAX_EXPRESSION));
    assert!(compile_errors(&long)[0].message.contains("at most 4096"));
    for (name, rule) in [
        ("sum", format!("{} == 1", chain("1", "+"))),
        ("and", chain("true", "&&")),
        ("member", format!("claims.{} == 1", chain("a", "."))),
        ("not", "!".repeat(4000) + "true"),
        ("minus", "-".repeat(4000) + "1 == 1"),
        ("paren", "(".repeat(2000) + "true" + &")".repeat(2000)),
        ("list", "[".repeat(2000) + &"]".repeat(2000) + " == []"),
        ("open", "(".repeat(4000)),
        ("index", format!("claims{} == 1", "[0]".repeat(1300))),
        ("ternary", "true ? ".repeat(400) + "true" + &" : true".repeat(400)),
        ("ternary on the right", "true ? true : ".repeat(280) + "true"),
        ("comparison", chain("true", "==")),
        ("method", format!("claims.sub{} == \"\"", ".trim()".repeat(500))),
    ] {
        println!("{name}");
        let token = VerifiedToken::for_tests("corp", json!({}));
        match Policy::compile(&config(&[("listings", &rule)], &[]), &ids()) {
            Ok(policy) => assert!(policy.evaluate(&token, source(), Form::Bare, NOW).is_ok(), "{name}"),
            Err(errors) => assert!(!errors[0].message.is_empty(), "{name}"),
        }
    }
}

fn compile_errors(allow: &str) -> Vec<CompileError> {
    Policy::compile(&config(&[("listings", allow)], &[]), &ids()).err().unwrap_or_default()
}
