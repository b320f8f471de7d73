//! One row for each way in which a token can be bad, with the exact refusal.

use std::sync::Arc;

use jpat_userspace::{
    clock::UnixTime,
    config::ReplayMode,
    keyring::{Held, KeyRing},
    knock::Form,
    refusal::Refusal,
    token::keys::KeySet,
};
use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::{
    bench::{Bench, ISS, NOW, claims},
    mint::{Signer, b64},
};

#[test]
fn shape() {
    let bench = Bench::new();
    let good = bench.good();
    let (header, rest) = good.split_once('.').unwrap();
    let (payload, signature) = rest.split_once('.').unwrap();
    let json_serialization = format!(r#"{{"protected":"{header}","payload":"{payload}","signature":"{signature}"}}"#);
    for (why, token, refusal) in [
        ("nothing", String::new(), Refusal::NotJws),
        ("garbage", "garbage".to_owned(), Refusal::NotJws),
        ("binary", "\0\u{1}\u{7f}".to_owned(), Refusal::NotJws),
        ("two parts", format!("{header}.{payload}"), Refusal::NotJws),
        ("four parts", format!("{good}.{payload}"), Refusal::NotJws),
        ("five parts, as a JWE has", format!("{good}.{payload}.{signature}"), Refusal::NotJws),
        ("no header", format!(".{payload}.{signature}"), Refusal::NotJws),
        ("JSON serialization", json_serialization, Refusal::NotJws),
        ("JSON with two dots", "{\"a\":\"..\"}".to_owned(), Refusal::BadBase64),
        ("padding", format!("{header}=.{payload}.{signature}"), Refusal::BadBase64),
        ("standard alphabet", format!("{header}.{payload}.+/{signature}"), Refusal::BadBase64),
        ("white space in front", format!(" {good}"), Refusal::BadBase64),
        ("line end", format!("{good}\n"), Refusal::BadBase64),
        ("NUL inside", format!("{header}.{payload}\0.{signature}"), Refusal::BadBase64),
        ("not ASCII", format!("{header}.{payload}ü.{signature}"), Refusal::BadBase64),
        ("spare bits set", format!("{header}.{payload}.AB"), Refusal::BadBase64),
        ("one character alone", format!("{header}.{payload}.A"), Refusal::BadBase64),
        ("empty payload", format!("{header}..{signature}"), Refusal::BadJson),
        ("empty signature", format!("{header}.{payload}."), Refusal::BadSignature),
        ("too long", format!("{good}{}", "A".repeat(1233 - good.len())), Refusal::TooLong),
    ] {
        bench.refused(why, &token, refusal);
    }
}

#[test]
fn every_truncation() {
    let bench = Bench::new();
    let good = bench.good();
    for end in 0..good.len() {
        let denied = bench.verify(&good[..end]).expect_err("truncated");
        assert!(denied.who.is_none(), "{end}");
    }
}

#[test]
fn header() {
    let bench = Bench::new();
    let with = |name: &str, value: &str| bench.header().set(name, value);
    let jwk = Signer::es256().jwk.to_string();
    let mut rows = vec![
        ("no alg", bench.header().without("alg"), Refusal::AlgNotAllowed),
        ("unknown alg", with("alg", "\"ES521\""), Refusal::AlgNotAllowed),
        ("another case", with("alg", "\"es256\""), Refusal::AlgNotAllowed),
        ("not configured", with("alg", "\"ES384\""), Refusal::AlgNotAllowed),
        ("empty alg", with("alg", "\"\""), Refusal::AlgNotAllowed),
        ("alg with a NUL", with("alg", "\"ES256\\u0000\""), Refusal::AlgNotAllowed),
        ("crit", with("crit", "[\"exp\"]"), Refusal::CriticalHeader),
        ("crit: b64", with("crit", "[\"b64\"]").set("b64", "false"), Refusal::CriticalHeader),
        ("empty crit", with("crit", "[]"), Refusal::CriticalHeader),
        ("crit: null", with("crit", "null"), Refusal::CriticalHeader),
        ("b64 without crit", with("b64", "false"), Refusal::BadHeader),
        ("jwk", with("jwk", &jwk), Refusal::EmbeddedKey),
        ("jku", with("jku", "\"https://evil.example/jwks\""), Refusal::EmbeddedKey),
        ("x5u", with("x5u", "\"https://evil.example/c.pem\""), Refusal::EmbeddedKey),
        ("x5c", with("x5c", "[\"MIIB\"]"), Refusal::EmbeddedKey),
        ("zip", with("zip", "\"DEF\""), Refusal::Compressed),
        ("enc", with("enc", "\"A256GCM\""), Refusal::Compressed),
        ("typ", with("typ", "\"id+jwt\""), Refusal::TypNotAllowed),
        ("empty typ", with("typ", "\"\""), Refusal::TypNotAllowed),
        ("member twice", bench.header().also("kid", "\"k1\""), Refusal::DuplicateMember),
        ("alg twice", bench.header().also("alg", "\"none\""), Refusal::DuplicateMember),
        ("twice inside", with("x", "{\"a\":1,\"a\":1}"), Refusal::DuplicateMember),
        ("nested", with("x", "[[[[[[[[1]]]]]]]]"), Refusal::TooDeep),
        ("kid too long", with("kid", &format!("{:?}", "k".repeat(257))), Refusal::BadHeader),
        ("control characters in kid", with("kid", "\"k1\\u001b[2J\""), Refusal::BadHeader),
    ];
    for none in ["none", "None", "NONE", "nOnE"] {
        rows.push(("alg none", with("alg", &format!("{none:?}")), Refusal::AlgNone));
    }
    for name in ["alg", "kid", "typ"] {
        for wrong in ["null", "true", "0", "[]", "{}", "[\"ES256\"]"] {
            rows.push(("wrong type", with(name, wrong), Refusal::BadHeader));
        }
    }
    for (why, header, refusal) in rows {
        bench.refused(&format!("{why}: {}", header.text()), &bench.sign(&header, &claims()), refusal);
    }
    for (why, bytes, refusal) in [
        ("not UTF-8", &b"{\"alg\":\"ES256\",\"x\":\"\xff\"}"[..], Refusal::NotUtf8),
        ("not an object", b"[]", Refusal::BadJson),
        ("not JSON", b"alg: ES256", Refusal::BadJson),
        ("byte order mark", b"\xef\xbb\xbf{\"alg\":\"ES256\"}", Refusal::BadJson),
    ] {
        bench.refused(why, &bench.signer.sign(bytes, claims().text().as_bytes()), refusal);
    }
}

/// An unsigned token as the attacks send it: without a signature, and with any.
#[test]
fn alg_none_unsigned() {
    let bench = Bench::new();
    for none in ["none", "None", "NONE", "nOnE"] {
        let input = format!("{}.{}", b64(format!("{{\"alg\":\"{none}\"}}")), b64(claims().text()));
        for signature in ["", "AAAA"] {
            bench.refused(none, &format!("{input}.{signature}"), Refusal::AlgNone);
        }
    }
}

/// The kid list of jwt_tool's playbook: a kid is a name, never a path, query or command.
#[test]
fn hostile_kids_are_only_unknown() {
    let bench = Bench::new();
    for kid in [
        "",
        " ",
        "k2",
        "K1",
        "k1 ",
        "../../../../../../dev/null",
        "/dev/null",
        "/proc/sys/kernel/randomize_va_space",
        "|sleep 10",
        "; curl https://evil.example",
        "`id`",
        "$(id)",
        "x' UNION SELECT '1';--",
        "%00",
        "{}",
        "\u{202e}1k",
    ] {
        let token = bench.sign(&bench.header().set("kid", &json!(kid).to_string()), &claims());
        bench.refused(kid, &token, Refusal::UnknownKid);
    }
}

#[test]
fn algorithm_confusion() {
    let rsa = Bench::with(Signer::rsa(Algorithm::RS256), |jwk| json!({ "keys": [jwk] }));
    let bench = rsa.issuer(|issuer| issuer.algorithms = vec![Algorithm::RS256, Algorithm::PS256, Algorithm::HS256]);
    let public = bench.signer.public_pem.clone();
    let header = bench.header().set("alg", "\"HS256\"");
    // Even where a configuration allowed both, the RSA key can do no HMAC.
    for secret in [public.as_bytes(), public.trim().as_bytes(), b"", b"secret"] {
        let forged = Signer::secret(Algorithm::HS256, secret);
        let forged = forged.sign(header.text().as_bytes(), claims().text().as_bytes());
        bench.refused("public key as HMAC secret", &forged, Refusal::KeyMismatch);
    }
    let pem = KeySet::from_pem(public.as_bytes(), &bench.config.issuers[0].algorithms).unwrap();
    let forged = Signer::secret(Algorithm::HS256, public.as_bytes());
    let forged = forged.sign(header.text().as_bytes(), claims().text().as_bytes());
    let bench = bench.keys(pem).issuer(|issuer| issuer.algorithms = vec![Algorithm::RS256]);
    bench.refused("HMAC not configured", &forged, Refusal::AlgNotAllowed);
    // A key whose JWK says PS256 verifies no RS256.
    let bound = bench.signer.jwk_with(json!({ "kid": "k1", "alg": "PS256" }));
    let both = [Algorithm::RS256, Algorithm::PS256];
    let (keys, _) = KeySet::from_jwks(json!({ "keys": [bound] }).to_string().as_bytes(), &both).unwrap();
    let bench = bench.keys(keys).issuer(|issuer| issuer.algorithms = both.to_vec());
    bench.refused("bound by the JWK's alg", &bench.good(), Refusal::KeyMismatch);
}

#[test]
fn keys() {
    let bench = Bench::new();
    let no_kid = bench.sign(&bench.header().without("kid"), &claims());
    let other = Signer::es256().sign(bench.header().text().as_bytes(), claims().text().as_bytes());
    bench.refused("signed by another key", &other, Refusal::BadSignature);

    let two =
        Bench::with(Signer::es256(), |jwk| json!({ "keys": [jwk, Signer::es256().jwk_with(json!({ "kid": "k2" }))] }));
    two.accepted("two keys, by kid", &two.good());
    let ambiguous = two.sign(&two.header().without("kid"), &claims());
    two.refused("two keys, no kid", &ambiguous, Refusal::AmbiguousKey);

    let unnamed = Bench::with(Signer::es256(), |mut jwk| {
        jwk.as_object_mut().unwrap().remove("kid");
        json!({ "keys": [jwk] })
    });
    unnamed.refused("a kid, and a key without one", &unnamed.good(), Refusal::UnknownKid);

    let empty = Bench::with(Signer::es256(), |_| json!({ "keys": [] }));
    empty.refused("empty key set", &empty.good(), Refusal::NoKeys);
    let mut unreached = Bench::new();
    unreached.ring = KeyRing::default();
    unreached.refused("issuer never reached", &unreached.good(), Refusal::NoKeys);
    let mut stale = Bench::new();
    let (keys, _) = KeySet::from_jwks(br#"{"keys":[]}"#, &[]).unwrap();
    let fetched = UnixTime::from_secs(NOW - 601);
    stale.ring = KeyRing::default().with("corp", Held { keys: Arc::new(keys), fetched });
    stale.refused("keys too old", &stale.good(), Refusal::NoKeys);
    bench.accepted("no kid, one key", &no_kid);
}

#[test]
fn payload() {
    let bench = Bench::new();
    let deep = |levels: usize| claims().set("x", &format!("{}1{}", "[".repeat(levels), "]".repeat(levels)));
    for (why, claims, refusal) in [
        ("member twice", claims().also("roles", "[]"), Refusal::DuplicateMember),
        ("exp twice", claims().also("exp", "1900000000"), Refusal::DuplicateMember),
        ("twice, spelt differently", claims().also("x", "1").also("\\u0078", "1"), Refusal::DuplicateMember),
        ("twice, three levels down", claims().set("x", "[{\"y\":{\"a\":1,\"a\":2}}]"), Refusal::DuplicateMember),
        ("nine levels", deep(8), Refusal::TooDeep),
        ("hundreds of levels", deep(150), Refusal::TooDeep),
        ("number out of range", claims().set("x", "1e999"), Refusal::BadJson),
        ("lone surrogate", claims().set("x", "\"\\ud800\""), Refusal::BadJson),
    ] {
        // Member names are quoted as Rust does; a backslash is meant as JSON's.
        let text = claims.text().replace("\\\\u", "\\u");
        bench.refused(why, &bench.signer.sign(bench.header().text().as_bytes(), text.as_bytes()), refusal);
    }
    for (why, bytes, refusal) in [
        ("not UTF-8", &b"{\"iss\":\"\xc3\"}"[..], Refusal::NotUtf8),
        ("UTF-16", b"{\0}\0", Refusal::BadJson),
        ("a list", b"[]", Refusal::BadJson),
        ("null", b"null", Refusal::BadJson),
        ("a nested token", bench.good().as_bytes(), Refusal::BadJson),
        ("two objects", b"{}{}", Refusal::BadJson),
    ] {
        bench.refused(why, &bench.signer.sign(bench.header().text().as_bytes(), bytes), refusal);
    }
}

#[test]
fn present_with_the_wrong_type() {
    let bench = Bench::new();
    let wrong: [(&[&str], &[&str]); 3] = [
        (&["iss", "sub", "jti"], &["null", "true", "false", "0", "1.5", "{}", "[]", "[\"a\"]"]),
        (&["aud"], &["null", "true", "0", "{}", "[1]", "[null]", "[\"jpat://prod\",1]", "[[\"jpat://prod\"]]"]),
        (
            &["exp", "nbf", "iat"],
            &["null", "true", "\"\"", "\"1800000060\"", "{}", "[]", "[1800000060]", "-1", "1e300"],
        ),
    ];
    let mut rows = 0;
    for (names, values) in wrong {
        for name in names {
            for value in values {
                let token = bench.token(&claims().set(name, value));
                bench.refused(&format!("{name}: {value}"), &token, Refusal::BadClaimType);
                rows += 1;
            }
        }
    }
    assert_eq!(rows, 24 + 8 + 27);
    let long = format!("{:?}", "a".repeat(257));
    bench.refused("long jti", &bench.token(&claims().set("jti", &long)), Refusal::BadClaimType);
    bench.refused("empty jti", &bench.token(&claims().set("jti", "\"\"")), Refusal::BadClaimType);
}

#[test]
fn issuer() {
    let bench = Bench::new();
    for iss in ["https://idp.example/", "HTTPS://idp.example", "https://evil.example", "https://idp.example\\u0000", ""]
    {
        let token = bench.token(&claims().set("iss", &format!("\"{iss}\"")));
        bench.refused(iss, &token, Refusal::UnknownIssuer);
    }
    bench.refused("none", &bench.token(&claims().without("iss")), Refusal::NoIssuer);
    let list = claims().set("iss", &format!("[\"https://evil.example\",{ISS:?}]"));
    bench.refused("a list", &bench.token(&list), Refusal::BadClaimType);
    let sealed_only = Bench::new().issuer(|issuer| issuer.accept = [Form::Sealed].into());
    sealed_only.refused("form", &sealed_only.good(), Refusal::FormNotAccepted);
}

#[test]
fn claims_that_do_not_hold() {
    let bench = Bench::new();
    let at = |offset: i64| (NOW as i64 + offset).to_string();
    for (why, claims, refusal) in [
        ("no aud", claims().without("aud"), Refusal::NoAudience),
        ("another aud", claims().set("aud", "\"jpat://test\""), Refusal::WrongAudience),
        ("aud in another case", claims().set("aud", "\"JPAT://prod\""), Refusal::WrongAudience),
        ("part of aud", claims().set("aud", "\"jpat://pro\""), Refusal::WrongAudience),
        ("aud with more behind", claims().set("aud", "\"jpat://production\""), Refusal::WrongAudience),
        ("empty aud", claims().set("aud", "\"\""), Refusal::WrongAudience),
        ("empty list", claims().set("aud", "[]"), Refusal::WrongAudience),
        ("list without us", claims().set("aud", "[\"a\",\"b\"]"), Refusal::WrongAudience),
        ("no exp", claims().without("exp"), Refusal::NoExpiry),
        ("exp now", claims().set("exp", &at(0)), Refusal::Expired),
        ("exp long ago", claims().set("exp", "0"), Refusal::Expired),
        ("exp a second ago", claims().set("exp", &at(-1)), Refusal::Expired),
        ("nbf beyond the leeway", claims().set("nbf", &at(11)), Refusal::NotYetValid),
        (
            "nbf just beyond it",
            claims().set("nbf", &format!("{NOW}.000001").replace("000.", "010.")),
            Refusal::NotYetValid,
        ),
        ("iat beyond the leeway", claims().set("iat", &at(11)), Refusal::IssuedInFuture),
        ("lives too long", claims().set("exp", &at(3596)), Refusal::LifetimeTooLong),
        ("lives too long, no iat", claims().without("iat").set("exp", &at(3601)), Refusal::LifetimeTooLong),
        ("lives forever", claims().set("exp", "9007199254740992"), Refusal::LifetimeTooLong),
        ("issued in 1970", claims().set("iat", "0"), Refusal::LifetimeTooLong),
        ("cnf.jkt", claims().set("cnf", "{\"jkt\":\"abc\"}"), Refusal::ConfirmationMissing),
        ("cnf: null", claims().set("cnf", "null"), Refusal::ConfirmationMissing),
        ("empty cnf", claims().set("cnf", "{}"), Refusal::ConfirmationMissing),
    ] {
        bench.refused(why, &bench.token(&claims), refusal);
    }
    bench.accepted("lives as long as it may", &bench.token(&claims().set("exp", &at(3595))));

    let once = Bench::new().issuer(|issuer| issuer.replay = ReplayMode::Once);
    once.refused("once without jti", &once.token(&claims().without("jti")), Refusal::NoTokenId);
    once.accepted("once with jti", &once.good());
}

/// Nothing that a stranger sends may say more than the issuer it claims.
#[test]
fn a_refusal_names_whom_it_is_about() {
    let bench = Bench::new();
    let stranger = Signer::es256().sign(bench.header().text().as_bytes(), claims().text().as_bytes());
    let denied = bench.verify(&stranger).unwrap_err();
    assert_eq!((denied.issuer.as_deref(), denied.who), (Some("corp"), None));
    let denied = bench.verify(&bench.token(&claims().set("exp", "1"))).unwrap_err();
    let who = denied.who.unwrap();
    assert_eq!((who.principal.to_string(), who.token.to_string()), ("corp:employee:alice".into(), "t-1".into()));
    let denied = bench.verify("garbage").unwrap_err();
    assert_eq!((denied.issuer, denied.who, denied.rule), (None, None, None));
}
