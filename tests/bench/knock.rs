//! Knock to open port.

use std::{
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use jpat_tests::{
    binaries, bpffs, forge, leftovers,
    network::{Family, Member, Network},
    probe,
    process::Process,
    services::{Service, Services},
    wait::{self, PATIENCE},
};
use jpat_userspace::{
    admin::{Request, Response, client},
    clock,
};
use serde_json::json;

use crate::summary::Sorted;

const KNOCK_PORT: u16 = 1337;
const SERVICE_PORT: u16 = 9999;
const METRICS: &str = "127.0.0.1:9337";
/// Between two probes.
const INTERVAL: Duration = Duration::from_micros(10);
/// Longest wait for one port to open.
const LIMIT: Duration = Duration::from_secs(2);

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Knocks to time
    #[arg(long, default_value_t = 200)]
    knocks: u32,
    /// Knocks before, not timed
    #[arg(long, default_value_t = 20)]
    warm_up: u32,
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
pub(crate) fn run(options: &Options) -> Result<()> {
    bpffs::ensure_mounted()?;
    let prefix = leftovers::prefix(0);
    let net = Network::create(&prefix)?;
    let _services = Services::start(&net.host, vec![Service::UdpEcho(SERVICE_PORT)])?;
    let dir = tempfile::tempdir()?;
    let key = forge::Key::es256("k1")?;
    std::fs::write(dir.path().join("jwks.json"), forge::jwks(&[&key])?.to_string())?;
    let pins = Path::new(bpffs::MOUNT_POINT).join(&prefix);
    let config = dir.path().join("jpat.toml");
    std::fs::write(&config, configuration(&pins))?;
    let mut command = Command::new(binaries::jpatd()?);
    command.args(["run", "--detach-on-exit", "--config"]).arg(&config);
    let mut jpatd = Process::start(&net.host, "jpatd", command)?;
    let metrics = METRICS.parse()?;
    wait::for_true("jpatd to be ready", PATIENCE, || {
        ensure!(jpatd.ended()?.is_none(), "jpatd ended");
        Ok(probe::http_get(&net.host, metrics, "/readyz").is_ok_and(|(status, _)| status == 200))
    })?;

    let now = clock::now().unix.secs();
    let claims = json!({
        "iss": "https://idp.example", "aud": "jpat://prod", "sub": "employee:1", "jti": "bench",
        "iat": now, "exp": now + 3600, "roles": ["commerce-listings-admin"],
    });
    let token = key.token(&claims)?;
    println!(
        "bare ES256 knock of {} bytes, {} knocks, a probe every {INTERVAL:?} or less",
        token.len(),
        options.knocks
    );
    let socket = dir.path().join("admin.sock");
    let measured = net.client.run(|| measure(options, &token, &socket))?;
    println!("knock to first UDP echo: {}", measured.line());
    jpatd.signal(nix::sys::signal::Signal::SIGTERM)?;
    jpatd.wait_end()?;
    Ok(())
}

fn measure(options: &Options, token: &str, admin: &Path) -> Result<Sorted> {
    let address = Member::Host.address(Family::V4);
    let knock = probe::udp_socket(SocketAddr::new(address, KNOCK_PORT))?;
    let probe = probe::udp_socket(SocketAddr::new(address, SERVICE_PORT))?;
    probe.set_nonblocking(true)?;
    let mut took = Vec::new();
    for number in 0..options.warm_up + options.knocks {
        flush(admin)?;
        let marker = number.to_be_bytes();
        ensure_closed(&probe)?;
        let duration = one(&knock, &probe, token, marker)?;
        if number >= options.warm_up {
            took.push(duration);
        }
    }
    Ok(Sorted::new(took))
}

/// Sends a knock, then probes until the first echo of this round comes back.
fn one(knock: &UdpSocket, probe: &UdpSocket, token: &str, marker: [u8; 4]) -> Result<Duration> {
    let begin = clock::now().boot;
    knock.send(token.as_bytes()).context("sending the knock")?;
    let mut next = begin;
    loop {
        let now = clock::now().boot;
        if now >= next {
            // A full send queue is as good as a probe that is dropped.
            let _full = probe.send(&marker);
            next = now.after(INTERVAL);
        }
        let mut echo = [0; 8];
        if probe.recv(&mut echo).is_ok_and(|length| echo.get(..length) == Some(&marker[..])) {
            return Ok(begin.until(clock::now().boot));
        }
        if begin.until(now) > LIMIT {
            bail!("the port did not open within {LIMIT:?}");
        }
    }
}

/// After a flush a probe must stay unanswered. Echoes of the round before may still be under way.
fn ensure_closed(probe: &UdpSocket) -> Result<()> {
    const QUESTION: &[u8] = b"closed?";
    probe.send(QUESTION)?;
    let end = clock::now().boot.after(Duration::from_millis(5));
    while clock::now().boot < end {
        let mut echo = [0; 8];
        let is_answered = probe.recv(&mut echo).is_ok_and(|length| echo.get(..length) == Some(QUESTION));
        ensure!(!is_answered, "the port is open after a flush");
    }
    Ok(())
}

fn flush(admin: &Path) -> Result<()> {
    let response = client::request(admin, &Request::GrantsFlush)?;
    ensure!(matches!(response, Response::Flushed { .. }), "flush: {response:?}");
    Ok(())
}

fn configuration(pins: &Path) -> String {
    format!(
        "mode = \"enforce\"\nstate = \"state\"\npins = \"{}\"\n\
         [listen]\ninterfaces = [\"eth0\"]\nattach = \"driver\"\nport = {KNOCK_PORT}\n\
         [admin]\nsocket = \"admin.sock\"\nmetrics = \"{METRICS}\"\n[audit]\nfile = \"audit.jsonl\"\n\
         [[issuer]]\nname = \"corp\"\nissuer = \"https://idp.example\"\naudience = [\"jpat://prod\"]\n\
         algorithms = [\"ES256\"]\naccept = [\"bare\"]\nkeys = {{ jwks_file = \"jwks.json\" }}\n\
         [[service]]\nname = \"web\"\nports = [\"udp/{SERVICE_PORT}\"]\nttl = \"30s\"\n\
         allow = '''claims.sub.startsWith(\"employee:\") && \"commerce-listings-admin\" in claims.roles\n  \
         && !(\"doge\" in claims.roles)'''\n",
        pins.display()
    )
}
