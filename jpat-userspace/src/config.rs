//! The resolved configuration: every value checked and typed. Only [`Config::load`] makes one.

pub mod error;
mod file;
mod keys;
mod raw;
mod resolve;
pub mod schema;
pub mod secrets;
mod sealed;
pub mod source;
mod value;

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use ipnet::IpNet;
pub use jpat_common::settings::Protocol;

pub use self::sealed::{KnockKeyConfig, Server, SourceBinding};
use crate::{knock::Form, policy::Owner};

/// Longest life a grant may have, whatever its service says; the program refuses longer ones.
pub const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

/// Everything an instance runs on.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from; relative paths inside were resolved against its directory.
    pub path: PathBuf,
    /// Enforce or audit.
    pub mode: Mode,
    /// Directory of service ids, cached key sets and replay state.
    pub state: PathBuf,
    /// Directory on a bpffs, one per instance.
    pub pins: PathBuf,
    /// Where the program listens and what it judges.
    pub listen: Listen,
    /// Sources that reach protected ports without a grant.
    pub always_allow: Vec<IpNet>,
    /// Who this host is to sealed knocks; there where an issuer accepts them.
    pub server: Option<Server>,
    /// Keys of the filter; ids are unique.
    pub knock_keys: Vec<KnockKeyConfig>,
    /// Who issues tokens; names are unique, and so are `iss` values.
    pub issuers: Vec<Issuer>,
    /// What is protected; names are unique, ports do not overlap. Never empty.
    pub services: Vec<Service>,
    /// Judged before every `allow`.
    pub deny: Vec<DenyRule>,
    /// Capacities.
    pub limits: Limits,
    /// Where the audit log goes.
    pub audit: Audit,
    /// Local socket and metrics.
    pub admin: Admin,
    /// The text it was read from, to point into.
    pub source: Arc<source::Source>,
}

impl Config {
    /// What is wrong with a CEL expression; `place` is a line and a column (characters) within it, counted from 1.
    #[must_use]
    pub fn rule_error(
        &self,
        owner: &Owner,
        place: Option<(usize, usize)>,
        message: impl std::fmt::Display,
    ) -> error::ConfigError {
        let (line, column) = place.unwrap_or((1, 1));
        let (key, name) = match owner {
            Owner::Service(name) => {
                let at = self.services.iter().position(|service| service.name == *name).unwrap_or_default();
                (format!("service[{at}].allow"), name)
            }
            Owner::Deny(name) => {
                let at = self.deny.iter().position(|rule| rule.name == *name).unwrap_or_default();
                (format!("deny[{at}].when"), name)
            }
        };
        self.source.error_within(&key, line, column, format!("`{name}`: {message}"))
    }
}

/// Whether keys may be fetched from `url`: over https, from this host itself, or over http where that is allowed. Holds
/// for a `jwks_uri` as much as for what the file says.
#[must_use]
pub fn url_is_safe(url: &reqwest::Url, allow_http: bool) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let local = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => true,
        "http" => local || allow_http,
        _ => false,
    }
}

/// What happens to a packet that may not pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// It is dropped.
    Enforce,
    /// It passes and is counted as what would have been dropped; knocks are taken all the same.
    Audit,
}

impl Mode {
    /// Its name in the file and in `status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}

/// `[listen]`
#[derive(Clone, Debug)]
pub struct Listen {
    /// Devices to attach to.
    pub interfaces: Vec<InterfacePattern>,
    /// How to attach.
    pub attach: AttachMode,
    /// UDP port of knocks.
    pub port: u16,
    /// Whose packets are judged.
    pub destinations: Destinations,
    /// Whether ESP, GRE, IPIP, VXLAN and the like to judged destinations are dropped.
    pub drop_tunnels: bool,
}

/// One entry of `listen.interfaces`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InterfacePattern {
    /// A device by its name.
    Name(String),
    /// Names with `*` and `?`.
    Glob(String),
    /// Physical and bond devices, without bridge ports, veths and loopback.
    External,
}

impl std::fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Name(name) => name,
            Self::Glob(glob) => glob,
            Self::External => "external",
        })
    }
}

/// `listen.attach`
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachMode {
    /// The driver's hook, and the generic one where the driver has none.
    Auto,
    /// The driver's hook or nothing.
    Driver,
    /// The generic hook.
    Generic,
}

/// `listen.destinations`
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destinations {
    /// This host's addresses with broadcast and multicast.
    Local,
    /// Every destination.
    Any,
    /// These prefixes.
    Prefixes(Vec<IpNet>),
}

