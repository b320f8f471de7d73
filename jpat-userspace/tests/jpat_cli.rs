//! The program `jpat` as a user runs it: exit codes, messages, bytes on the wire.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;

#[test]
fn a_bare_knock_carries_the_token_and_says_what_is_known() {
    let lab = Lab::new();
    let token = lab.sign(&[]);
    let server = listen();
    let port = server.local_addr().unwrap().port();
    let seen = lab.knock(port, &["--bare"]);
    assert_eq!(received(&server), token.as_bytes());
    let text = format!("sent {} bytes to 127.0.0.1 udp/{port}; the server does not answer\n", token.len());
    assert_eq!((seen.code, &*seen.out, &*seen.err), (DONE, &*text, ""));
}

#[test]
fn the_token_comes_from_standard_input_or_the_environment_too() {
    let lab = Lab::new();
    let token = lab.sign(&[]);
    let server = listen();
    let port = server.local_addr().unwrap().port().to_string();
    let arguments = ["knock", "127.0.0.1", "--bare", "--knock-port", &port];
    let seen = jpat_with(arguments.iter().chain(&["--token-file", "-"]), &format!("{token}\n"), None);
    assert_eq!((seen.code, received(&server)), (DONE, token.clone().into_bytes()));
    let seen = jpat_with(arguments.iter(), "", Some(&lab.token_file()));
    assert_eq!((seen.code, received(&server)), (DONE, token.into_bytes()));
    let seen = jpat_with(arguments.iter(), "", None);
    assert_eq!(seen.code, USAGE);
    assert!(seen.err.contains("--token-file"), "{}", seen.err);
}

#[test]
fn later_commands_are_refused_by_name() {
    for arguments in [
        &["proxy", "web-1", "22"][..],
        &["exec", "--to", "web-1", "--", "ssh", "--help"],
        &["issuer", "verify", "--token-file", "x"],
    ] {
        let seen = jpat(arguments);
        assert_eq!(seen.code, USAGE, "{arguments:?}");
        assert!(seen.err.contains("not available in this version"), "{arguments:?}: {}", seen.err);
    }
    let seen = jpat(&["knok"]);
    assert!(seen.code == USAGE && seen.err.contains("'knock'"), "{}", seen.err);
}

#[test]
fn wrong_usage_comes_with_the_hint() {
    for (arguments, hint) in [
        (&["knock", "web-1:8443", "--bare"][..], "8443 looks like a service port: use --wait tcp/8443"),
        (&["knock", "[::1]:22", "--bare"], "22 looks like a service port: use --wait tcp/22"),
        (&["knock", "https://web-1", "--bare"], "give the name or the address of the server alone"),
        (&["knock", "web-1", "--bare", "--wait", "8443"], "name the protocol as well: tcp/8443"),
        (&["knock", "web-1", "--bare", "--wait", "udp/53"], "not available in this version"),
        (&["knock", "web-1", "--bare", "--wait-timeout", "5"], "with its unit"),
        (&["knock", "web-1", "--bare", "--knock-port", "0"], "0 is not in"),
        (&["knock", "web-1", "-4", "-6"], "cannot be used with"),
        (&["knock", "web-1", "--bare", "--close"], "cannot be used with"),
        (&["knock", "web-1", "--renew", "--close"], "cannot be used with"),
        (&["knock", "web-1", "--service", "A/b"], "a service is named with 1 to 64 letters, digits, '.', '_' and '-'"),
        (&["knock", "web-1", "--address", "here"], "expected an address, or \"auto\""),
        (&["knock", "--bare"], "<HOST>"),
    ] {
        let seen = jpat(arguments);
        assert_eq!(seen.code, USAGE, "{arguments:?}");
        assert!(seen.err.contains(hint), "{arguments:?}: {}", seen.err);
    }
}

#[test]
fn a_hopeless_token_is_not_sent_unless_forced() {
    let lab = Lab::new();
    let server = listen();
    let port = server.local_addr().unwrap().port();
    let token = lab.sign(&["--at", "2020-01-01T00:00:00Z"]);
    let seen = lab.knock(port, &["--bare"]);
    assert_eq!(seen.code, FAILED);
    assert!(seen.err.starts_with("jpat: not sent: the token expired ") && seen.err.contains("--force"), "{}", seen.err);
    let seen = lab.knock(port, &["--bare", "--force"]);
    assert_eq!((seen.code, received(&server)), (DONE, token.into_bytes()), "and the first attempt sent nothing");
    assert!(seen.err.starts_with("warning: the token expired "), "{}", seen.err);

    for (text, message) in [
        ("opaque", "not a compact JWS"),
        ("e30.e30.x\ne30.e30.x", "not a compact JWS"),
        (" \n", "holds no token"),
        (
            &*format!("e30.{}.x", "a".repeat(1300)),
            "does not fit one datagram of at most 1232 bytes: bare the knock takes 1306",
        ),
    ] {
        fs::write(lab.token_file(), text).unwrap();
        let seen = lab.knock(port, &["--bare", "--force"]);
        assert!(seen.code == FAILED && seen.err.contains(message), "{text:?}: {}", seen.err);
    }
}

