//! What restarts and upgrades cost those who are served, and what they open to those who are not.

mod answer;
mod round;

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use jpat_common::settings::Protocol;
use jpat_tests::{
    binaries, bpffs,
    earlier::Layout,
    forge, leftovers,
    network::{Family, Member, Network},
    process::Process,
    services::{Service, Services},
    stranger::Stranger,
    stream::{Route, Stream},
    wait::{self, PATIENCE},
};
use jpat_userspace::clock;
use nix::sys::signal::Signal;
use serde_json::json;

use self::{answer::Answer, round::Round};

const KNOCK_PORT: u16 = 1337;
const ECHO: u16 = 9999;
const STREAM: u16 = 9998;
const TRANSFER: u16 = 5432;
const PORTS: [(Protocol, u16); 3] = [(Protocol::Udp, ECHO), (Protocol::Udp, STREAM), (Protocol::Tcp, TRANSFER)];

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often each
    #[arg(long, default_value_t = 100)]
    cycles: u32,
}

/// What happens to the controller.
#[derive(Clone, Copy)]
enum Kind {
    Kill,
    Replacement,
    Upgrade(Layout),
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
pub(crate) fn run(options: &Options) -> Result<()> {
    bpffs::ensure_mounted()?;
    println!(
        "{} cycles each; meanwhile a stranger sends a SYN and a datagram a millisecond, and a granted client numbered\n\
         datagrams and a TCP transfer",
        options.cycles
    );
    for kind in [Kind::Kill, Kind::Replacement, Kind::Upgrade(Layout::V1), Kind::Upgrade(Layout::V2)] {
        let round = Host::new()?.measure(kind, options.cycles)?;
        println!("\n{}\n{round}", kind.title());
    }
    Ok(())
}

impl Kind {
    const fn title(self) -> &'static str {
        match self {
            Self::Kill => "kill -9 and start",
            Self::Replacement => "SIGTERM and start: the program is replaced over the same maps",
            Self::Upgrade(Layout::V1) => {
                "start over the pins of layout 1: maps are migrated, then the program is replaced"
            }
            Self::Upgrade(Layout::V2) => {
                "start over the pins of layout 2: grants and flows are kept, the rest is made anew, then the program is replaced"
            }
        }
    }
}

/// The protected host, its clients and its controller.
struct Host {
    net: Network,
    _services: Services,
    dir: tempfile::TempDir,
    pins: PathBuf,
    key: forge::Key,
}

impl Host {
    fn new() -> Result<Self> {
        let prefix = leftovers::prefix(0);
        let net = Network::create(&prefix)?;
        net.client.ip(&format!("addr add {}/24 dev eth0", answer::SOURCE))?;
        let services = Services::start(&net.host, vec![Service::UdpEcho(ECHO), Service::TcpEcho(TRANSFER)])?;
        let (dir, key) = (tempfile::tempdir()?, forge::Key::es256("k1")?);
        std::fs::write(dir.path().join("jwks.json"), forge::jwks(&[&key])?.to_string())?;
        let pins = Path::new(bpffs::MOUNT_POINT).join(&prefix);
        std::fs::write(dir.path().join("jpat.toml"), configuration(&pins))?;
        Ok(Self { net, _services: services, dir, pins, key })
    }

