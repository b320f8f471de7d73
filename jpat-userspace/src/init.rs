//! `jpatd init`: a first configuration in audit mode, keys, a local issuer, what the first client needs, what to type next.

mod template;

use std::{
    fs, io,
    io::Write,
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::Serialize;
use thiserror::Error;

use crate::{
    check::HostFacts,
    cli::keygen::{self, KeygenError},
    client::{Host, KNOCK_PORT, profile::Profile},
    config::InterfacePattern,
    datapath::interfaces::{self, Device},
    issuer::{Alg, IssuerError, keys},
    knock::{proof::Kind, sealed::ServerKey},
    provision::{self, Keys, ProvisionError, Wanted},
    secret_file::{self, SecretFileError},
};

/// Id of the first knock key.
const KNOCK_KEY: u16 = 1;
/// The first client's directory.
const CLIENT: &str = "client";

/// What a first configuration is made from.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory to write into; made if it is not there.
    pub out: PathBuf,
    /// Device to protect; without it "external", or where that means none, every device that may face a network.
    pub interface: Option<String>,
    /// The address that the caller is logged in from: it is always allowed.
    pub peer: Option<IpAddr>,
    /// Who may reach SSH: `sub` of the first token.
    pub subject: String,
    /// This host's name, for issuer and audience.
    pub host: String,
}

impl Options {
    /// Options with the caller's and this host's name.
    #[must_use]
    pub fn new(out: PathBuf, interface: Option<String>, peer: Option<IpAddr>) -> Self {
        let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let subject = user.filter(|user| !user.is_empty()).unwrap_or_else(|| "admin".into());
        let host = host.filter(|host| !host.is_empty()).unwrap_or_else(|| "localhost".into());
        Self { out, interface, peer, subject, host }
    }
}

/// What was written, and the next three commands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Written {
    /// The configuration.
    pub config: PathBuf,
    /// Private keys of the local issuer.
    pub issuer_keys: PathBuf,
    /// Its public keys.
    pub jwks: PathBuf,
    /// What the first client needs: its profile, its key, and the token that is bound to it. All of it is secret.
    pub client: PathBuf,
    /// The address that is always allowed.
    pub always_allowed: Option<IpAddr>,
    /// Run the controller; sign a token; knock with it, from the client.
    pub next: [String; 3],
}