#[test]
fn wait_succeeds_only_when_the_service_answers() {
    let lab = Lab::new();
    lab.sign(&[]);
    let (server, service) = (listen(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (port, open) = (server.local_addr().unwrap().port(), service.local_addr().unwrap().port());
    let seen = lab.knock(port, &["--bare", "--wait", &format!("tcp/{open}")]);
    assert_eq!((seen.code, &*seen.err), (DONE, ""));
    assert!(seen.out.lines().nth(1).unwrap().starts_with(&format!("tcp/{open} on 127.0.0.1 answers after ")));

    drop(service);
    let seen = lab.knock(port, &["--bare", "--wait", &format!("tcp/{open}"), "--wait-timeout", "100ms"]);
    assert_eq!(seen.code, FAILED);
    let text = format!("jpat: tcp/{open} on 127.0.0.1 did not open within 0.1 s");
    assert!(seen.err.contains(&text) && seen.err.contains("hint: "), "{}", seen.err);
}

#[test]
fn a_host_that_rejects_the_knock_port_is_told() {
    let lab = Lab::new();
    lab.sign(&[]);
    let port = listen().local_addr().unwrap().port();
    let seen = lab.knock(port, &["--bare", "--wait", "tcp/1", "--wait-timeout", "50ms"]);
    assert_eq!(seen.code, FAILED);
    assert!(seen.out.contains("they were rejected: "), "{}", seen.out);
    assert!(seen.err.contains("is it the right host and --knock-port?"), "{}", seen.err);
}

#[test]
fn json_has_a_version_for_good_and_for_bad() {
    let lab = Lab::new();
    lab.sign(&[]);
    let (server, service) = (listen(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (port, open) = (server.local_addr().unwrap().port(), service.local_addr().unwrap().port());
    let seen = lab.knock(port, &["--bare", "-o", "json", "--wait", &format!("tcp/{open}")]).json();
    assert_eq!(seen["version"], 1);
    assert_eq!(seen["outcome"], "open");
    assert_eq!(seen["sent"][0]["address"], "127.0.0.1");
    assert_eq!(seen["open"]["service"], format!("tcp/{open}"));
    lab.sign(&["--at", "2020-01-01T00:00:00Z"]);
    let seen = lab.knock(port, &["--bare", "-o", "json"]);
    assert_eq!(seen.code, FAILED);
    assert_eq!(seen.json()["error"]["code"], "expired");
}

#[test]
fn keys_are_made_listed_published_and_removed() {
    let lab = Lab::new();
    let dir = lab.keys_dir();
    let made = jpat(&["issuer", "keys", "generate", "--dir", &dir, "--alg", "RS256", "-o", "json"]).json();
    let kid = made["keys"][0]["kid"].as_str().unwrap();
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o7777, 0o700);
    for entry in fs::read_dir(&dir).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    }
    let listed = jpat(&["issuer", "keys", "list", "--dir", &dir]).out;
    assert_eq!(listed.lines().count(), 2);
    assert!(listed.lines().nth(1).unwrap().starts_with(kid));
    let set: Value = serde_json::from_str(&jpat(&["issuer", "keys", "jwks", "--dir", &dir]).out).unwrap();
    assert_eq!(set["keys"].as_array().unwrap().len(), 2);
    assert!(!set.to_string().contains("\"d\""));
    assert!(jpat(&["issuer", "keys", "pem", "--dir", &dir]).out.starts_with("-----BEGIN PUBLIC KEY-----\n"));
    assert_eq!(jpat(&["issuer", "keys", "remove", "--dir", &dir, kid]).code, DONE);
    // A thumbprint may begin like an option.
    let seen = jpat(&["issuer", "keys", "remove", "--dir", &dir, "-unknown"]);
    assert!(seen.code == FAILED && seen.err.contains("keys list"), "{}", seen.err);
    assert_eq!(jpat(&["issuer", "keys", "generate", "--dir", &dir, "--alg", "HS256"]).code, USAGE);
}

#[test]
fn sign_refuses_what_it_cannot_mean() {
    let lab = Lab::new();
    for (extra, message) in [
        (&["--claim", "team=red"][..], "for a string write 'team=\"red\"'"),
        (&["--claim", "team"], "expected NAME=JSON"),
        (&["--ttl=-5m"], "with its unit"),
        (&["--at", "yesterday"], "expected a moment"),
    ] {
        let seen = jpat(&lab.sign_arguments(extra));
        assert!(seen.code == USAGE && seen.err.contains(message), "{extra:?}: {}", seen.err);
    }
    let seen = jpat(&lab.sign_arguments(&["--claim", "exp=1"]));
    assert!(seen.code == FAILED && seen.err.contains("\"exp\""), "{}", seen.err);
    let seen = jpat(&lab.sign_arguments(&["--claim", &format!("fat=\"{}\"", "x".repeat(700))]));
    assert!(
        seen.code == DONE && seen.err.contains("a bare knock carries at most 1232; a sealed one takes about "),
        "{}",
        seen.err
    );
}

#[test]
fn serve_publishes_shows_new_keys_and_ends_on_sigterm() {
    let lab = Lab::new();
    let mut served = Served::start(&["issuer", "serve", "--dir", &lab.keys_dir(), "--listen", "127.0.0.1:0"]);
    let discovery = served.get("/.well-known/openid-configuration");
    let discovery: Value = serde_json::from_str(discovery.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(discovery["issuer"], format!("http://{}", served.address));
    assert_eq!(discovery["jwks_uri"], format!("http://{}/jwks.json", served.address));
    assert_eq!(discovery["id_token_signing_alg_values_supported"][0], "ES256");
    assert!(served.get("/.well-known/oauth-authorization-server").contains("\"jwks_uri\""));
    let jwks = served.get("/jwks.json");
    assert!(jwks.contains("application/jwk-set+json") && jwks.contains("max-age=60"), "{jwks}");
    assert_eq!(jwks.matches("\"kid\"").count(), 1);
    jpat(&["issuer", "keys", "generate", "--dir", &lab.keys_dir(), "--alg", "EdDSA"]);
    assert_eq!(served.get("/jwks.json").matches("\"kid\"").count(), 2);
    for nothing in ["/token", "/", "/keys", "/0001-ES256.pem"] {
        assert!(served.get(nothing).starts_with("HTTP/1.1 404"), "{nothing}");
    }
    assert_eq!(served.terminate().code(), Some(DONE));

    let seen =
        jpat(&["issuer", "serve", "--dir", &lab.keys_dir(), "--issuer", "tokens.example", "--listen", "127.0.0.1:0"]);
    assert!(seen.code == FAILED && seen.err.contains("the issuer is a URL"), "{}", seen.err);
}

/// A directory with an ES256 key, and a place for a token.
struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Self {
        let lab = Self(tempfile::tempdir().unwrap());
        assert_eq!(jpat(&["issuer", "keys", "generate", "--dir", &lab.keys_dir()]).code, DONE);
        lab
    }

    fn keys_dir(&self) -> String {
        self.0.path().join("keys").to_str().unwrap().to_owned()
    }

    fn token_file(&self) -> String {
        self.0.path().join("token").to_str().unwrap().to_owned()
    }

    fn sign_arguments(&self, extra: &[&str]) -> Vec<String> {
        let dir = self.keys_dir();
        let fixed = ["issuer", "sign", "--dir", &dir, "--issuer", "https://tokens.example", "--audience", "jpat://lab"];
        let subject = ["--subject", "employee:1", "--role", "commerce-listings-admin"];
        fixed.iter().chain(&subject).chain(extra).map(|argument| (*argument).to_owned()).collect()
    }

    /// Signs a token into the token file.
    fn sign(&self, extra: &[&str]) -> String {
        let seen = jpat(&self.sign_arguments(extra));
        assert_eq!((seen.code, &*seen.err), (DONE, ""));
        fs::write(self.token_file(), &seen.out).unwrap();
        seen.out.trim_end().to_owned()
    }

    fn knock(&self, port: u16, extra: &[&str]) -> Seen {
        let (port, file) = (port.to_string(), self.token_file());
        let fixed = ["knock", "127.0.0.1", "--knock-port", &port, "--token-file", &file];
        jpat(&fixed.iter().chain(extra).collect::<Vec<_>>())
    }
}

struct Seen {
    code: i32,
    out: String,
    err: String,
}

impl Seen {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("no JSON: {} {}", self.out, self.err))
    }
}

