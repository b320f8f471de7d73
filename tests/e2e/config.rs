//! Configurations of the trials: the design's example in small, and the parts that trials change.

use std::{net::SocketAddr, path::Path};

pub(crate) const ISSUER: &str = "https://idp.example";
pub(crate) const AUDIENCE: &str = "jpat://prod";
pub(crate) const KNOCK_PORT: u16 = 1337;
/// Service `web`.
pub(crate) const HTTPS: u16 = 8443;
pub(crate) const UDP: u16 = 9999;
/// Service `db`.
pub(crate) const DB: u16 = 5432;
/// Unprotected.
pub(crate) const FREE: u16 = 8022;
/// Where the issuer answers inside the host's namespace.
pub(crate) const IDP: u16 = 8080;
/// Where `jpatd` serves metrics, inside the host's namespace.
pub(crate) const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9337);

/// The parts of a configuration that trials change.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) mode: &'static str,
    pub(crate) listen: String,
    pub(crate) issuers: String,
    pub(crate) services: Vec<String>,
    pub(crate) audit: &'static str,
    pub(crate) rest: String,
}

impl Config {
    /// The file; all but the pins lie beside it.
    pub(crate) fn text(&self, pins: &Path) -> String {
        let Self { mode, listen, issuers, services, audit, rest } = self;
        format!(
            "mode = \"{mode}\"\nstate = \"state\"\npins = \"{}\"\n\
             [listen]\n{listen}port = {KNOCK_PORT}\n\
             [admin]\nsocket = \"admin.sock\"\nmetrics = \"{METRICS}\"\n[audit]\nfile = \"{audit}\"\n\
             {issuers}{}{rest}",
            pins.display(),
            services.concat()
        )
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: "enforce",
            listen: listen("\"eth0\"", "driver"),
            issuers: issuer("keys = { jwks_file = \"jwks.json\" }"),
            services: vec![web("2s"), db("2s")],
            audit: "audit.jsonl",
            rest: String::new(),
        }
    }
}

/// Devices as in the file's list, and how to attach to them.
pub(crate) fn listen(interfaces: &str, attach: &str) -> String {
    format!("interfaces = [{interfaces}]\nattach = \"{attach}\"\n")
}

/// The issuer `corp`, whose keys come from where `keys` says.
pub(crate) fn issuer(keys: &str) -> String {
    issuer_named("corp", ISSUER, &["ES256"], keys)
}

pub(crate) fn issuer_named(name: &str, url: &str, algorithms: &[&str], keys: &str) -> String {
    format!(
        "[[issuer]]\nname = \"{name}\"\nissuer = \"{url}\"\naudience = [\"{AUDIENCE}\"]\nalgorithms = {algorithms:?}\n\
         accept = [\"bare\"]\n{keys}\n"
    )
}

/// The design's example: employees with the role, without `doge`.
pub(crate) fn web(ttl: &str) -> String {
    format!(
        "[[service]]\nname = \"web\"\nissuers = [\"corp\"]\nports = [\"tcp/{HTTPS}\", \"udp/{UDP}\"]\nttl = \"{ttl}\"\n\
         allow = '''claims.sub.startsWith(\"employee:\") && \"commerce-listings-admin\" in claims.roles\n  \
         && !(\"doge\" in claims.roles)'''\n"
    )
}

pub(crate) fn db(ttl: &str) -> String {
    format!(
        "[[service]]\nname = \"db\"\nissuers = [\"corp\"]\nports = [\"tcp/{DB}\"]\nttl = \"{ttl}\"\n\
         allow = '''\"dba\" in claims.roles'''\n"
    )
}
