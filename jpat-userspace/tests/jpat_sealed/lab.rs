//! A client with a profile, and a server that answers as it is told.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread::JoinHandle,
    time::Duration,
};

use jpat_userspace::{
    client::profile::Profile,
    clock::{self, UnixTime},
    knock::{
        inner::Inner,
        reply::{Outcome, Reply},
        sealed::{self, KnockKey, Server, ServerKey},
    },
    secret_file::Secret,
};
use serde_json::Value;

use crate::{DONE, ID};

/// A directory with an issuer, a server's keys, a profile, and a place for a token.
pub(crate) struct Lab(pub(crate) tempfile::TempDir);

impl Lab {
    pub(crate) fn new() -> Self {
        let lab = Self(tempfile::tempdir().unwrap());
        assert_eq!(jpat(&["issuer", "keys", "generate", "--dir", &lab.file("keys")]).code, DONE);
        let profile = Profile {
            path: PathBuf::new(),
            host: Some("127.0.0.1".parse().unwrap()),
            port: 9,
            reply: true,
            token_file: None,
            client_key: None,
            address: None,
            server_id: ID.into(),
            server_keys: vec![lab.server().keys[0].public()],
            knock_key_id: 1,
            knock_key: Secret::new([3; 32]),
        };
        jpat_userspace::secret_file::create(Path::new(&lab.profile_file()), profile.render().as_bytes()).unwrap();
        lab
    }

    pub(crate) fn server(&self) -> Server {
        Server { id: ID.into(), keys: vec![ServerKey::from_bytes(&[7; 32]).unwrap()] }
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn profile_file(&self) -> String {
        self.file("profile.toml")
    }

    /// Signs a token into the token file.
    pub(crate) fn sign(&self, extra: &[&str]) -> String {
        let dir = self.file("keys");
        let fixed = ["issuer", "sign", "--dir", &dir, "--issuer", "https://tokens.example", "--audience", "jpat://lab"];
        let seen = jpat(&fixed.iter().chain(&["--subject", "employee:1"]).chain(extra).collect::<Vec<_>>());
        assert_eq!((seen.code, &*seen.err), (DONE, ""));
        fs::write(self.file("token"), &seen.out).unwrap();
        seen.out.trim_end().to_owned()
    }

    pub(crate) fn run(&self, port: u16, extra: &[&str]) -> Seen {
        let (port, token, profile) = (port.to_string(), self.file("token"), self.profile_file());
        let fixed = ["knock", "127.0.0.1", "--knock-port", &port, "--token-file", &token, "--profile", &profile];
        jpat(&fixed.iter().chain(extra).collect::<Vec<_>>())
    }

    /// A knock that is answered at once, and what was in it.
    pub(crate) fn knock(
        &self,
        extra: &[&str],
        outcome: impl Fn(UnixTime) -> Outcome + Send + 'static,
    ) -> (Seen, Vec<Inner>) {
        let server = Answering::start(self.server(), Answers { after: 0, ahead: 0, outcome: Box::new(outcome) });
        let seen = self.run(server.port, extra);
        (seen, server.end().1)
    }
}

/// How knocks are answered.
pub(crate) struct Answers {
    /// This many are not.
    pub(crate) after: usize,
    /// Seconds that the server's clock is ahead.
    pub(crate) ahead: u64,
    pub(crate) outcome: Box<dyn Fn(UnixTime) -> Outcome + Send>,
}

/// A server in a thread, until the end.
pub(crate) struct Answering {
    pub(crate) port: u16,
    stop: mpsc::Sender<()>,
    thread: JoinHandle<(Vec<Vec<u8>>, Vec<Inner>)>,
}

impl Answering {
    pub(crate) fn start(server: Server, answers: Answers) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let port = socket.local_addr().unwrap().port();
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let (mut datagrams, mut inners) = (Vec::new(), Vec::new());
            let tag = KnockKey::new(1, [3; 32]).tag_key(ID);
            let mut buffer = [0; 2048];
            loop {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    match stopped.try_recv() {
                        Ok(()) => return (datagrams, inners),
                        Err(_) => continue,
                    }
                };
                let datagram = buffer[..length].to_vec();
                assert_eq!(tag.tag(&datagram), datagram[16..24], "the filter would take it");
                let opened = sealed::open(&datagram, from.ip(), &server).unwrap();
                datagrams.push(datagram);
                inners.push(opened.inner);
                if inners.len() > answers.after {
                    let server_time = clock::now().unix.after(Duration::from_secs(answers.ahead));
                    let reply = Reply { outcome: (answers.outcome)(server_time), server_time };
                    socket.send_to(&opened.ticket.seal(&reply).unwrap(), from).unwrap();
                }
            }
        });
        Self { port, stop, thread }
    }

    pub(crate) fn end(self) -> (Vec<Vec<u8>>, Vec<Inner>) {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap()
    }
}

pub(crate) fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..length].to_vec(), from)
}

pub(crate) fn done(services: &[(&str, UnixTime)]) -> Outcome {
    let services: BTreeMap<_, _> = services.iter().map(|(name, end)| ((*name).to_owned(), *end)).collect();
    Outcome::Done { services: services.into_iter().collect(), repeated: false }
}

pub(crate) struct Seen {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Seen {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("no JSON: {} {}", self.out, self.err))
    }
}

pub(crate) fn jpat(arguments: &[impl AsRef<OsStr>]) -> Seen {
    Seen::of(command().args(arguments).output().unwrap())
}

pub(crate) fn command() -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_jpat")));
    for name in ["JPAT_TOKEN_FILE", "JPAT_KNOCK_PORT", "JPAT_ISSUER_DIR", "JPAT_PROFILE", "XDG_CONFIG_HOME"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}
