//! Who seals knocks in a trial: the keys of a server, of a group and of a client, and datagrams made with them.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result};
use jpat_userspace::{
    clock::{self, UnixTime},
    knock::{
        proof::{ClientKey, Kind},
        reply::Reply,
        sealed::{self, KnockKey, Possession, ReplyTicket, Request, ServerKey, Target, Verb},
    },
};
use serde_json::{Value, json};

use crate::{forge, netns::NetNs};

/// Keys, and what a client knows of its server.
pub struct Knocker {
    server: String,
    server_key: ServerKey,
    knock_key: KnockKey,
    client: ClientKey,
}

/// A datagram, and what opens its reply.
pub struct Sealed {
    /// To be sent as it is.
    pub datagram: Vec<u8>,
    /// For the reply.
    pub ticket: ReplyTicket,
}

/// What is in a knock besides its token.
#[derive(Clone, Copy, Default)]
pub struct Wish<'a> {
    /// To open, if nothing else is said.
    pub verb: Option<Verb>,
    /// The services; none for all.
    pub services: &'a [String],
    /// The address that the knock says it is from.
    pub address: Option<IpAddr>,
    /// Whether the client's key signs it.
    pub proof: Option<Named>,
    /// Milliseconds that the sender's clock is ahead.
    pub ahead_ms: i64,
}

/// How a token names its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named {
    /// `cnf.jwk`.
    Key,
    /// `cnf.jkt`.
    Thumbprint,
}

impl Knocker {
    /// New keys for a server of this id.
    ///
    /// # Errors
    /// Without randomness.
    pub fn new(server: &str, kind: Kind) -> Result<Self> {
        Ok(Self {
            server: server.to_owned(),
            server_key: ServerKey::generate()?,
            knock_key: KnockKey::generate(1)?,
            client: ClientKey::generate(kind)?,
        })
    }

    /// The same client with a knock key of its own under another id: another group.
    ///
    /// # Errors
    /// Without randomness.
    pub fn with_knock_key(mut self, id: u16) -> Result<Self> {
        self.knock_key = KnockKey::generate(id)?;
        Ok(self)
    }

    /// Another client of the same server, of another group.
    ///
    /// # Errors
    /// Without randomness.
    pub fn neighbour(&self, id: u16) -> Result<Self> {
        Ok(Self {
            server: self.server.clone(),
            server_key: self.server_key.clone(),
            knock_key: KnockKey::generate(id)?,
            client: ClientKey::generate(Kind::Ed25519)?,
        })
    }

    /// What opens its knocks.
    #[must_use]
    pub fn server(&self) -> sealed::Server {
        sealed::Server { id: self.server.clone(), keys: vec![self.server_key.clone()] }
    }

    /// The same client with keys of the server that differ: `other`'s.
    #[must_use]
    pub fn towards(&self, other: &Self) -> Target {
        Target { server: other.server.clone(), ..self.target() }
    }

    /// Writes `server.key` and `knock-N.key` for the configuration.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write_keys(&self, dir: &Path) -> Result<()> {
        write_secret(&dir.join("server.key"), &forge::encode(&*self.server_key.secret()))?;
        self.write_knock_key(dir)
    }

    /// Writes `knock-N.key` alone.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_knock_key(&self, dir: &Path) -> Result<()> {
        write_secret(&dir.join(format!("knock-{}.key", self.knock_key.id)), &forge::encode(self.knock_key.secret()))
    }

    /// Writes the client's private key as a JWK.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_client_key(&self, path: &Path) -> Result<()> {
        write_secret(path, &self.client.to_jwk()?)
    }

    /// The `cnf` of a token that is bound to the client's key.
    #[must_use]
    pub fn confirmation(&self, named: Named) -> Value {
        let public = self.client.public();
        match named {
            Named::Key => json!({ "jwk": public.to_jwk() }),
            Named::Thumbprint => json!({ "jkt": public.thumbprint() }),
        }
    }

    /// What the client knows.
    #[must_use]
    pub fn target(&self) -> Target {
        let public = self.server_key.public();
        Target { server: self.server.clone(), public, knock_key: self.knock_key.clone() }
    }

    /// Seals a knock.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn seal(&self, token: &str, wish: Wish<'_>) -> Result<Sealed> {
        self.seal_to(&self.target(), token, wish)
    }

    /// As [`Self::seal`], to another target.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn seal_to(&self, target: &Target, token: &str, wish: Wish<'_>) -> Result<Sealed> {
        let Wish { verb, services, address, proof, ahead_ms } = wish;
        let proof = proof.map(|named| Possession { key: &self.client, by_thumbprint: named == Named::Thumbprint });
        let request = Request { verb: verb.unwrap_or(Verb::Open), token, services, address, proof };
        let now = UnixTime(clock::now().unix.0.saturating_add_signed(ahead_ms * 1_000_000));
        let (datagram, ticket) = sealed::seal(&request, target, now)?;
        Ok(Sealed { datagram, ticket })
    }

    /// Writes the right tag into a datagram that was changed, as somebody with the knock key can.
    pub fn tag(&self, datagram: &mut [u8]) {
        let tag = self.knock_key.tag_key(&self.server).tag(datagram);
        datagram[16..24].copy_from_slice(&tag);
    }
}

impl Sealed {
    /// Sends it from `ns`, and waits for its reply until `patience` is over. `None`: there was none.
    ///
    /// # Errors
    /// If it cannot be sent, or what came is no reply to it.
    pub fn exchange(&self, ns: &NetNs, to: SocketAddr, patience: Duration) -> Result<Option<Reply>> {
        let answer = ns.run(|| exchange(to, &self.datagram, patience))?;
        answer.map(|answer| self.ticket.open(&answer).context("a datagram that is no reply")).transpose()
    }
}

fn exchange(to: SocketAddr, datagram: &[u8], patience: Duration) -> Result<Option<Vec<u8>>> {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(datagram)?;
    let mut answer = [0; 2048];
    match socket.recv(&mut answer) {
        Ok(length) => Ok(Some(answer[..length].to_owned())),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, text.as_bytes()).with_context(|| format!("write {}", path.display()))
}
