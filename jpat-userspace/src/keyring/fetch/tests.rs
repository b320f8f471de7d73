//! Fetches over real HTTP on loopback: from the embedded issuer, and from servers that mean ill.

use std::{net::SocketAddr, path::Path, sync::Arc};

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time,
};

use super::*;
use crate::{
    clock::BootTime,
    config::{ReplayMode, SourceBinding},
    issuer::{Alg, keys, serve, sign},
    keyring::refresh::Refresher,
    knock::Form,
    token::signature::verify_jws,
};

#[tokio::test]
async fn the_embedded_issuer_is_found_by_both_documents_and_rotation_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    for (path, alg) in [("", Alg::Es256), ("/realms/lab", Alg::EdDsa), ("/a/b", Alg::Rs256)] {
        let keys_dir = dir.path().join(alg.as_str());
        let first = keys::generate(&keys_dir, alg).unwrap();
        let url = serve_issuer(&keys_dir, path).await;
        let issuer = issuer(&url, KeySource::Discovery);
        let mut refresher = Refresher::new(std::slice::from_ref(&issuer), BootTime(0));

        let due = refresher.handle_due(BootTime(0)).remove(0);
        let fetched = fetch(&quick(), &issuer).await;
        assert!(refresher.handle_result(&due, &fetched, BootTime(1)));
        assert_eq!(kids(&fetched.unwrap()), [first.kid()]);

        let second = keys::generate(&keys_dir, Alg::Es256).unwrap();
        let due = refresher.handle_due(refresher.poll_timeout().unwrap()).remove(0);
        let fetched = fetch(&quick(), &issuer).await;
        assert!(refresher.handle_result(&due, &fetched, BootTime(2)));
        let fetched = fetched.unwrap();
        assert_eq!(kids(&fetched), [first.kid(), second.kid()], "without a restart of either");
        assert_eq!(fetched.jwks_uri, format!("{url}/jwks.json"));
        assert_eq!(fetched.ignored, []);
        for key in [&first, &second] {
            let token = sign::tests::token(key);
            let payload = verify_jws(&token, &fetched.keys, &[key.alg().jwt()]).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&payload).unwrap()["sub"], "employee:1");
        }

        keys::remove(&keys_dir, first.kid()).unwrap();
        let fewer = fetch(&quick(), &issuer).await.unwrap();
        assert_eq!(kids(&fewer), [second.kid()]);
        let of_removed = verify_jws(&sign::tests::token(&first), &fewer.keys, &[alg.jwt()]);
        assert_eq!(of_removed, Err(Refusal::UnknownKid));

        let direct = Issuer { keys: KeySource::JwksUrl(fetched.jwks_uri), ..issuer.clone() };
        assert_eq!(kids(&fetch(&quick(), &direct).await.unwrap()), [second.kid()]);
    }
}

#[tokio::test]
async fn a_broken_key_directory_keeps_the_last_good_keys_published() {
    let dir = tempfile::tempdir().unwrap();
    let key = keys::generate(dir.path(), Alg::Es256).unwrap();
    let issuer = issuer(&serve_issuer(dir.path(), "").await, KeySource::Discovery);
    std::fs::write(dir.path().join("9999-broken.pem"), "x").unwrap();
    assert_eq!(kids(&fetch(&quick(), &issuer).await.unwrap()), [key.kid()]);
}