/// `[[issuer]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Issuer {
    /// Its name in this configuration.
    pub name: Arc<str>,
    /// Exact `iss`.
    pub issuer: String,
    /// Any of these must be in `aud`. Never empty.
    pub audience: Vec<String>,
    /// Either all asymmetric or all HMAC, never empty.
    pub algorithms: Vec<jsonwebtoken::Algorithm>,
    /// Where its keys come from.
    pub keys: KeySource,
    /// The forms of knock its tokens may come in. Never empty.
    pub accept: BTreeSet<Form>,
    /// What a second use of a token means.
    pub replay: ReplayMode,
    /// What a sealed knock must say of its source.
    pub source_binding: SourceBinding,
    /// Allowed `typ` values, lower case, without an `application/` in front; a token without `typ` is always allowed.
    pub typ: Vec<String>,
    /// Clock difference tolerated for `nbf` and `iat`, never for `exp`.
    pub leeway: Duration,
    /// Longest `exp` - `iat` (without `iat`: `exp` - now).
    pub max_lifetime: Duration,
    /// How long last good keys serve when the issuer cannot be reached.
    pub max_stale: Duration,
    /// Whether http is allowed to other hosts as well, for labs; see [`url_is_safe`].
    pub allow_http: bool,
}

/// `issuer.keys`
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeySource {
    /// OpenID Connect Discovery 1.0 §4 below the issuer URL, then its `jwks_uri`.
    Discovery,
    /// A JWK Set (RFC 7517) over HTTP.
    JwksUrl(String),
    /// A JWK Set in a file.
    JwksFile(PathBuf),
    /// One public key or certificate in PEM.
    PemFile(PathBuf),
    /// A shared secret: the file's bytes, without one trailing line end.
    SecretFile(PathBuf),
}

/// `issuer.replay`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplayMode {
    /// One use per token id.
    Once,
    /// Every knock is signed afresh with the key that the token names in `cnf`.
    Proof,
    /// The first source that uses a token owns it.
    BindSource,
}

impl ReplayMode {
    /// Its name in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Proof => "proof",
            Self::BindSource => "bind-source",
        }
    }
}

/// `[[service]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Its name; the id the data path knows it by belongs to the name.
    pub name: String,
    /// Names of the issuers whose tokens count. Never empty.
    pub issuers: Vec<String>,
    /// What it protects. Never empty.
    pub ports: Vec<PortRange>,
    /// CEL source.
    pub allow: String,
    /// Life of a grant, at most [`MAX_TTL`].
    pub ttl: Duration,
    /// Width of the address a grant covers.
    pub prefix: PrefixWidths,
    /// What outlives a grant.
    pub sessions: Sessions,
}

/// `sessions`, `flow_idle` and `flow_max` of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sessions {
    /// TCP connections outlive their grant.
    pub keeps_tcp: bool,
    /// UDP flows do.
    pub keeps_udp: bool,
    /// How long a flow may be silent.
    pub flow_idle: Duration,
    /// How long a flow may last.
    pub flow_max: Duration,
}

/// Ports of one protocol, both ends included, host order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortRange {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// First port.
    pub first: u16,
    /// Last port, not below the first.
    pub last: u16,
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        if self.first == self.last {
            write!(f, "{protocol}/{}", self.first)
        } else {
            write!(f, "{protocol}/{}-{}", self.first, self.last)
        }
    }
}

/// Bits of the source address that a grant covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrefixWidths {
    /// 1 to 32.
    pub v4: u8,
    /// 1 to 128.
    pub v6: u8,
}

impl PrefixWidths {
    /// The mask over the 16-byte form for a source of this family.
    #[must_use]
    pub fn mask(self, source: IpAddr) -> jpat_common::addr::Addr {
        match source.to_canonical() {
            IpAddr::V4(_) => jpat_common::addr::mask(self.v4 + 96),
            IpAddr::V6(_) => jpat_common::addr::mask(self.v6),
        }
    }
}

/// `[[deny]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DenyRule {
    /// Its name in audit and `explain`.
    pub name: String,
    /// CEL source.
    pub when: String,
}

/// `[limits]`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Entries of the grant map. Live grants stay below this less 128 for each possible CPU.
    pub grants: u32,
    /// Entries of the flow map.
    pub flows: u32,
    /// Flows that one grant may have at a time.
    pub flows_per_grant: u32,
    /// Sources from which one principal may hold grants at a time.
    pub sources_per_principal: u32,
    /// Verification threads; zero if the controller's loop verifies.
    pub workers: u32,
    /// Knocks that may wait for verification.
    pub queue: u32,
    /// Bare knocks a second that are looked at.
    pub bare_per_second: u32,
    /// Sealed knocks a second of one group of knock keys that are looked at.
    pub knocks_per_second: u32,
    /// Token ids that the replay memory holds.
    pub replay_entries: u32,
}

/// `[audit]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Audit {
    /// JSON lines appended to a file of mode 0600.
    File(PathBuf),
    /// JSON lines on standard error, which the journal keeps.
    Journal,
}

/// `[admin]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admin {
    /// The local socket.
    pub socket: PathBuf,
    /// Who may ask.
    pub read: Vec<Peer>,
    /// Who may change. They may ask as well.
    pub change: Vec<Peer>,
    /// Where `/metrics`, `/livez` and `/readyz` are served; nowhere if absent.
    pub metrics: Option<std::net::SocketAddr>,
}

/// Somebody on this host, by the peer credentials of the socket (`SO_PEERCRED`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Peer {
    /// A user: name and id.
    User(String, u32),
    /// A group: name and id; written `@name`.
    Group(String, u32),
}
