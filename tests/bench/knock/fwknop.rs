//! fwknopd with AES, HMAC and iptables, doing the same job in the same namespaces.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::STANDARD};
use jpat_tests::{
    netns::NetNs,
    network::{Family, Member, Network},
    process::{self, Process},
};

use crate::controller::SERVICE_PORT;

/// Where its packets go to; it listens with libpcap.
pub(super) const KNOCK_PORT: u16 = 62_201;

/// A running one.
pub(super) struct Fwknop<'n> {
    pub(super) name: String,
    host: &'n NetNs,
    dir: tempfile::TempDir,
    keys: [String; 2],
    _daemon: Process,
}

impl<'n> Fwknop<'n> {
    /// Closes the port with iptables and starts it. The inner error says what this machine lacks.
    pub(super) fn start(net: &'n Network, _prefix: &str) -> Result<Result<Self, String>> {
        let version = |program| process::stdout_of(with(program, &["--version"]));
        let found = version("fwknopd").and_then(|text| version("fwknop").and(version("iptables")).and(Ok(text)));
        let name = match found {
            Ok(text) => text.trim().lines().next().unwrap_or("fwknopd").replace("fwknopd server", "fwknopd"),
            Err(error) => return Ok(Err(format!("{error:#} (Debian: fwknop-server, fwknop-client, iptables)"))),
        };
        let name = name.split(',').next().unwrap_or("fwknopd").to_owned();
        let dir = tempfile::tempdir()?;
        let keys = [random_key()?, random_key()?];
        let path = |name: &str| dir.path().join(name);
        write(
            &path("access.conf"),
            &format!("SOURCE ANY\nKEY_BASE64 {}\nHMAC_KEY_BASE64 {}\nFW_ACCESS_TIMEOUT 60\n", keys[0], keys[1]),
        )?;
        let run = dir.path().display();
        write(
            &path("fwknopd.conf"),
            &format!(
                "PCAP_INTF eth0;\nFWKNOP_RUN_DIR {run};\nFWKNOP_PID_FILE {run}/fwknopd.pid;\nDIGEST_FILE {run}/digest.cache;\n"
            ),
        )?;
        let drop = ["-A", "INPUT", "-p", "udp", "--dport", &SERVICE_PORT.to_string(), "-j", "DROP"];
        run_in(&net.host, "iptables", &drop)?;
        let mut command = with("fwknopd", &["--foreground"]);
        command.arg("--config-file").arg(path("fwknopd.conf")).arg("--access-file").arg(path("access.conf"));
        let mut daemon = Process::start(&net.host, "fwknopd", command)?;
        let output = daemon.output().clone();
        daemon.wait_until("fwknopd to listen", || output.text().contains("Starting fwknopd main event loop"))?;
        Ok(Ok(Self { name, host: &net.host, dir, keys, _daemon: daemon }))
    }

    /// A packet that was never sent.
    pub(super) fn packet(&self) -> Result<Vec<u8>> {
        let file = self.dir.path().join("packet");
        let [client, host] = [Member::Client, Member::Host].map(|member| member.address(Family::V4).to_string());
        let mut command = with("fwknop", &["--test", "--no-rc-file", "--no-save-args", "--use-hmac"]);
        command
            .env("HOME", self.dir.path())
            .args(["--access", &format!("udp/{SERVICE_PORT}"), "--allow-ip", &client, "--destination", &host])
            .args(["--key-base64-rijndael", &self.keys[0], "--key-base64-hmac", &self.keys[1]])
            .arg("--save-packet")
            .arg(&file);
        process::stdout_of(command)?;
        let packet = fs::read(&file).context("fwknop saved no packet")?.trim_ascii().to_owned();
        ensure!(!packet.is_empty(), "fwknop saved an empty packet");
        Ok(packet)
    }

    /// Takes away what it opened.
    pub(super) fn close(&self) -> Result<()> {
        run_in(self.host, "iptables", &["-F", "FWKNOP_INPUT"])
    }
}

fn with(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn run_in(ns: &NetNs, program: &str, arguments: &[&str]) -> Result<()> {
    let ended = Process::run(ns, program, with(program, arguments))?;
    ensure!(ended.status.success(), "{program} {arguments:?}: {}", ended.output);
    Ok(())
}

fn random_key() -> Result<String> {
    let mut key = [0; 32];
    rand::fill(&mut key).context("make a key")?;
    Ok(STANDARD.encode(key))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}