#[tokio::test]
async fn rfc_8414_is_the_second_choice() {
    let server = Server::start(|url, path| match path {
        "/.well-known/oauth-authorization-server/tenant" => {
            ok(&json!({"issuer": format!("{url}/tenant"), "jwks_uri": format!("{url}/keys")}).to_string())
        }
        "/keys" => ok(r#"{"keys":[]}"#),
        _ => status(404),
    })
    .await;
    let fetched = fetch(&quick(), &issuer(&format!("{}/tenant", server.url), KeySource::Discovery)).await.unwrap();
    assert_eq!(kids(&fetched), [""; 0], "an issuer may withdraw all its keys");
}

#[tokio::test]
async fn p4_hostile_answers_give_no_keys_and_a_message_that_helps() {
    let cases: [Case; 10] = [
        (
            |_, _| {
                Answer::Bytes(
                    b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/jwks\r\ncontent-length: 0\r\n\r\n".to_vec(),
                )
            },
            |e| matches!(e, FetchError::Redirect { .. }),
            "redirect to http://127.0.0.1:1/jwks",
        ),
        (|_, _| status(500), |e| matches!(e, FetchError::Status { status: 500, .. }), "status 500"),
        (|_, _| status(404), |e| matches!(e, FetchError::Status { status: 404, .. }), "is this the right URL?"),
        (|_, _| Answer::Endless, |e| matches!(e, FetchError::TooLarge { .. }), "more than 262144 bytes"),
        (|_, _| Answer::Drip, |e| matches!(e, FetchError::Request { .. }), "no whole answer within"),
        (|_, _| Answer::Silence, |e| matches!(e, FetchError::Request { .. }), "no whole answer within"),
        (
            |_, _| Answer::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"keys\":[".to_vec()),
            |e| matches!(e, FetchError::Request { .. }),
            "broken answer",
        ),
        (
            |_, _| Answer::Bytes(b"\x16\x03\x01\x02\x00\x01".to_vec()),
            |e| matches!(e, FetchError::Request { .. }),
            "broken answer",
        ),
        (|_, _| html(), |e| matches!(e, FetchError::Keys { .. }), "content type text/html"),
        (|_, _| ok(r#"{"kty":"EC"}"#), |e| matches!(e, FetchError::Keys { .. }), "no array `keys`"),
    ];
    for (answer, right, text) in cases {
        let server = Server::start(answer).await;
        let issuer = issuer("x", KeySource::JwksUrl(format!("{}/jwks", server.url)));
        let error = fetch(&quick(), &issuer).await.unwrap_err();
        assert!(right(&error) && error.to_string().contains(text), "{text}: {error}");
        assert!(error.to_string().starts_with(&server.url), "{error}");
        eprintln!("{error}");
    }
}

#[tokio::test]
async fn p4_hostile_issuer_documents_give_no_keys() {
    let cases: [Case; 6] = [
        (
            |url, _| document("https://evil.example", url),
            |e| matches!(e, FetchError::OtherIssuer { .. }),
            "evil.example",
        ),
        (|url, _| document(&format!("{url}/"), url), |e| matches!(e, FetchError::OtherIssuer { .. }), "byte for byte"),
        (|url, _| document(url, "http://192.0.2.1"), |e| matches!(e, FetchError::NotHttps { .. }), "allow_http"),
        (|url, _| document(url, "file:///etc"), |e| matches!(e, FetchError::NotHttps { .. }), "https alone"),
        (|url, _| ok(&json!({"issuer": url}).to_string()), |e| matches!(e, FetchError::Metadata { .. }), "jwks_uri"),
        (|_, _| html(), |e| matches!(e, FetchError::Metadata { .. }), "text/html"),
    ];
    for (answer, right, text) in cases {
        let server = Server::start(answer).await;
        let error = fetch(&quick(), &issuer(&server.url, KeySource::Discovery)).await.unwrap_err();
        assert!(right(&error) && error.to_string().contains(text), "{text}: {error}");
        eprintln!("{error}");
    }
}

#[tokio::test]
async fn keys_that_may_not_be_used_are_left_out_and_named() {
    let jwks = json!({"keys": [{"kty": "oct", "k": "AAAA", "kid": "shared"}, {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "small"}]});
    let jwks: &'static str = jwks.to_string().leak();
    let server = Server::start(move |_, _| ok(jwks)).await;
    let fetched = fetch(&quick(), &issuer("x", KeySource::JwksUrl(server.url.clone()))).await.unwrap();
    assert_eq!(kids(&fetched), [""; 0]);
    let named: Vec<_> = fetched.ignored.iter().filter_map(|ignored| ignored.kid.as_deref()).collect();
    assert_eq!(named, ["shared", "small"]);
}

#[tokio::test]
async fn an_issuer_that_is_down_is_told_as_such() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = fetch(&quick(), &issuer(&format!("http://{address}"), KeySource::Discovery)).await.unwrap_err();
    let text =
        format!("http://{address}/.well-known/openid-configuration: cannot connect: Connection refused (os error 111)");
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn http_is_refused_before_anything_is_sent_unless_it_is_allowed() {
    for keys in [KeySource::Discovery, KeySource::JwksUrl("http://192.0.2.1/jwks".into())] {
        let error = fetch(&quick(), &issuer("http://192.0.2.1", keys)).await.unwrap_err();
        assert!(matches!(error, FetchError::NotHttps { .. }), "{error}");
    }
    for text in ["no url", "https://", "data:application/json,{}"] {
        let error = fetch(&quick(), &issuer(text, KeySource::Discovery)).await.unwrap_err();
        assert!(matches!(error, FetchError::BadUrl { .. } | FetchError::NotHttps { .. }), "{text}: {error}");
    }
}

/// What the server does, whether the error is the right one, and part of its text.
type Case = (fn(&str, &str) -> Answer, fn(&FetchError) -> bool, &'static str);

/// An issuer `corp` with ES256, EdDSA and RS256.
pub(in crate::keyring) fn issuer(iss: &str, keys: KeySource) -> Issuer {
    Issuer {
        name: "corp".into(),
        issuer: iss.into(),
        audience: vec!["jpat://lab".into()],
        algorithms: vec![Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256],
        keys,
        accept: [Form::Bare].into(),
        source_binding: SourceBinding::Observed,
        replay: ReplayMode::BindSource,
        typ: vec!["jpat+jwt".into()],
        leeway: Duration::from_secs(10),
        max_lifetime: Duration::from_secs(86_400),
        max_stale: Duration::from_secs(43_200),
        allow_http: false,
    }
}

fn quick() -> Client {
    crate::token::install_crypto();
    builder(Duration::from_millis(700)).no_proxy().build().unwrap()
}

fn kids(fetched: &Fetched) -> Vec<&str> {
    fetched.keys.keys().iter().filter_map(|key| key.kid()).collect()
}

async fn serve_issuer(dir: &Path, path: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}{path}", listener.local_addr().unwrap());
    let app = serve::router(&url, dir, |error| eprintln!("{error}")).unwrap();
    tokio::spawn(serve::serve(listener, app, std::future::pending()));
    url
}

enum Answer {
    Bytes(Vec<u8>),
    /// A body without end.
    Endless,
    /// A byte now and then.
    Drip,
    Silence,
}

fn ok(body: &str) -> Answer {
    Answer::Bytes(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into())
}

fn html() -> Answer {
    Answer::Bytes(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>".to_vec())
}

fn status(code: u16) -> Answer {
    Answer::Bytes(format!("HTTP/1.1 {code} X\r\ncontent-length: 0\r\n\r\n").into())
}

fn document(issuer: &str, base: &str) -> Answer {
    ok(&json!({"issuer": issuer, "jwks_uri": format!("{base}/jwks")}).to_string())
}

struct Server {
    url: String,
}

impl Server {
    /// `answer` gets the server's URL and the requested path.
    async fn start(answer: impl Fn(&str, &str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let url = format!("http://{address}");
        let (answer, base) = (Arc::new(answer), url.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, base) = (answer.clone(), base.clone());
                tokio::spawn(async move {
                    let mut request = vec![0; 4096];
                    let length = stream.read(&mut request).await.unwrap_or(0);
                    let request = String::from_utf8_lossy(&request[..length]).into_owned();
                    let path = request.split(' ').nth(1).unwrap_or("").to_owned();
                    let _gone = reply(&mut stream, answer(&base, &path)).await;
                });
            }
        });
        Self { url }
    }
}

async fn reply(stream: &mut tokio::net::TcpStream, answer: Answer) -> std::io::Result<()> {
    match answer {
        Answer::Bytes(bytes) => stream.write_all(&bytes).await,
        Answer::Silence => {
            time::sleep(Duration::from_secs(60)).await;
            Ok(())
        }
        Answer::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            loop {
                stream.write_all(&[b' '; 16 * 1024]).await?;
            }
        }
        Answer::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await?;
            loop {
                stream.write_all(b" ").await?;
                time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
