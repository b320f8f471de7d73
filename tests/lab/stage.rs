//! Builds the lab and takes it down.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result};
use jpat_tests::{
    binaries, bpffs,
    leftovers::{self, remove_tree},
    network::Network,
    probe,
    process::{self, Process},
    services::{Service, Services},
};

/// Namespaces are called `jpat-lab-client` and so on.
pub(crate) const PREFIX: &str = "jpat-lab";
/// Keys, tokens, configuration and socket; gone with the lab.
const DIRECTORY: &str = "/run/jpat-lab";
/// Where the issuer answers, inside the host's namespace.
const ISSUER: &str = "http://127.0.0.1:8080";
const METRICS: &str = "127.0.0.1:9337";
const CLIENT_KEY: &str = "alice.jwk";
const AUDIENCE: &str = "jpat://lab";
/// The demo service's port.
pub(crate) const PORT: u16 = 8443;
/// The lab is meant to be left open for a while.
const TOKEN_LIFE: &str = "12h";

/// The running lab.
pub(crate) struct Stage {
    // In the order in which they end.
    jpatd: Process,
    _issuer: Process,
    _services: Services,
    pub(crate) net: Network,
    jpat: PathBuf,
}

/// The tokens that the lab has made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Token {
    /// An employee with the role.
    Good,
    /// The same, long expired.
    Expired,
    /// The same with the role `doge`.
    Doge,
}

impl Token {
    const fn name(self) -> &'static str {
        match self {
            Self::Good => "alice.jwt",
            Self::Expired => "expired.jwt",
            Self::Doge => "doge.jwt",
        }
    }

    pub(crate) fn path(self) -> PathBuf {
        Path::new(DIRECTORY).join(self.name())
    }
}

/// Removes what a killed lab left; the caller holds the lock.
pub(crate) fn clear() -> Result<()> {
    leftovers::clear_prefix(PREFIX, &pins())?;
    remove_tree(Path::new(DIRECTORY))
}

/// What the client knows of the host, with the good token and its key.
pub(crate) fn profile() -> PathBuf {
    Path::new(DIRECTORY).join("alice.toml")
}

/// The key that the tokens are bound to.
fn client_key() -> PathBuf {
    Path::new(DIRECTORY).join(CLIENT_KEY)
}

/// Where the stranger may make a key of its own.
pub(crate) fn stolen_key() -> PathBuf {
    Path::new(DIRECTORY).join("stranger.jwk")
}

pub(crate) fn socket() -> PathBuf {
    Path::new(DIRECTORY).join("admin.sock")
}

impl Stage {
    pub(crate) fn build(ttl: Duration) -> Result<Self> {
        // What fails half way is removed like what a killed lab left.
        Self::try_build(ttl).inspect_err(|_| drop(clear()))
    }

    fn try_build(ttl: Duration) -> Result<Self> {
        let (jpatd, jpat) = (binaries::jpatd()?, binaries::jpat()?);
        let directory = Path::new(DIRECTORY);
        fs::create_dir(directory).with_context(|| format!("create {DIRECTORY}"))?;
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
        let net = Network::create(PREFIX)?;
        let services = Services::start(&net.host, vec![Service::Https(PORT)])?;

        let mut keygen = Command::new(&jpatd);
        process::stdout_of({
            keygen.args(["keygen", "--out", DIRECTORY]);
            keygen
        })?;
        let mut keygen = Command::new(&jpat);
        process::stdout_of({
            keygen.args(["keygen", "--out"]).arg(client_key());
            keygen
        })?;
        let keys = directory.join("issuer");
        process::stdout_of(issuer(&jpat, &["keys", "generate", "--alg", "ES256"], &keys))?;
        let (role, doge) = (["--role", "commerce-listings-admin"], ["--role", "doge"]);
        sign(&jpat, &keys, Token::Good, &role)?;
        sign(&jpat, &keys, Token::Expired, &[&role[..], &["--at", "2020-01-01T00:00:00Z"]].concat())?;
        sign(&jpat, &keys, Token::Doge, &[role, doge].concat())?;
        let listen = ISSUER.trim_start_matches("http://");
        let serve = issuer(&jpat, &["serve", "--listen", listen, "--issuer", ISSUER], &keys);
        let mut issuer = Process::start(&net.host, "issuer", serve)?;
        wait_for(&net, &mut issuer, listen, "/jwks.json")?;

        let file = directory.join("jpat.toml");
        fs::write(&file, configuration(ttl)).context("write the configuration")?;
        write_profile(&jpatd, &file)?;
        let mut run = Command::new(&jpatd);
        run.arg("run").arg("--config").arg(&file).env_remove("JPAT_CONFIG");
        let mut jpatd = Process::start(&net.host, "jpatd", run)?;
        wait_for(&net, &mut jpatd, METRICS, "/readyz")?;
        Ok(Self { jpatd, _issuer: issuer, _services: services, net, jpat })
    }

