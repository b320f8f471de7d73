//! What a client must know of a server to seal knocks to it: a file that `jpatd client-config` prints.

use std::{
    io,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use super::{Host, KNOCK_PORT, sealed::Claimed};
use crate::{
    knock::inner::is_server_id,
    secret_file::{self, Secret, SecretFileError},
};

/// Most bytes of a profile that are read.
const MAX_FILE: usize = 16 * 1024;

/// A profile, checked.
pub struct Profile {
    /// Its file.
    pub path: PathBuf,
    /// The server's name or address.
    pub host: Option<Host>,
    /// Its knock port.
    pub port: u16,
    /// Whether it answers knocks that authenticate.
    pub reply: bool,
    /// Where the token lies.
    pub token_file: Option<PathBuf>,
    /// Where the client's own key lies, for tokens that are bound to it.
    pub client_key: Option<PathBuf>,
    /// The address that knocks say they come from.
    pub address: Option<Claimed>,
    /// The server's id, which each knock is bound to.
    pub server_id: String,
    /// Its public keys (X25519), the one to use first. Never empty.
    pub server_keys: Vec<[u8; 32]>,
    /// Id of the knock key, which each knock carries in the clear.
    pub knock_key_id: u16,
    /// The knock key.
    pub knock_key: Secret,
}

/// Why a profile cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum ProfileError {
    /// The file is not private, or cannot be read.
    #[error("{}\n  remedy: {}", error.describe(path), remedy(error, path))]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        error: SecretFileError,
    },
    /// It is no profile.
    #[error("{}: no profile: {what}\n  remedy: ask the server's administrator for one (`jpatd client-config`)", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    host: Option<String>,
    port: Option<u16>,
    reply: Option<bool>,
    token_file: Option<PathBuf>,
    client_key: Option<PathBuf>,
    address: Option<String>,
    server: RawServer,
    knock_key: RawKnockKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawServer {
    id: String,
    keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKnockKey {
    id: u16,
    key: String,
}

/// Where profiles lie that are called by name: `$XDG_CONFIG_HOME/jpat`, or `~/.config/jpat`.
#[must_use]
pub fn directory() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .map(|dir| dir.join("jpat"))
}

/// The file of a profile as it is named: with a `/` or `.toml` in it a path, otherwise a name in [`directory`].
#[must_use]
pub fn file(name: &str) -> PathBuf {
    match directory() {
        Some(dir) if !name.contains('/') && !name.ends_with(".toml") => dir.join(format!("{name}.toml")),
        Some(_) | None => PathBuf::from(name),
    }
}

/// The profile that has the name of a host, where there is one.
#[must_use]
pub fn of_host(host: &Host) -> Option<PathBuf> {
    directory().map(|dir| dir.join(format!("{host}.toml"))).filter(|path| path.exists())
}

