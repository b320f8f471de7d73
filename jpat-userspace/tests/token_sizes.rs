//! Tokens of the sizes that identity providers give out: which of them `jpat knock` sends bare, which sealed, and what it says of
//! the others. `cargo test -p jpat-userspace --test token_sizes -- --nocapture` prints the table.
#![expect(clippy::unwrap_used, clippy::unwrap_in_result, reason = "a test fails by panicking, in its helpers too")]

use std::{
    fs,
    net::UdpSocket,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jpat_userspace::{
    client::profile::Profile,
    clock,
    knock::{
        proof::{ClientKey, Kind},
        sealed::{self, Server, ServerKey},
    },
    secret_file::{self, Secret},
};

/// Most bytes of a knock.
const MAX: usize = 1232;

/// Name, bytes of the compact token, bytes of its signature, whether it is bound to a key.
const TOKENS: [(&str, usize, usize, bool); 15] = [
    ("HS256, few claims", 220, 32, false),
    ("JPAT issuer, ES256, few claims", 315, 64, false),
    ("JPAT issuer, EdDSA, bound to a key", 543, 64, true),
    ("Google workload identity", 749, 256, false),
    ("Auth0 access, 6 permissions", 946, 256, false),
    ("Okta access, 4 groups", 988, 256, false),
    ("Cognito access", 1098, 256, false),
    ("Kubernetes service account (pod, node)", 1189, 256, false),
    ("Google ID token", 1190, 256, false),
    ("EKS service account", 1232, 256, false),
    ("Keycloak access, few roles", 1424, 256, false),
    ("Entra v2 access, no groups", 1539, 256, false),
    ("Entra v1 access", 1867, 256, false),
    ("GitHub Actions", 1886, 256, false),
    ("Entra v2 access, 40 groups", 3543, 256, false),
];

#[test]
fn p6_real_tokens_are_sent_sealed_or_refused_before_they_are_sent() {
    let lab = Lab::new();
    println!("| token (RS256 unless said) | compact | raw | bare | sealed |");
    println!("|---|---|---|---|---|");
    let mut refused = None;
    for (name, length, signature, is_bound) in TOKENS {
        let token = lab.token(length, signature, is_bound);
        assert_eq!(token.len(), length, "{name}");
        let raw: usize = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap().len()).sum();
        let (bare, sealed) = (lab.knock(&token, &["--bare"]), lab.knock(&token, &lab.sealing()));

        match &bare {
            Ok(sent) => assert!(sent.as_slice() == token.as_bytes() && length <= MAX && !is_bound, "{name}"),
            Err(said) if is_bound => assert!(said.contains("bound to a key (cnf)"), "{name}: {said}"),
            Err(said) => {
                assert!(
                    length > MAX && said.contains(&format!("bare the knock takes {length}, sealed ")),
                    "{name}: {said}"
                );
            }
        }
        match &sealed {
            Ok(sent) => {
                let opened = sealed::open(sent, "127.0.0.1".parse().unwrap(), &lab.server).unwrap();
                assert_eq!((opened.inner.token, opened.inner.proof.is_some()), (token, is_bound), "{name}");
                assert!(sent.len() <= MAX && sent.len() < raw + 256, "{name}: {}", sent.len());
            }
            Err(said) => {
                assert!(raw > 1000 && said.contains("exchange it for a small token"), "{name}: {said}");
                refused.get_or_insert_with(|| said.clone());
            }
        }
        let bare = match bare {
            Ok(_) => "yes".to_owned(),
            Err(_) if is_bound => "no: bound tokens are sealed".to_owned(),
            Err(said) if said.contains("knock sealed") => "no: \"knock sealed\"".to_owned(),
            Err(_) => "no".to_owned(),
        };
        let sealed = match sealed {
            Ok(sent) => format!("{} bytes", sent.len()),
            Err(said) => format!("no, would be {}", said.split("sealed ").nth(1).unwrap().split('.').next().unwrap()),
        };
        println!("| {name} | {length} | {raw} | {bare} | {sealed} |");
    }
    println!("\n{}", refused.unwrap());
}