    /// Path of `jpat`.
    pub(crate) fn jpat(&self) -> &Path {
        &self.jpat
    }

    pub(crate) fn jpatd_output(&self) -> String {
        self.jpatd.output().text()
    }

    /// New lines of the controller.
    pub(crate) fn events_since(&self, seen: &mut usize) -> Vec<String> {
        let (lines, now) = self.jpatd.output().since(*seen);
        *seen = now;
        lines
    }

    pub(crate) fn jpatd_ended(&mut self) -> Result<Option<ExitStatus>> {
        self.jpatd.ended()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The next lab clears what resists. Links go with their pins, and both before the namespace.
        let _pins = remove_tree(&pins());
        let _directory = remove_tree(Path::new(DIRECTORY));
    }
}

fn pins() -> PathBuf {
    Path::new(bpffs::MOUNT_POINT).join(PREFIX)
}

fn issuer(jpat: &Path, arguments: &[&str], keys: &Path) -> Command {
    let mut command = Command::new(jpat);
    command.arg("issuer").args(arguments).arg("--dir").arg(keys);
    command
}

fn sign(jpat: &Path, keys: &Path, token: Token, more: &[&str]) -> Result<()> {
    let fixed = ["sign", "--issuer", ISSUER, "--audience", AUDIENCE, "--subject", "employee:alice"];
    let arguments = [&fixed[..], &["--ttl", TOKEN_LIFE], more].concat();
    let mut command = issuer(jpat, &arguments, keys);
    command.arg("--cnf").arg(client_key());
    write_secret(&token.path(), &process::stdout_of(command)?)
}

/// What `jpatd client-config` prints, behind where the client keeps its token and its key.
fn write_profile(jpatd: &Path, config: &Path) -> Result<()> {
    let mut command = Command::new(jpatd);
    command.args(["client-config", "--host", "192.0.2.1", "--config"]).arg(config).env_remove("JPAT_CONFIG");
    let printed = process::stdout_of(command)?;
    let own = format!("token_file = \"{}\"\nclient_key = \"{CLIENT_KEY}\"\n", Token::Good.name());
    write_secret(&profile(), &format!("{own}{printed}"))
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o600)))?;
    Ok(())
}

fn wait_for(net: &Network, process: &mut Process, address: &str, path: &str) -> Result<()> {
    let address = address.parse()?;
    process.wait_until(&format!("http://{address}{path}"), || {
        probe::http_get(&net.host, address, path).is_ok_and(|(status, _)| status == 200)
    })
}

/// The design's example, in the lab's names.
fn configuration(ttl: Duration) -> String {
    format!(
        r#"mode = "enforce"
state = "state"
pins = "{pins}"

[listen]
interfaces = ["eth0"]

[server]
id = "{AUDIENCE}"
keys = ["server.key"]

[[knock_key]]
id = 1
group = "employees"
file = "knock-1.key"

[[issuer]]
name = "lab"
issuer = "{ISSUER}"
audience = ["{AUDIENCE}"]
algorithms = ["ES256"]
keys = {{ discovery = true }}
accept = ["sealed"]
replay = "proof"

[[service]]
name = "commerce-listings"
ports = ["tcp/{PORT}"]
allow = '''claims.sub.startsWith("employee:")
  && "commerce-listings-admin" in claims.roles
  && !("doge" in claims.roles)'''
ttl = "{ttl}s"

[admin]
socket = "admin.sock"
metrics = "{METRICS}"
"#,
        pins = pins().display(),
        ttl = ttl.as_secs()
    )
}