    fn measure(&self, kind: Kind, cycles: u32) -> Result<Round> {
        let mut jpatd = self.start()?.0;
        let answer = Answer::new(self.token("late")?, self.dir.path().join("admin.sock"));
        self.net.client.run(|| answer::knock_until_open(Member::Client.address(Family::V4), &self.token("client")?))?;
        let to = |port| SocketAddr::new(Member::Host.address(Family::V4), port);
        let stranger = Stranger::start(&self.net.stranger, vec![to(TRANSFER)], vec![to(STREAM), to(ECHO)])?;
        let route = Route { udp: to(STREAM), tcp: to(TRANSFER) };
        let stream = Stream::start(&self.net.host, &self.net.client, route, Member::Client.address(Family::V4))?;
        let (mut ready, mut answered) = (Vec::new(), Vec::new());
        for _ in 0..cycles {
            answer.close()?;
            // An upgrade begins when the pins are those of the layout before.
            let knocker = || answer.wait(&self.net.client, wait::now());
            let before = (!matches!(kind, Kind::Upgrade(_))).then(knocker).transpose()?;
            end(jpatd, if matches!(kind, Kind::Kill) { Signal::SIGKILL } else { Signal::SIGTERM })?;
            if let Kind::Upgrade(layout) = kind {
                layout.go_back(&self.pins, &PORTS)?;
            }
            let waiting = before.map_or_else(knocker, Ok)?;
            let took;
            (jpatd, took) = self.start()?;
            ready.push(took);
            answered.push(answer::join(waiting)?);
        }
        let tried = stranger.finish()?;
        let report = stream.finish(&self.net.client)?;
        end(jpatd, Signal::SIGKILL)?;
        Ok(Round::new(cycles, tried, report, ready, answered))
    }

    /// Starts `jpatd`, and how long that took from exec to its word that it is ready.
    fn start(&self) -> Result<(Process, Duration)> {
        let mut command = Command::new(binaries::jpatd()?);
        command.arg("run").arg("--config").arg(self.dir.path().join("jpat.toml")).env_remove("JPAT_CONFIG");
        let begin = wait::now();
        let mut jpatd = Process::start(&self.net.host, "jpatd", command)?;
        while !jpatd.output().text().contains("ready: ") {
            if let Some(status) = jpatd.ended()? {
                anyhow::bail!("jpatd ended: {status}\n{}", jpatd.output().text());
            }
            anyhow::ensure!(begin.until(wait::now()) < PATIENCE, "jpatd does not get ready");
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok((jpatd, begin.until(wait::now())))
    }

    fn token(&self, subject: &str) -> Result<String> {
        let now = clock::now().unix.secs();
        self.key.token(&json!({
            "iss": "https://idp.example", "aud": "jpat://prod", "sub": subject, "jti": subject,
            "iat": now, "exp": now + 3_600,
        }))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The next run clears what resists.
        let _left_over = leftovers::remove_tree(&self.pins);
    }
}

fn end(mut jpatd: Process, signal: Signal) -> Result<()> {
    jpatd.signal(signal)?;
    jpatd.wait_end().context("the end of jpatd")?;
    Ok(())
}

fn configuration(pins: &Path) -> String {
    format!(
        "mode = \"enforce\"\nstate = \"state\"\npins = \"{}\"\n\
         [listen]\ninterfaces = [\"eth0\"]\nattach = \"driver\"\nport = {KNOCK_PORT}\n\
         [admin]\nsocket = \"admin.sock\"\n[audit]\nfile = \"audit.jsonl\"\n\
         [[issuer]]\nname = \"corp\"\nissuer = \"https://idp.example\"\naudience = [\"jpat://prod\"]\n\
         algorithms = [\"ES256\"]\naccept = [\"bare\"]\nkeys = {{ jwks_file = \"jwks.json\" }}\n\
         [[service]]\nname = \"web\"\nports = [\"udp/{ECHO}\", \"udp/{STREAM}\", \"tcp/{TRANSFER}\"]\n\
         ttl = \"1h\"\nallow = '''claims.sub in [\"client\", \"late\"]'''\n",
        pins.display()
    )
}

/// An address of a member as one address.
const fn host(port: u16) -> SocketAddr {
    SocketAddr::new(Member::Host.address(Family::V4), port)
}

/// Sockets of one source: for knocks, and for the port that they open.
fn sockets(source: IpAddr) -> Result<(std::net::UdpSocket, std::net::UdpSocket)> {
    let socket = |port| -> Result<_> {
        let socket = std::net::UdpSocket::bind((source, 0))?;
        socket.connect(host(port))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    Ok((socket(KNOCK_PORT)?, socket(ECHO)?))
}