/// A server that listens and stays silent, a profile of it, and a client's key.
struct Lab {
    dir: tempfile::TempDir,
    socket: UdpSocket,
    server: Server,
    key: ClientKey,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = ServerKey::generate().unwrap();
        let profile = Profile {
            path: PathBuf::new(),
            host: None,
            port: 1337,
            reply: true,
            token_file: None,
            client_key: None,
            address: None,
            server_id: "web-1.example.com".into(),
            server_keys: vec![key.public()],
            knock_key_id: 1,
            knock_key: Secret::new([3; 32]),
        };
        secret_file::create(&dir.path().join("profile.toml"), profile.render().as_bytes()).unwrap();
        let client = ClientKey::generate(Kind::Ed25519).unwrap();
        secret_file::create(&dir.path().join("key.jwk"), client.to_jwk().unwrap().as_bytes()).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let server = Server { id: "web-1.example.com".into(), keys: vec![key] };
        Self { dir, socket, server, key: client }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn sealing(&self) -> Vec<String> {
        ["--profile", &self.path("profile.toml"), "--key", &self.path("key.jwk"), "--timeout", "0s"]
            .map(str::to_owned)
            .into()
    }

    /// A token of exactly this length, the rest of its payload filled up. Nobody verifies it.
    fn token(&self, length: usize, signature: usize, is_bound: bool) -> String {
        let header = |kid: usize| {
            let header = format!(r#"{{"alg":"RS256","kid":"{}","typ":"JWT"}}"#, "k".repeat(kid));
            URL_SAFE_NO_PAD.encode(header)
        };
        let cnf =
            if is_bound { format!(r#""cnf":{{"jkt":"{}"}},"#, self.key.public().thumbprint()) } else { String::new() };
        let exp = clock::now().unix.secs() + 300;
        let payload = |fill: usize| {
            let fill = "x".repeat(fill);
            URL_SAFE_NO_PAD.encode(format!(r#"{{{cnf}"iss":"https://i","aud":"a","exp":{exp},"x":"{fill}"}}"#))
        };
        let signature = URL_SAFE_NO_PAD.encode(vec![7; signature]);
        // base64url has no text of 4n + 1 characters: then the header is a little longer.
        let tokens = (20..24).flat_map(|kid| (0..length).map(move |fill| (kid, fill)));
        let mut tokens = tokens.filter(|(kid, fill)| {
            let exact = header(*kid).len() + payload(*fill).len() + signature.len() + 2;
            exact == length
        });
        let (kid, fill) = tokens.next().unwrap();
        format!("{}.{}.{signature}", header(kid), payload(fill))
    }

    /// The datagram that was sent, or what was said instead.
    fn knock(&self, token: &str, how: &[impl AsRef<str>]) -> Result<Vec<u8>, String> {
        let port = self.socket.local_addr().unwrap().port().to_string();
        fs::write(self.path("token"), token).unwrap();
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_jpat")));
        command.env_remove("JPAT_PROFILE").args(["knock", "127.0.0.1", "--knock-port", &port]);
        command.args(["--token-file", &self.path("token")]).args(how.iter().map(AsRef::as_ref));
        let output = command.output().unwrap();
        let mut buffer = [0; 4096];
        // A datagram over loopback is there once the sender has returned.
        let sent = self.socket.recv(&mut buffer).map(|length| buffer[..length].to_vec());
        let said = String::from_utf8(output.stderr).unwrap();
        match sent {
            Ok(datagram) => {
                assert_eq!((output.status.code(), &*said), (Some(0), ""));
                Ok(datagram)
            }
            Err(_nothing) => {
                assert_eq!(output.status.code(), Some(1), "{said}");
                Err(said)
            }
        }
    }
}
