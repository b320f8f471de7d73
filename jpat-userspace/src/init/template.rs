//! The text of a first configuration.

/// What differs from host to host.
pub(super) struct Values<'a> {
    pub(super) interfaces: &'a [String],
    /// Sources that are always allowed, or none.
    pub(super) peer: Option<&'a str>,
    /// Id of this host to sealed knocks.
    pub(super) server: &'a str,
    pub(super) knock_key: u16,
    pub(super) issuer: &'a str,
    pub(super) audience: &'a str,
    pub(super) subject: &'a str,
    pub(super) keys: &'a str,
}

pub(super) fn render(values: &Values<'_>) -> String {
    let Values { interfaces, peer, server, knock_key, issuer, audience, subject, keys } = values;
    let server = toml_string(server);
    let interfaces = list(interfaces);
    let (peer, of_peer) = match peer {
        Some(peer) => (list(&[(*peer).to_owned()]), "where you were logged in from when this was written"),
        None => ("[]".to_owned(), "none: you were not logged in over SSH when this was written"),
    };
    let rule = format!("claims.sub == {}", toml_string(subject));
    let (issuer, audience, keys, rule) =
        (toml_string(issuer), toml_string(audience), toml_string(keys), literal(&rule));
    format!(
        r#"# JPAT: first configuration, written by `jpatd init`. `jpatd schema` lists every key; `jpatd check` reads this file.

# "audit" counts what would be dropped and drops nothing but knocks. When the counters are as you expect:
# stop the controller, write "enforce" and start it with `--try 60s`: it rolls back by itself unless you say `jpat confirm`.
# TCP connections that stand at that moment go on without a grant.
mode = "audit"

[listen]
interfaces = {interfaces}
port = 1337                     # UDP; knocks are taken here

# Break-glass: these reach protected ports without a token, whatever happens to issuers and keys.
[always_allow]
sources = {peer}  # {of_peer}

# Who this host is to sealed knocks. `jpatd client-config` prints what a client must know of it.
[server]
id = {server}
keys = ["server.key"]           # several while one replaces another

# Keeps strangers away from the controller; it authorises nothing. One for each group of clients.
[[knock_key]]
id = {knock_key}
group = "clients"
file = "knock-{knock_key}.key"

# Who issues tokens. This one is local: its private keys lie in issuer/, next to this file, and are not needed by jpatd.
# After `jpat issuer keys generate`: `jpat issuer keys jwks --dir issuer > jwks.json`, then `jpat reload`.
[[issuer]]
name = "local"
issuer = {issuer}
audience = [{audience}]
algorithms = ["ES256"]
keys = {{ jwks_file = {keys} }}
accept = ["sealed"]
replay = "proof"                # each knock is signed with the client's own key, which the token names (--cnf)
leeway = "0s"                   # the issuer has this host's own clock

# What is protected, for whom, for how long.
[[service]]
name = "ssh"
ports = ["tcp/22"]
allow = {rule}
ttl = "30s"                     # for new connections; those that stand go on (sessions = "cut" ends them with the grant)
"#
    )
}

fn list(names: &[String]) -> String {
    format!("[{}]", names.iter().map(|name| toml_string(name)).collect::<Vec<_>>().join(", "))
}

/// A basic TOML string; CEL reads it the same.
fn toml_string(text: &str) -> String {
    let mut quoted = String::from('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            char if char.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(char))),
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

/// A literal TOML string where the text allows one.
fn literal(text: &str) -> String {
    if text.contains('\'') { toml_string(text) } else { format!("'{text}'") }
}