/// Why nothing was written, or not all.
#[derive(Debug, Error)]
pub enum InitError {
    /// A file of an earlier time is in the way.
    #[error("{} exists already, and is not overwritten\n  remedy: name an empty directory with --out", .0.display())]
    Exists(PathBuf),
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no device to protect.
    #[error("{what}\n  remedy: name one with --interface: {here}")]
    NoDevice {
        /// What was looked for.
        what: String,
        /// Devices of this host.
        here: String,
    },
    /// The devices cannot be listed.
    #[error("the devices of this host cannot be listed: {0}")]
    Devices(String),
    /// The issuer's key cannot be made.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The keys of sealed knocks cannot be made.
    #[error(transparent)]
    Keys(#[from] ProvisionError),
    /// Nor read again.
    #[error("{}", error.describe(path))]
    KeyFile {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        error: SecretFileError,
    },
    /// The client's key cannot be made.
    #[error(transparent)]
    ClientKey(#[from] KeygenError),
}

/// Writes `jpat.toml`, `jwks.json`, `issuer/`, `server.key`, `server.pub`, `knock-1.key` and `client/` into a directory
/// that has none of them.
///
/// # Errors
/// Nothing is overwritten; what else the system or the host's devices object to.
pub fn init(options: &Options, facts: &HostFacts) -> Result<Written, InitError> {
    let inside = |name: &str| options.out.join(name);
    let (config, jwks, issuer_keys, client) =
        (inside("jpat.toml"), inside("jwks.json"), inside("issuer"), inside(CLIENT));
    let found = [&config, &jwks, &issuer_keys, &client].into_iter().find(|path| path.symlink_metadata().is_ok());
    if let Some(path) = found {
        return Err(InitError::Exists(path.clone()));
    }
    let devices = facts.devices.as_ref().map_err(|error| InitError::Devices(error.to_string()))?;
    let interfaces = interfaces_for(options.interface.as_deref(), devices)?;
    fs::create_dir_all(&options.out).map_err(written(&options.out))?;
    let made = provision::keygen(&options.out, Wanted { server: true, knock: Some(KNOCK_KEY) })?;
    let key = keys::generate(&issuer_keys, Alg::Es256)?;
    let set = serde_json::to_vec_pretty(&keys::jwks(&[key])).map_err(io::Error::from);
    set.and_then(|set| write_new(&jwks, &set)).map_err(written(&jwks))?;
    let (issuer, audience) = (format!("urn:jpat:{}", options.host), format!("jpat://{}", options.host));
    let text = template::render(&template::Values {
        interfaces: &interfaces,
        peer: options.peer.map(|peer| peer.to_canonical().to_string()).as_deref(),
        server: &options.host,
        knock_key: KNOCK_KEY,
        issuer: &issuer,
        audience: &audience,
        subject: &options.subject,
        keys: "jwks.json",
    });
    write_new(&config, text.as_bytes()).map_err(written(&config))?;
    let (profile, client_key) = first_client(&client, options, &made)?;
    let next = [
        format!("jpatd run --config {}", shell(&config)),
        format!(
            "(umask 077; jpat issuer sign --dir {} --issuer {} --audience {} --subject {} --cnf {} > {})",
            shell(&issuer_keys),
            word(&issuer),
            word(&audience),
            word(&options.subject),
            shell(&client_key),
            shell(&client.join("token"))
        ),
        format!("jpat knock {} --profile {} --wait tcp/22", word(&options.host), shell(&profile)),
    ];
    Ok(Written { config, issuer_keys, jwks, client, always_allowed: options.peer, next })
}

/// Its profile and its key.
fn first_client(dir: &Path, options: &Options, made: &Keys) -> Result<(PathBuf, PathBuf), InitError> {
    let (file, key) = (dir.join("profile.toml"), dir.join("key.jwk"));
    fs::DirBuilder::new().mode(0o700).create(dir).map_err(written(dir))?;
    keygen::create(&key, Kind::Ed25519)?;
    let read =
        |path: &Path| secret_file::read(path).map_err(|error| InitError::KeyFile { path: path.to_owned(), error });
    let (Some(server), Some((knock_key_id, knock_key))) = (&made.server, &made.knock) else {
        return Err(ProvisionError::NotSealed("[server]").into());
    };
    let server = ServerKey::from_bytes(&*read(server)?).map_err(ProvisionError::from)?;
    let profile = Profile {
        path: file.clone(),
        host: options.host.parse::<Host>().ok(),
        port: KNOCK_PORT,
        reply: true,
        token_file: Some("token".into()),
        client_key: Some("key.jwk".into()),
        address: None,
        server_id: options.host.clone(),
        server_keys: vec![server.public()],
        knock_key_id: *knock_key_id,
        knock_key: read(knock_key)?,
    };
    secret_file::create(&file, profile.render().trim_end().as_bytes()).map_err(written(&file))?;
    Ok((file, key))
}

fn written(path: &Path) -> impl FnOnce(io::Error) -> InitError {
    let path = path.to_owned();
    move |source| InitError::Write { path, source }
}

fn interfaces_for(asked: Option<&str>, devices: &[Device]) -> Result<Vec<String>, InitError> {
    let usable = |device: &&Device| device.link_layer().is_ok() && !device.is_loopback() && device.port_of.is_none();
    let here = || devices.iter().filter(usable).map(|device| device.name.clone()).collect::<Vec<_>>();
    let none = |what: String| InitError::NoDevice { what, here: here().join(", ") };
    if let Some(name) = asked {
        let known =
            name == "external" || devices.iter().any(|device| device.name == name && device.link_layer().is_ok());
        return if known {
            Ok(vec![name.to_owned()])
        } else {
            Err(none(format!("there is no device `{name}` that can be protected")))
        };
    }
    if !interfaces::resolve(&[InterfacePattern::External], devices).targets.is_empty() {
        return Ok(vec!["external".into()]);
    }
    // A container or a namespace: its way out is a veth or the like.
    let outward = devices.iter().filter(|device| usable(device) && device.up).map(|device| device.name.clone());
    let outward: Vec<_> = outward.collect();
    if outward.is_empty() { Err(none("no device faces a network".into())) } else { Ok(outward) }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?.write_all(bytes)
}

fn shell(path: &Path) -> String {
    word(&path.to_string_lossy())
}

/// A word for a POSIX shell.
fn word(text: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "/._-:@%+=,".contains(char);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Config, Mode, ReplayMode},
        knock::Form,
    };

