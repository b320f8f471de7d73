//! A controller to be measured, and whoever knocks at it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    binaries, bpffs,
    forge::{self, Key},
    knocker::{Knocker, Named, Wish},
    metrics::Metrics,
    netns::NetNs,
    probe,
    process::Process,
    wait::{self, PATIENCE},
};
use jpat_userspace::{clock, knock::proof::Kind};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

pub(crate) const KNOCK_PORT: u16 = 1337;
pub(crate) const SERVICE_PORT: u16 = 9999;
const METRICS: &str = "127.0.0.1:9337";
const SERVER: &str = "web-1.example";
/// Knock key of the insider's group.
const GUESTS: u16 = 2;

/// How tokens are signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Algorithm {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

/// How knocks are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// The datagram is the token.
    Bare,
    /// Encrypted to the server.
    Sealed,
    /// And signed by the client, whose Ed25519 key the token names.
    Proof,
}

/// What differs from one controller to another.
pub(crate) struct Setup<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) form: Form,
    /// Life of a grant.
    pub(crate) ttl: &'a str,
    /// Lines of `[limits]`.
    pub(crate) limits: &'a str,
    /// The one CPU that it runs on.
    pub(crate) cpu: Option<usize>,
}

/// A controller that runs, and the keys to get past it.
pub(crate) struct Controller<'n> {
    pub(crate) host: &'n NetNs,
    pub(crate) process: Process,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) form: Form,
    pub(crate) key: Key,
    pub(crate) knocker: Knocker,
    /// A client of another group.
    pub(crate) insider: Knocker,
}

impl Algorithm {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    fn key(self) -> Result<Key> {
        match self {
            Self::Hs256 => Key::hs256("k1"),
            Self::Rs256 => Key::rs256("k1"),
            Self::Es256 => Key::es256("k1"),
            Self::EdDsa => Key::eddsa("k1"),
        }
    }
}

impl Form {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Sealed => "sealed",
            Self::Proof => "sealed with proof",
        }
    }
}

impl<'n> Controller<'n> {
    /// Starts one in `host`; its pins are called `name`.
    pub(crate) fn start(host: &'n NetNs, name: &str, setup: &Setup<'_>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let key = setup.algorithm.key()?;
        let knocker = Knocker::new(SERVER, Kind::Ed25519)?;
        let insider = knocker.neighbour(GUESTS)?;
        knocker.write_keys(dir.path())?;
        insider.write_knock_key(dir.path())?;
        match setup.algorithm {
            Algorithm::Hs256 => write_secret(&dir.path().join("secret"), key.secret()?)?,
            Algorithm::Rs256 | Algorithm::Es256 | Algorithm::EdDsa => {
                fs::write(dir.path().join("jwks.json"), forge::jwks(&[&key])?.to_string())?;
            }
        }
        let pins = Path::new(bpffs::MOUNT_POINT).join(name);
        let config = dir.path().join("jpat.toml");
        fs::write(&config, configuration(setup, &pins))?;
        let mut command = match setup.cpu {
            None => Command::new(binaries::jpatd()?),
            Some(cpu) => {
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", &cpu.to_string()]).arg(binaries::jpatd()?);
                command
            }
        };
        command.args(["run", "--detach-on-exit", "--config"]).arg(&config);
        let mut process = Process::start(host, "jpatd", command)?;
        let metrics = METRICS.parse()?;
        wait::for_true("jpatd to be ready", PATIENCE, || {
            ensure!(process.ended()?.is_none(), "jpatd ended: {}", process.output().text());
            Ok(probe::http_get(host, metrics, "/readyz").is_ok_and(|(status, _)| status == 200))
        })?;
        Ok(Self { host, process, dir, form: setup.form, key, knocker, insider })
    }

    /// Ends it, and what it enforced.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait_end()?;
        Ok(())
    }

    pub(crate) fn admin(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    pub(crate) fn audit(&self) -> PathBuf {
        self.dir.path().join("audit.jsonl")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("jpat.toml")
    }

    pub(crate) fn metrics(&self) -> Result<Metrics> {
        Metrics::scrape(self.host, METRICS.parse()?)
    }

    /// The claims of a good token with this `jti`.
    pub(crate) fn claims(&self, jti: &str) -> Value {
        let now = clock::now().unix.secs();
        let mut claims = json!({
            "iss": "https://idp.example", "aud": "jpat://prod", "sub": format!("employee:{jti}"), "jti": jti,
            "iat": now, "exp": now + 3600, "roles": ["commerce-listings-admin"],
        });
        if self.form == Form::Proof {
            claims["cnf"] = self.knocker.confirmation(Named::Key);
        }
        claims
    }

    /// A good knock that was never sent.
    pub(crate) fn knock(&self, jti: &str) -> Result<Vec<u8>> {
        let token = self.key.token(&self.claims(jti))?;
        let wish = match self.form {
            Form::Bare => return Ok(token.into_bytes()),
            Form::Sealed => Wish::default(),
            Form::Proof => Wish { proof: Some(Named::Key), ..Wish::default() },
        };
        Ok(self.knocker.seal(&token, wish)?.datagram)
    }

    /// Processor time of all its threads so far.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let mut total = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            // A thread that ended meanwhile is left out.
            let Ok(text) = fs::read_to_string(thread?.path().join("schedstat")) else { continue };
            total += text.split(' ').next().context("an empty schedstat")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(total))
    }
}

fn configuration(setup: &Setup<'_>, pins: &Path) -> String {
    let Setup { algorithm, form, ttl, limits, .. } = setup;
    let (accept, replay) = match form {
        Form::Bare => ("bare", "bind-source"),
        Form::Sealed => ("sealed", "bind-source"),
        Form::Proof => ("sealed", "proof"),
    };
    let keys = match algorithm {
        Algorithm::Hs256 => "secret_file = \"secret\"",
        Algorithm::Rs256 | Algorithm::Es256 | Algorithm::EdDsa => "jwks_file = \"jwks.json\"",
    };
    format!(
        "mode = \"enforce\"\nstate = \"state\"\npins = \"{}\"\n\
         [listen]\ninterfaces = [\"eth0\"]\nattach = \"driver\"\nport = {KNOCK_PORT}\n\
         [admin]\nsocket = \"admin.sock\"\nmetrics = \"{METRICS}\"\n[audit]\nfile = \"audit.jsonl\"\n\
         [server]\nid = \"{SERVER}\"\nkeys = [\"server.key\"]\n\
         [[knock_key]]\nid = 1\ngroup = \"staff\"\nfile = \"knock-1.key\"\n\
         [[knock_key]]\nid = {GUESTS}\ngroup = \"guests\"\nfile = \"knock-{GUESTS}.key\"\n\
         [limits]\n{limits}\n\
         [[issuer]]\nname = \"corp\"\nissuer = \"https://idp.example\"\naudience = [\"jpat://prod\"]\n\
         algorithms = [\"{}\"]\naccept = [\"{accept}\"]\nreplay = \"{replay}\"\nkeys = {{ {keys} }}\n\
         [[service]]\nname = \"web\"\nports = [\"udp/{SERVICE_PORT}\"]\nttl = \"{ttl}\"\n\
         allow = '''claims.sub.startsWith(\"employee:\") && \"commerce-listings-admin\" in claims.roles\n  \
         && !(\"doge\" in claims.roles)'''\n",
        pins.display(),
        algorithm.as_str(),
    )
}

fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}
