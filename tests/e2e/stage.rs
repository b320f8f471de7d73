//! The stage of a trial: the network, services on the host, an issuer's key, a configuration, and `jpatd`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    binaries, forge,
    leftovers::{self, remove_tree},
    metrics::Metrics,
    network::{Family, Member, Network},
    probe::{self, Port},
    process::{Ended, Process},
    services::{Service, Services},
    wait::{self, PATIENCE},
};
use jpat_userspace::clock::{self, BootTime};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::config::{AUDIENCE, Config, DB, FREE, HTTPS, ISSUER, KNOCK_PORT, METRICS, UDP};

pub(crate) struct Stage {
    pub(crate) net: Network,
    pub(crate) key: forge::Key,
    pub(crate) config: Config,
    pub(crate) dir: TempDir,
    pub(crate) pins: PathBuf,
    jpatd: Option<Process>,
    history: Vec<String>,
    _services: Services,
}

impl Stage {
    /// Everything but `jpatd`.
    pub(crate) fn new(config: Config) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let prefix = leftovers::prefix(NUMBER.fetch_add(1, Relaxed));
        let net = Network::create(&prefix)?;
        let listeners = vec![
            Service::Https(HTTPS),
            Service::UdpEcho(UDP),
            Service::TcpEcho(DB),
            Service::TcpEcho(FREE),
            Service::UdpEcho(jpat_tests::capture::FENCE_PORT),
        ];
        let services = Services::start(&net.host, listeners)?;
        let dir = tempfile::Builder::new().prefix(&format!("{prefix}-")).tempdir()?;
        let key = forge::Key::es256("k1")?;
        let pins = Path::new(jpat_tests::bpffs::MOUNT_POINT).join(&prefix);
        let stage = Self { net, key, config, dir, pins, jpatd: None, history: Vec::new(), _services: services };
        std::fs::write(stage.path("jwks.json"), forge::jwks(&[&stage.key])?.to_string())?;
        stage.write_config()?;
        Ok(stage)
    }

    /// A file of this stage.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write_config(&self) -> Result<()> {
        std::fs::write(self.path("jpat.toml"), self.config.text(&self.pins)).context("write the configuration")
    }

    /// Starts `jpatd run` and waits until it is ready.
    pub(crate) fn start(&mut self, arguments: &[&str]) -> Result<()> {
        self.launch(arguments)?;
        self.wait_for("/readyz")
    }

    /// Starts `jpatd run` and waits until it serves metrics, ready or not.
    pub(crate) fn start_unready(&mut self) -> Result<()> {
        self.launch(&[])?;
        self.wait_for("/metrics")
    }

    /// Starts `jpatd run` and waits for nothing.
    pub(crate) fn launch(&mut self, arguments: &[&str]) -> Result<()> {
        self.remember();
        let mut command = self.jpatd("run")?;
        command.args(arguments);
        self.jpatd = Some(Process::start(&self.net.host, "jpatd", command)?);
        Ok(())
    }

    fn wait_for(&mut self, path: &str) -> Result<()> {
        let mut jpatd = self.jpatd.take().context("jpatd does not run")?;
        let answered = self.wait_answer(&mut jpatd, path);
        self.jpatd = Some(jpatd);
        answered
    }

    /// Waits until a `jpatd` of this configuration is ready.
    pub(crate) fn wait_ready(&self, jpatd: &mut Process) -> Result<()> {
        self.wait_answer(jpatd, "/readyz")
    }

    fn wait_answer(&self, jpatd: &mut Process, path: &str) -> Result<()> {
        jpatd.wait_until(path, || probe::http_get(&self.net.host, METRICS, path).is_ok_and(|(status, _)| status == 200))
    }

    /// A `jpatd` command with this stage's configuration.
    pub(crate) fn jpatd(&self, verb: &str) -> Result<Command> {
        let mut command = Command::new(binaries::jpatd()?);
        command.arg(verb).arg("--config").arg(self.path("jpat.toml")).env_remove("JPAT_CONFIG");
        Ok(command)
    }

    /// Runs an admin command of `jpat` on the host.
    pub(crate) fn admin(&self, arguments: &[&str]) -> Result<Ended> {
        let mut command = Command::new(binaries::jpat()?);
        command.args(arguments).arg("--socket").arg(self.path("admin.sock"));
        Process::run(&self.net.host, "jpat", command)
    }

    /// As [`Self::admin`], and it must succeed.
    pub(crate) fn admin_ok(&self, arguments: &[&str]) -> Result<String> {
        let ended = self.admin(arguments)?;
        ensure!(ended.status.success(), "jpat {arguments:?}: {}\n{}", ended.status, ended.output);
        Ok(ended.output)
    }

    /// Writes a file of this stage that nobody else may read.
    pub(crate) fn write_private(&self, name: &str, text: &str) -> Result<()> {
        let file = self.path(name);
        std::fs::write(&file, text)?;
        Ok(std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?)
    }

    /// Runs `jpat knock` as a member.
    pub(crate) fn jpat_knock(&self, member: Member, host: &str, token: &str, more: &[&str]) -> Result<Ended> {
        let file = self.path("token");
        self.write_private("token", token)?;
        let mut command = Command::new(binaries::jpat()?);
        command.args(["knock", host, "--bare", "--token-file"]).arg(&file).args(more);
        Process::run(self.net.of(member), "jpat", command)
    }

    /// Process id of `jpatd`.
    pub(crate) fn process_id(&self) -> Result<u32> {
        Ok(self.jpatd.as_ref().context("jpatd does not run")?.id())
    }

    /// Ends `jpatd` by a signal and waits for its end.
    pub(crate) fn end(&mut self, signal: Signal) -> Result<std::process::ExitStatus> {
        self.signal(signal)?;
        self.wait_end()
    }

    /// Waits for the end of `jpatd`.
    pub(crate) fn wait_end(&mut self) -> Result<std::process::ExitStatus> {
        let jpatd = self.jpatd.as_mut().context("jpatd does not run")?;
        let status = jpatd.wait_end()?;
        self.remember();
        Ok(status)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.jpatd.as_ref().context("jpatd does not run")?.signal(signal)
    }

    pub(crate) fn metrics(&self) -> Result<Metrics> {
        Metrics::scrape(&self.net.host, METRICS)
    }

    /// Status of a document that `jpatd` serves beside the metrics.
    pub(crate) fn http_status(&self, path: &str) -> Result<u16> {
        Ok(probe::http_get(&self.net.host, METRICS, path)?.0)
    }

    /// The claims of an employee who may use `web`, for five minutes.
    pub(crate) fn claims(&self) -> Value {
        static TOKENS: AtomicU32 = AtomicU32::new(0);
        let (now, number) = (clock::now().unix.secs(), TOKENS.fetch_add(1, Relaxed));
        json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "employee:alice", "roles": ["commerce-listings-admin"],
            "iat": now, "exp": now + 300, "jti": format!("token-{number}"),
        })
    }

    /// [`Self::claims`] with some replaced.
    pub(crate) fn claims_with(&self, changes: Value) -> Value {
        let mut claims = self.claims();
        for (name, value) in changes.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        claims
    }

    /// A good token.
    pub(crate) fn token(&self) -> Result<String> {
        self.key.token(&self.claims())
    }

    /// Sends a datagram to the knock port.
    pub(crate) fn send(&self, member: Member, family: Family, datagram: &[u8]) -> Result<()> {
        probe::send(self.net.of(member), address(family, KNOCK_PORT), datagram)
    }

    /// Sends a bare knock and waits for its result to be counted; when it was sent, and when it was known.
    pub(crate) fn knock(
        &self,
        member: Member,
        family: Family,
        token: &str,
        result: &str,
    ) -> Result<(BootTime, BootTime)> {
        let before = self.metrics()?;
        let sent = wait::now();
        self.send(member, family, token.as_bytes())?;
        let mut last = before.clone();
        wait::for_true(&format!("a knock to be {result}"), PATIENCE, || {
            last = self.metrics()?;
            Ok(last.knocks(result) > before.knocks(result))
        })
        .with_context(|| format!("instead: {}", last.changes(&before, "jpat_knocks_total")))?;
        Ok((sent, wait::now()))
    }

    /// Requires what a member finds at a TCP port.
    pub(crate) fn expect_tcp(&self, member: Member, family: Family, port: u16, expected: Port) -> Result<()> {
        let found = probe::tcp(self.net.of(member), address(family, port))?;
        ensure!(found == expected, "{member:?} finds tcp/{port} {found:?} over {family:?}, not {expected:?}");
        Ok(())
    }

    /// As [`Self::expect_tcp`], but not at once: the kernel frees an unlinked link in its own time
    /// (`bpf_link_put_deferred`).
    pub(crate) fn expect_tcp_soon(&self, member: Member, family: Family, port: u16, expected: Port) -> Result<()> {
        wait::for_true(&format!("tcp/{port} to be {expected:?} for {member:?}"), PATIENCE, || {
            Ok(probe::tcp(self.net.of(member), address(family, port))? == expected)
        })
    }

    /// Requires what a member finds at a UDP port.
    pub(crate) fn expect_udp(&self, member: Member, family: Family, port: u16, expected: Port) -> Result<()> {
        let found = probe::udp(self.net.of(member), address(family, port))?;
        ensure!(found == expected, "{member:?} finds udp/{port} {found:?} over {family:?}, not {expected:?}");
        Ok(())
    }

    /// What `jpatd` wrote, for messages.
    pub(crate) fn evidence(&mut self) -> String {
        self.remember();
        let audit = std::fs::read_to_string(self.path(self.config.audit)).unwrap_or_default();
        format!("--- jpatd\n{}--- audit\n{audit}---", self.history.concat())
    }

    /// What `jpatd` wrote so far.
    pub(crate) fn output(&self) -> String {
        self.jpatd.as_ref().map(|jpatd| jpatd.output().text()).unwrap_or_default()
    }

    fn remember(&mut self) {
        if let Some(jpatd) = self.jpatd.take() {
            let output = jpatd.output().clone();
            drop(jpatd);
            self.history.push(output.text());
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.jpatd.take());
        // The next run clears what resists.
        let _left_over = remove_tree(&self.pins);
    }
}

/// A port of the host.
pub(crate) const fn address(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(Member::Host.address(family), port)
}