    fn facts(names: &[(&str, Option<&str>)]) -> HostFacts {
        let device = |(name, kind): &(&str, Option<&str>)| Device {
            name: (*name).to_owned(),
            index: 2,
            hardware: 1,
            up: true,
            kind: kind.map(str::to_owned),
            ..Device::default()
        };
        let devices = Ok(names.iter().map(device).collect());
        let ephemeral = 32_768..=60_999;
        let (pppoe, mpls, reserved) = (vec![], vec![], vec![]);
        HostFacts { devices, ipsec: None, pppoe, mpls, ephemeral, reserved, cpus: 2, kubernetes: false }
    }

    fn options(out: &Path) -> Options {
        let peer = Some("192.0.2.9".parse().unwrap());
        Options { out: out.into(), interface: None, peer, subject: "al\"ice'".into(), host: "web-1".into() }
    }

    #[test]
    fn p8_the_first_configuration_is_good_audits_and_lets_the_caller_in() {
        let dir = tempfile::tempdir().unwrap();
        let facts = facts(&[("eth0", None)]);
        let written = init(&options(&dir.path().join("new")), &facts).unwrap();
        let report = crate::check::report(&written.config, &facts);
        assert!(report.is_good(), "{report}");
        let (config, _) = Config::load(&written.config).unwrap();
        assert_eq!(config.mode, Mode::Audit);
        assert_eq!(config.always_allow, ["192.0.2.9/32".parse().unwrap()]);
        assert_eq!(config.services[0].allow, r#"claims.sub == "al\"ice'""#);
        assert!(written.next[1].contains(r#"--subject 'al"ice'\''' --cnf "#), "{}", written.next[1]);
    }

    #[test]
    fn p6_the_first_knock_is_sealed_proved_and_kept_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let written = init(&options(&dir.path().join("new")), &facts(&[("eth0", None)])).unwrap();
        let (config, warnings) = Config::load(&written.config).unwrap();
        assert_eq!((&config.issuers[0].accept, config.issuers[0].replay), (&[Form::Sealed].into(), ReplayMode::Proof));
        assert!(warnings.is_empty(), "{warnings:?}");
        // The profile is the one that `jpatd client-config` prints, and says where token and key lie.
        let profile = Profile::read(&written.client.join("profile.toml")).unwrap_or_else(|error| panic!("{error}"));
        let printed = provision::profile(&config, None, None).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((&profile.server_id, &profile.server_keys), (&printed.server_id, &printed.server_keys));
        assert_eq!((*profile.knock_key, profile.knock_key_id), (*printed.knock_key, printed.knock_key_id));
        assert_eq!(profile.token_file, Some(written.client.join("token")));
        assert!(crate::client::sealed::read_key(&profile.client_key.unwrap()).is_ok());
        for (name, mode) in [("client", 0o700), ("client/profile.toml", 0o600), ("client/key.jwk", 0o600)] {
            let permissions = fs::metadata(dir.path().join("new").join(name)).unwrap().permissions();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&permissions) & 0o777, mode, "{name}");
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("jpat.toml"), "mine").unwrap();
        let error = init(&options(dir.path()), &facts(&[("eth0", None)])).unwrap_err();
        assert!(error.to_string().contains("jpat.toml exists already"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else was written either");
    }

    #[test]
    fn interfaces_are_those_asked_for_external_or_what_leads_out() {
        let devices = |names| facts(names).devices.unwrap();
        assert_eq!(interfaces_for(None, &devices(&[("eth0", None)])).unwrap(), ["external"]);
        assert_eq!(interfaces_for(None, &devices(&[("eth0", Some("veth"))])).unwrap(), ["eth0"]);
        assert_eq!(interfaces_for(Some("br0"), &devices(&[("br0", Some("bridge"))])).unwrap(), ["br0"]);
        let error = interfaces_for(Some("eth1"), &devices(&[("eth0", None)])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no device `eth1` that can be protected\n  remedy: name one with --interface: eth0"
        );
    }
}
