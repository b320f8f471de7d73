//! The file as it is typed: plain values, every key of this version with its default. The one source of the JSON
//! Schema and of the list of known keys; what values mean is checked in [`resolve`](super::resolve).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use self::sealed::{KnockKey, Server};

mod sealed;

/// Configuration of `jpatd`. Durations are written as "30s", "10m" or "12h"; relative paths count from this file.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "jpat.toml", extend("required" = ["mode", "issuer", "service"]))]
pub(super) struct File {
    /// "enforce", or "audit": count what would be dropped, drop nothing but knocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["enforce", "audit"]))]
    pub(super) mode: Option<String>,
    /// Directory of service ids, cached key sets and replay state.
    pub(super) state: String,
    /// Directory on a bpffs; one per instance.
    pub(super) pins: String,
    pub(super) listen: Listen,
    pub(super) always_allow: AlwaysAllow,
    /// Who this host is to sealed knocks; needed where an issuer accepts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<Server>,
    /// Keys of the filter in front of the controller, one id each; they authorise nothing. `jpatd keygen` makes one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub(super) knock_key: Vec<KnockKey>,
    /// Who issues tokens.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1))]
    pub(super) issuer: Vec<Issuer>,
    /// What is protected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1))]
    pub(super) service: Vec<Service>,
    /// Judged before every `allow`, for all services.
    pub(super) deny: Vec<Deny>,
    pub(super) limits: Limits,
    pub(super) audit: Audit,
    pub(super) admin: Admin,
}

impl Default for File {
    fn default() -> Self {
        Self {
            mode: None,
            state: "/var/lib/jpat".into(),
            pins: "/sys/fs/bpf/jpat".into(),
            listen: Listen::default(),
            always_allow: AlwaysAllow::default(),
            server: None,
            knock_key: Vec::new(),
            issuer: Vec::new(),
            service: Vec::new(),
            deny: Vec::new(),
            limits: Limits::default(),
            audit: Audit::default(),
            admin: Admin::default(),
        }
    }
}

/// Where knocks are taken and what is judged.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Listen {
    /// Devices: names, globs (`*`, `?`), or "external": physical and bond devices without bridge ports, bond members,
    /// veths and loopback.
    #[schemars(length(min = 1))]
    pub(super) interfaces: Vec<String>,
    /// "auto": the driver's XDP hook, or the generic one where the driver has none; "driver" or "generic": that or nothing.
    #[schemars(extend("enum" = ["auto", "driver", "generic"]))]
    pub(super) attach: String,
    /// UDP port of knocks.
    #[schemars(range(min = 1, max = 65_535))]
    pub(super) port: i64,
    /// Whose packets are judged: "local" (this host's addresses with broadcast and multicast), "any", or prefixes.
    pub(super) destinations: Destinations,
    /// "drop" refuses ESP, GRE, IPIP, VXLAN and the like on judged destinations; "pass" lets them through unjudged.
    #[schemars(extend("enum" = ["pass", "drop"]))]
    pub(super) tunnels: String,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            interfaces: vec!["external".into()],
            attach: "auto".into(),
            port: 1337,
            destinations: Destinations::Word("local".into()),
            tunnels: "pass".into(),
        }
    }
}

/// `listen.destinations`
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "expected \"local\", \"any\" or a list of prefixes")]
pub(super) enum Destinations {
    Word(#[schemars(extend("enum" = ["local", "any"]))] String),
    Prefixes(Vec<String>),
}

/// Break-glass: sources that reach protected ports without a grant. The knock port is judged first; UDP sources can be
/// forged.
#[derive(Deserialize, Serialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AlwaysAllow {
    /// Addresses and prefixes.
    pub(super) sources: Vec<String>,
}

/// Someone whose tokens count.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "issuer", "audience", "algorithms", "keys", "accept"]))]
pub(super) struct Issuer {
    /// Its name here, in policies, audit and metrics: letters, digits, `.`, `_`, `-`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// Exact `iss` of its tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) issuer: Option<String>,
    /// A token must name one of these in `aud`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1))]
    pub(super) audience: Vec<String>,
    /// Signature algorithms (RFC 7518 §3.1, RFC 8037): asymmetric ones or HMAC, never both.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), extend("items" = { "type": "string", "enum": [
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256", "HS384", "HS512",
    ] }))]
    pub(super) algorithms: Vec<String>,
    /// Where its keys come from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) keys: Option<Keys>,
    /// Forms of knock: "sealed", "bare" (a naked JWT as the datagram), or both.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), extend("items" = { "type": "string", "enum": ["sealed", "bare"] }))]
    pub(super) accept: Vec<String>,
    /// "bind-source": the first source that uses a token owns it; "once": one use per token id; "proof": each knock is
    /// signed afresh with the key that the token names in `cnf` (sealed knocks alone).
    #[schemars(extend("enum" = ["bind-source", "once", "proof"]))]
    pub(super) replay: String,
    /// Allowed `typ` header values, without `application/`; a token without `typ` is always allowed.
    pub(super) typ: Vec<String>,
    /// Clock difference tolerated for `nbf` and `iat`, never for `exp`; at most 5 minutes.
    pub(super) leeway: String,
    /// Longest life of a token, from `iat` (or now) to `exp`.
    pub(super) max_lifetime: String,
    /// How long fetched keys serve when the issuer cannot be reached.
    pub(super) max_stale: String,
    /// Whether `http` URLs are taken from other hosts than this one. For labs: whoever is on the path can then put
    /// keys of its own in place of the issuer's.
    pub(super) allow_http: bool,
    /// "observed": the address a knock came from is the one that gets the grant; "strict": the client must say the same
    /// address inside the sealed knock, which it cannot behind NAT.
    #[schemars(extend("enum" = ["observed", "strict"]))]
    pub(super) source_binding: String,
}

