//! `jpatd keygen` and `jpatd client-config`: the keys of a server, and what its clients must know.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use thiserror::Error;

use crate::{
    client::{Host, profile::Profile, sealed::Claimed},
    config::{Config, SourceBinding, secrets},
    knock::{
        Form,
        sealed::{KeyError, KnockKey, ServerKey},
    },
    secret_file::{self, Secret},
};

/// Which keys to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// A server key, `server.key`, with its public half, `server.pub`.
    pub server: bool,
    /// A knock key with this id, `knock-ID.key`.
    pub knock: Option<u16>,
}

/// Files that were written, and their names for the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keys {
    /// `server.key`
    pub server: Option<PathBuf>,
    /// `server.pub`: base64url text, not secret.
    pub server_public: Option<PathBuf>,
    /// `knock-ID.key`, and its id.
    pub knock: Option<(u16, PathBuf)>,
}

/// Why there are no keys, or no profile.
#[derive(Debug, Error)]
pub enum ProvisionError {
    /// A key of an earlier time is in the way.
    #[error("{} exists already, and keys are never overwritten\n  remedy: name another directory with --out, and list both keys until no client uses the old one", .0.display())]
    Exists(PathBuf),
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The library failed.
    #[error("cannot make a key: {0}")]
    Key(#[from] KeyError),
    /// Nobody can knock sealed here.
    #[error(
        "the configuration has no {0}, so there is nothing to tell a client\n  remedy: `jpatd keygen --out DIR` makes the keys and prints what to add"
    )]
    NotSealed(&'static str),
    /// There is no such key.
    #[error("no [[knock_key]] has the id {id}\n  remedy: use one of {known}")]
    UnknownKnockKey {
        /// What was asked for.
        id: u16,
        /// The ids that there are.
        known: String,
    },
    /// One of several must be chosen.
    #[error("there are several knock keys\n  remedy: say which with --knock-key: {0}")]
    WhichKnockKey(String),
    /// The server id is no host name.
    #[error("the server's id `{0}` is no host name\n  remedy: say with --host how clients reach this host")]
    WhichHost(String),
    /// Key files cannot be read.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Secrets(Vec<crate::config::error::ConfigError>),
}

/// Makes keys in `dir`, all of them or none.
///
/// # Errors
/// [`ProvisionError::Exists`], [`ProvisionError::Write`], [`ProvisionError::Key`].
pub fn keygen(dir: &Path, wanted: Wanted) -> Result<Keys, ProvisionError> {
    let keys = Keys {
        server: wanted.server.then(|| dir.join("server.key")),
        server_public: wanted.server.then(|| dir.join("server.pub")),
        knock: wanted.knock.map(|id| (id, dir.join(format!("knock-{id}.key")))),
    };
    let files =
        [&keys.server, &keys.server_public].into_iter().flatten().chain(keys.knock.iter().map(|(_, path)| path));
    if let Some(path) = files.into_iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(ProvisionError::Exists(path.clone()));
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ProvisionError::Write { path, source }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
    if let (Some(path), Some(public)) = (&keys.server, &keys.server_public) {
        let key = ServerKey::generate()?;
        secret_file::create(path, secret_file::text(&key.secret()).as_bytes()).map_err(failed(path))?;
        let text = URL_SAFE_NO_PAD.encode(key.public()) + "\n";
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(public);
        file.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes())).map_err(failed(public))?;
    }
    if let Some((id, path)) = &keys.knock {
        let key = KnockKey::generate(*id)?;
        secret_file::create(path, secret_file::text(key.secret()).as_bytes()).map_err(failed(path))?;
    }
    Ok(keys)
}

impl Keys {
    /// What to add to the configuration of the host with this name.
    #[must_use]
    pub fn sections(&self, host: &str) -> String {
        let quoted = |path: &Path| toml::Value::String(absolute(path).to_string_lossy().into_owned());
        let mut text = String::new();
        if let Some(path) = &self.server {
            let id = toml::Value::String(host.to_owned());
            text.push_str(&format!("[server]\nid = {id}\nkeys = [{}]\n", quoted(path)));
        }
        if let Some((id, path)) = &self.knock {
            let gap = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}[[knock_key]]\nid = {id}\ngroup = \"clients\"\nfile = {}\n", quoted(path)));
        }
        text
    }
}