fn jpat(arguments: &[impl AsRef<OsStr>]) -> Seen {
    jpat_with(arguments.iter(), "", None)
}

fn jpat_with(arguments: impl Iterator<Item = impl AsRef<OsStr>>, input: &str, token_file: Option<&str>) -> Seen {
    let mut command = command();
    if let Some(file) = token_file {
        command.env("JPAT_TOKEN_FILE", file);
    }
    let mut child = command.args(arguments).stdin(Stdio::piped()).spawn().unwrap();
    // A program that reads nothing has closed its end.
    let _written = child.stdin.take().unwrap().write_all(input.as_bytes());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Seen { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

fn command() -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_jpat")));
    for name in ["JPAT_TOKEN_FILE", "JPAT_KNOCK_PORT", "JPAT_ISSUER_DIR", "JPAT_PROFILE", "XDG_CONFIG_HOME"] {
        command.env_remove(name);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn listen() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn received(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    let length = socket.recv(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

/// A running `jpat issuer serve`.
struct Served {
    child: Child,
    address: String,
}

impl Served {
    fn start(arguments: &[&str]) -> Self {
        let mut child = command().args(arguments).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split(" on http://").nth(1).unwrap().split(';').next().unwrap().to_owned();
        Self { child, address }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn terminate(&mut self) -> ExitStatus {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Ended already, unless a test failed.
        let _gone = self.child.kill().and_then(|()| self.child.wait());
    }
}