impl Profile {
    /// Reads one. Paths inside count from its directory.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn read(path: &Path) -> Result<Self, ProfileError> {
        let failed = |error| ProfileError::File { path: path.to_owned(), error };
        let bytes = secret_file::read_private(path, MAX_FILE).map_err(failed)?;
        let content = |what: String| ProfileError::Content { path: path.to_owned(), what };
        let text = std::str::from_utf8(&bytes).map_err(|_binary| content("it is no text".to_owned()))?;
        // The message alone: the whole error quotes the line, which may hold the key.
        let raw: Raw = toml::from_str(text).map_err(|error| content(error.message().replace('\n', ", ")))?;
        Self::new(path, raw).map_err(content)
    }

    fn new(path: &Path, mut raw: Raw) -> Result<Self, String> {
        let knock_key = secret_file::parse(raw.knock_key.key.as_bytes());
        raw.knock_key.key.zeroize();
        let knock_key = knock_key.ok_or("knock_key.key is not 32 bytes as base64url text")?;
        if raw.knock_key.id == 0 {
            return Err("knock_key.id is 1 to 65535".to_owned());
        }
        let id = &raw.server.id;
        if !is_server_id(id) {
            return Err("server.id is not 1 to 64 printable ASCII characters without spaces".to_owned());
        }
        let keys = raw.server.keys.iter().map(|key| public_key(key));
        let server_keys = keys.collect::<Option<Vec<_>>>().filter(|keys| !keys.is_empty());
        let server_keys = server_keys.ok_or("server.keys is not a list of 32 bytes each as base64url text")?;
        let host = raw.host.map(|host| host.parse::<Host>().map_err(|error| format!("host: {error}"))).transpose()?;
        let address = raw.address.map(|text| text.parse::<Claimed>().map_err(|error| format!("address: {error}")));
        let base = path.parent().unwrap_or(Path::new(""));
        let beside = |file: PathBuf| base.join(file);
        Ok(Self {
            path: path.to_owned(),
            host,
            port: raw.port.filter(|port| *port > 0).unwrap_or(KNOCK_PORT),
            reply: raw.reply.unwrap_or(true),
            token_file: raw.token_file.map(beside),
            client_key: raw.client_key.map(beside),
            address: address.transpose()?,
            server_id: raw.server.id,
            server_keys,
            knock_key_id: raw.knock_key.id,
            knock_key,
        })
    }

    /// The text of a profile, as [`Self::read`] takes it. Secret.
    #[must_use]
    pub fn render(&self) -> Zeroizing<String> {
        let keys: Vec<_> = self.server_keys.iter().map(|key| format!("\"{}\"", URL_SAFE_NO_PAD.encode(key))).collect();
        let mut lines = Zeroizing::new(String::with_capacity(1024));
        let mut line = |text: &str| lines.extend([text, "\n"]);
        line(&format!(
            "# JPAT profile of {}, for `jpat knock --profile FILE`. Secret: keep its mode 0600.",
            self.server_id
        ));
        if let Some(host) = &self.host {
            line(&format!("host = \"{host}\""));
        }
        line(&format!("port = {}", self.port));
        if !self.reply {
            line("reply = false");
        }
        for (name, path) in [("token_file", &self.token_file), ("client_key", &self.client_key)] {
            if let Some(path) = path {
                line(&format!("{name} = {}", toml::Value::String(path.to_string_lossy().into_owned())));
            }
        }
        match self.address {
            None => {}
            Some(Claimed::Own) => line("address = \"auto\""),
            Some(Claimed::Address(address)) => line(&format!("address = \"{address}\"")),
        }
        line("\n[server]");
        line(&format!("id = {}", toml::Value::String(self.server_id.clone())));
        line(&format!("keys = [{}]", keys.join(", ")));
        line("\n[knock_key]");
        line(&format!("id = {}", self.knock_key_id));
        line(&Zeroizing::new(format!("key = \"{}\"", secret_file::text(&self.knock_key).as_str())));
        lines
    }
}

fn public_key(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

fn remedy(error: &SecretFileError, path: &Path) -> String {
    match error {
        SecretFileError::Unreadable(error) if error.kind() == io::ErrorKind::NotFound => {
            "ask the server's administrator for a profile (`jpatd client-config`), and name it with --profile"
                .to_owned()
        }
        SecretFileError::Unreadable(_)
        | SecretFileError::Exposed(_)
        | SecretFileError::ForeignOwner(_)
        | SecretFileError::Content => error.remedy(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(path: &Path) -> Profile {
        Profile {
            path: path.to_owned(),
            host: Some("web-1".parse().unwrap()),
            port: 4711,
            reply: false,
            token_file: Some("token".into()),
            client_key: None,
            address: Some(Claimed::Own),
            server_id: "we\"b'\\1".into(),
            server_keys: vec![[1; 32], [2; 32]],
            knock_key_id: 7,
            knock_key: Secret::new([3; 32]),
        }
    }

    #[test]
    fn a_profile_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web-1.toml");
        let written = profile(&path);
        secret_file::create(&path, written.render().as_bytes()).unwrap();
        let read = Profile::read(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read.host, written.host);
        assert_eq!((read.port, read.reply, read.knock_key_id), (4711, false, 7));
        assert_eq!((&read.server_id, &read.server_keys), (&written.server_id, &written.server_keys));
        assert_eq!((*read.knock_key, read.address), ([3; 32], Some(Claimed::Own)));
        assert_eq!((read.token_file, read.client_key), (Some(dir.path().join("token")), None));
    }

    #[test]
    fn p6_what_is_no_profile_is_refused_without_a_word_of_its_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.toml");
        let good = profile(&path).render();
        let secret = secret_file::text(&[3; 32]);
        for (from, to) in [
            ("id = 7", "id = 0"),
            ("id = 7", "id = 70000"),
            ("id = 7", "id = 7\nkeys = 5"),
            (secret.as_str(), &secret[1..]),
            (&*format!("\"{}\"", secret.as_str()), &*format!("\"{} ", secret.as_str())),
            ("[server]", "[serv]"),
            ("port = 4711", "port = \"4711\""),
            ("host = \"web-1\"", "host = \"web-1:22\""),
            ("keys = [", "keys = [\"AA\", "),
        ] {
            assert!(good.contains(from), "{from}");
            let _absent = std::fs::remove_file(&path);
            secret_file::create(&path, good.replace(from, to).as_bytes()).unwrap();
            let error = Profile::read(&path).err().unwrap_or_else(|| panic!("{to} was taken")).to_string();
            assert!(error.contains("p.toml: no profile: ") && error.contains("client-config"), "{error}");
            assert!(!error.contains(&secret[1..20]), "{error}");
        }
    }
}