/// The profile for clients that hold one of the knock keys. Secret.
///
/// # Errors
/// Where the configuration has no sealed knocks, or does not say which key or host is meant.
pub fn profile(config: &Config, knock_key: Option<u16>, host: Option<Host>) -> Result<Profile, ProvisionError> {
    let server = config.server.as_ref().ok_or(ProvisionError::NotSealed("[server]"))?;
    if !config.issuers.iter().any(|issuer| issuer.accept.contains(&Form::Sealed)) {
        return Err(ProvisionError::NotSealed("issuer that accepts sealed knocks"));
    }
    let secrets = secrets::load(config).map_err(ProvisionError::Secrets)?;
    let known = || secrets.knock_keys.iter().map(|(key, _)| key.id.to_string()).collect::<Vec<_>>().join(", ");
    let key = match (knock_key, secrets.knock_keys.as_slice()) {
        (_, []) => return Err(ProvisionError::NotSealed("[[knock_key]]")),
        (None, [(only, _)]) => only,
        (None, _) => return Err(ProvisionError::WhichKnockKey(known())),
        (Some(id), keys) => match keys.iter().find(|(key, _)| key.id == id) {
            Some((key, _)) => key,
            None => return Err(ProvisionError::UnknownKnockKey { id, known: known() }),
        },
    };
    let host = match host {
        Some(host) => host,
        None => server.id.parse().map_err(|_syntax| ProvisionError::WhichHost(server.id.clone()))?,
    };
    let strict = config.issuers.iter().any(|issuer| issuer.source_binding == SourceBinding::Strict);
    Ok(Profile {
        path: PathBuf::new(),
        host: Some(host),
        port: config.listen.port,
        reply: server.reply,
        token_file: None,
        client_key: None,
        address: strict.then_some(Claimed::Own),
        server_id: server.id.clone(),
        server_keys: secrets.server.iter().flat_map(|server| &server.keys).map(ServerKey::public).collect(),
        knock_key_id: key.id,
        knock_key: Secret::new(*key.secret()),
    })
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const BOTH: Wanted = Wanted { server: true, knock: Some(1) };
    const ISSUER: &str = "[[issuer]]\nname = \"corp\"\nissuer = \"i\"\naudience = [\"a\"]\nalgorithms = [\"ES256\"]\n\
        keys = { jwks_url = \"https://idp.example/jwks\" }\naccept = [\"sealed\"]\n[[service]]\nname = \"web\"\n\
        ports = [\"tcp/8443\"]\nallow = \"true\"\nttl = \"30s\"\n";

    #[test]
    fn p6_keys_are_private_files_that_the_printed_configuration_reads() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("keys");
        let keys = keygen(&out, BOTH).unwrap();
        for (name, mode) in [("server.key", 0o600), ("knock-1.key", 0o600), ("server.pub", 0o644)] {
            assert_eq!(fs::metadata(out.join(name)).unwrap().permissions().mode() & 0o777, mode, "{name}");
        }
        let config = Config::for_tests(&format!("mode = \"audit\"\n{}{ISSUER}", keys.sections("web-1")));
        let profile = profile(&config, None, None).unwrap_or_else(|error| panic!("{error}"));
        let public = fs::read_to_string(out.join("server.pub")).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(profile.server_keys[0]), public.trim());
        assert_eq!(*profile.knock_key, *secret_file::read(&out.join("knock-1.key")).unwrap());
        assert_eq!((profile.server_id.as_str(), profile.port, profile.address), ("web-1", 1337, None));
        // All or nothing: the knock key is there already.
        for name in ["server.key", "server.pub"] {
            fs::remove_file(out.join(name)).unwrap();
        }
        assert!(matches!(keygen(&out, BOTH), Err(ProvisionError::Exists(_))));
        assert!(!out.join("server.key").exists());
    }

    #[test]
    fn p6_old_and_new_keys_serve_side_by_side() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        keygen(&old, BOTH).unwrap();
        keygen(&new, Wanted { server: true, knock: Some(2) }).unwrap();
        let (old, new) = (old.display(), new.display());
        let config = Config::for_tests(&format!(
            "mode = \"audit\"\n[server]\nid = \"web-1\"\nkeys = [\"{new}/server.key\", \"{old}/server.key\"]\n\
             [[knock_key]]\nid = 1\ngroup = \"a\"\nfile = \"{old}/knock-1.key\"\n\
             [[knock_key]]\nid = 2\ngroup = \"b\"\nfile = \"{new}/knock-2.key\"\n{ISSUER}"
        ));
        let secrets = secrets::load(&config).unwrap();
        assert_eq!(secrets.server.unwrap().keys.len(), 2);
        assert_eq!(
            secrets.knock_keys.iter().map(|(key, group)| (key.id, *group)).collect::<Vec<_>>(),
            [(1, 1), (2, 2)]
        );
        assert_eq!(secrets.groups, ["a", "b"]);
        assert!(matches!(profile(&config, None, None), Err(ProvisionError::WhichKnockKey(known)) if known == "1, 2"));
        assert!(matches!(profile(&config, Some(3), None), Err(ProvisionError::UnknownKnockKey { id: 3, .. })));
        let chosen = profile(&config, Some(2), Some("192.0.2.1".parse().unwrap())).unwrap();
        assert_eq!((chosen.knock_key_id, chosen.host.unwrap().as_str()), (2, "192.0.2.1"));
        // A file that changed after the configuration was read is found out at its place.
        fs::write(dir.path().join("new/knock-2.key"), "x").unwrap();
        let errors = secrets::load(&config).err().unwrap();
        assert!(errors[0].0.key == "knock_key[1].file" && errors[0].0.line > 0, "{}", errors[0]);
    }
}