impl Default for Issuer {
    fn default() -> Self {
        Self {
            name: None,
            issuer: None,
            audience: Vec::new(),
            algorithms: Vec::new(),
            keys: None,
            accept: Vec::new(),
            replay: "bind-source".into(),
            typ: ["JWT", "at+jwt", "jpat+jwt"].map(String::from).into(),
            leeway: "10s".into(),
            max_lifetime: "24h".into(),
            max_stale: "12h".into(),
            allow_http: false,
            source_binding: "observed".into(),
        }
    }
}

/// Where keys come from: exactly one of these.
#[derive(Deserialize, Serialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct Keys {
    /// OpenID Connect Discovery below the issuer URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("const" = true))]
    pub(super) discovery: Option<bool>,
    /// URL of a JWK Set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwks_url: Option<String>,
    /// File with a JWK Set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwks_file: Option<String>,
    /// File with one public key or certificate in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pem_file: Option<String>,
    /// File with the shared secret of an HMAC algorithm, mode 0600 or less; one line end at its end does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret_file: Option<String>,
}

/// A protected service.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "ports", "allow", "ttl"]))]
pub(super) struct Service {
    /// Its name: letters, digits, `.`, `_`, `-`. Its id in the data path belongs to the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// Names of the issuers whose tokens count; required when there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) issuers: Option<Vec<String>>,
    /// What it protects: `tcp/8443`, `udp/5000-5010`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1), inner(regex(pattern = r"^(tcp|udp)/[0-9]+(-[0-9]+)?$")))]
    pub(super) ports: Vec<String>,
    /// CEL over `claims`, `header`, `issuer`, `service`, `source`, `now`, `knock`; true opens it, an error does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) allow: Option<String>,
    /// Life of a grant unless the token's `exp` comes first: 1 second to 24 hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ttl: Option<String>,
    /// What happens to connections when their grant ends. "keep": they go on, until they are over, idle, too old or
    /// revoked; "cut": they end with it. Without this key TCP connections are kept and UDP is cut; with it, it holds
    /// for both.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["keep", "cut"]))]
    pub(super) sessions: Option<String>,
    /// How long a kept or adopted connection may be silent: 1 second to 7 days.
    pub(super) flow_idle: String,
    /// How long a kept or adopted connection may last: 1 second to 30 days.
    pub(super) flow_max: String,
    pub(super) prefix: Prefix,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            name: None,
            issuers: None,
            ports: Vec::new(),
            allow: None,
            ttl: None,
            sessions: None,
            flow_idle: "10m".into(),
            flow_max: "12h".into(),
            prefix: Prefix::default(),
        }
    }
}

/// Width of the address that a grant covers.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Prefix {
    /// Bits of an IPv4 address.
    #[schemars(range(min = 1, max = 32))]
    pub(super) v4: i64,
    /// Bits of an IPv6 address.
    #[schemars(range(min = 1, max = 128))]
    pub(super) v6: i64,
}

impl Default for Prefix {
    fn default() -> Self {
        Self { v4: 32, v6: 128 }
    }
}

/// A rule that refuses.
#[derive(Deserialize, Serialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "when"]))]
pub(super) struct Deny {
    /// Its name in audit and `explain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// CEL; true refuses the knock for every service, and so does an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) when: Option<String>,
}

/// Capacities.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    /// Entries of the grant map; live grants stay below this less 128 for each possible CPU.
    #[schemars(range(min = 256, max = 16_777_216))]
    pub(super) grants: i64,
    /// Entries of the flow map: connections that are kept at a time. A full one refuses new connections.
    #[schemars(range(min = 16, max = 16_777_216))]
    pub(super) flows: i64,
    /// Flows that one grant may have at a time: connections from one source prefix to one service.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub(super) flows_per_grant: i64,
    /// Sources from which one principal may hold grants at a time.
    #[schemars(range(min = 1, max = 65_536))]
    pub(super) sources_per_principal: i64,
    /// Verification threads; 0 takes as many as there are CPUs, at most 8, and none where there is one: then the controller's
    /// loop verifies.
    #[schemars(range(min = 0, max = 256))]
    pub(super) workers: i64,
    /// Knocks that may wait for verification.
    #[schemars(range(min = 1, max = 65_536))]
    pub(super) queue: i64,
    /// Bare knocks a second that are looked at.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) bare_per_second: i64,
    /// Sealed knocks a second of one group of knock keys that are looked at.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) knocks_per_second: i64,
    /// Token ids that the replay memory holds; a full one refuses.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) replay_entries: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            grants: 65_536,
            flows: 65_536,
            flows_per_grant: 1024,
            sources_per_principal: 64,
            workers: 0,
            queue: 1024,
            bare_per_second: 1000,
            knocks_per_second: 1000,
            replay_entries: 100_000,
        }
    }
}

/// The audit log.
#[derive(Deserialize, Serialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Audit {
    /// File of JSON lines; without it they go to standard error, which the journal keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
}

/// The local socket and the metrics.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Admin {
    /// Path of the socket.
    pub(super) socket: String,
    /// Users and `@groups` that may ask.
    pub(super) read: Vec<String>,
    /// Users and `@groups` that may change, and ask.
    pub(super) change: Vec<String>,
    /// Address of `/metrics`, `/livez` and `/readyz`, or "off".
    pub(super) metrics: String,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            socket: "/run/jpat/admin.sock".into(),
            read: vec!["root".into()],
            change: vec!["root".into()],
            metrics: "127.0.0.1:9337".into(),
        }
    }
}
