//! `init`, `keygen`, `client-config`, `check`, `explain` and `detach`: what `jpatd` does without a running controller.

use std::{
    fs,
    io::Read as _,
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;

use super::{load, lockout};
use crate::{
    check::{self, HostFacts},
    client::Host,
    clock::{self, Now, UnixTime},
    config::{Config, KeySource},
    explain::{self, Decision, Way},
    init,
    output::{self, Format},
    provision::{self, Wanted},
};

/// What `explain` is asked.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) config: PathBuf,
    pub(super) token_file: PathBuf,
    pub(super) source: IpAddr,
    pub(super) at: Option<jiff::Timestamp>,
    pub(super) jwks: Option<PathBuf>,
    pub(super) bare: bool,
    pub(super) proof: bool,
}

pub(super) fn init(out: PathBuf, interface: Option<String>) -> anyhow::Result<ExitCode> {
    let written = init::init(&init::Options::new(out, interface, lockout::own_peer()), &HostFacts::read())?;
    let allowed = written.always_allowed.map_or_else(
        || "you are not logged in through SSH, so no address is always allowed: see [always_allow]".to_owned(),
        |peer| format!("your address {peer} is always allowed"),
    );
    output::talk(&format!("wrote {} (audit mode: nothing is dropped yet); {allowed}", written.config.display()));
    output::talk(&format!(
        "next, as root; then as root; then from the client, which needs {} (secret):",
        written.client.display()
    ));
    output::fact(&written.next.join("\n"));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn keygen(out: &Path, wanted: Wanted) -> anyhow::Result<ExitCode> {
    let keys = provision::keygen(out, wanted)?;
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    output::talk(
        "add this to the configuration (what is there already stays, so that old and new keys serve together):",
    );
    output::fact(&keys.sections(host.as_deref().unwrap_or("localhost")));
    output::talk("the .key files are secret; then `jpatd client-config` prints the profile for a client");
    Ok(ExitCode::SUCCESS)
}

pub(super) fn client_config(config: &Path, knock_key: Option<u16>, host: Option<Host>) -> anyhow::Result<ExitCode> {
    let config = Config::load(config).map_err(load::Invalid)?.0;
    let profile = provision::profile(&config, knock_key, host)?;
    output::talk("what follows is secret: it holds a knock key. Clients keep it as a file of mode 0600");
    output::fact(&profile.render());
    Ok(ExitCode::SUCCESS)
}

pub(super) fn check(config: &Path, format: Format) -> anyhow::Result<ExitCode> {
    let report = check::report(config, &HostFacts::read());
    match format {
        Format::Text => output::fact(&report.to_string()),
        Format::Json => output::fact(&serde_json::to_string(&report)?),
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Exit code 0 when the token opens something, 1 when not.
pub(super) fn explain(question: &Question, format: Format) -> anyhow::Result<ExitCode> {
    let mut config = Config::load(&question.config).map_err(load::Invalid)?.0;
    let token = read_token(&question.token_file)?;
    if let Some(jwks) = &question.jwks {
        for issuer in &mut config.issuers {
            if matches!(issuer.keys, KeySource::Discovery | KeySource::JwksUrl(_)) {
                issuer.keys = KeySource::JwksFile(jwks.clone());
            }
        }
    }
    let errors: Vec<_> = check::rules(&config).into_iter().chain(check::static_keys(&config)).collect();
    if !errors.is_empty() {
        return Err(load::Invalid(errors).into());
    }
    let ids = config.services.iter().map(|service| service.name.clone()).zip(1..).collect();
    let (snapshot, notes) = load::snapshot(Arc::new(config), ids, 1, None)?;
    for note in notes {
        output::talk(&format!("jpatd: {note}"));
    }
    let way = if question.bare { Way::Bare } else { Way::usual(&snapshot.config, &token, question.proof) };
    let explanation = explain::explain(&snapshot, &token, way, question.source, moment(question.at)?);
    match format {
        Format::Text => output::fact(&explanation.to_string()),
        Format::Json => output::fact(&explanation.to_json().to_string()),
    }
    Ok(match explanation.decision {
        Decision::Open(_) => ExitCode::SUCCESS,
        Decision::Refused { .. } => ExitCode::FAILURE,
    })
}

pub(super) fn detach(config: &Path) -> anyhow::Result<ExitCode> {
    let config = Config::load(config).map_err(load::Invalid)?.0;
    let removed = super::detach(&config)?;
    output::fact(&match (removed.links, removed.maps) {
        (0, 0) => "nothing was attached".to_owned(),
        (1, _) => "detached from 1 interface; all grants are gone".to_owned(),
        (links, _) => format!("detached from {links} interfaces; all grants are gone"),
    });
    Ok(ExitCode::SUCCESS)
}

fn read_token(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut token = String::new();
        std::io::stdin().read_to_string(&mut token).context("reading the token from standard input")?;
        return Ok(token);
    }
    fs::read_to_string(path).with_context(|| format!("reading the token from {}", path.display()))
}

fn moment(at: Option<jiff::Timestamp>) -> anyhow::Result<Now> {
    let now = clock::now();
    let Some(at) = at else { return Ok(now) };
    let nanos = u64::try_from(at.as_nanosecond()).context("--at lies before 1970")?;
    Ok(Now { unix: UnixTime(nanos), ..now })
}
