//! `[server]`, `[[knock_key]]`, and what an issuer says of the forms of knock.

use std::collections::BTreeSet;

use jpat_common::sealed::{BUDGETS, MAX_KNOCK_KEYS};

use super::{Resolver, all};
use crate::{
    config::{Issuer, KnockKeyConfig, ReplayMode, Server, SourceBinding, raw, value},
    knock::Form,
};

/// Keys of one server: the one that is, and those that come or go.
const MAX_SERVER_KEYS: usize = 16;
/// What makes the keys that are missing.
const KEYGEN: &str = "`jpatd keygen --out DIR` makes the keys and prints what to add";

/// What an issuer says of the forms of knock.
pub(super) struct Forms {
    pub(super) accept: Option<BTreeSet<Form>>,
    pub(super) replay: Option<ReplayMode>,
    pub(super) source_binding: Option<SourceBinding>,
}

impl Resolver {
    pub(super) fn server(&mut self, raw: raw::Server) -> Option<Server> {
        let id = self.required("server.id", raw.id, "id = \"…\", a name for this host that its clients know");
        let id = id.and_then(|id| self.good("server.id", value::server_id(&id)).map(|()| id));
        self.not_empty("server.keys", &raw.keys, &format!("keys = [\"server.key\"]: {KEYGEN}"));
        if raw.keys.len() > MAX_SERVER_KEYS {
            let message = format!("{} keys, and {MAX_SERVER_KEYS} at most", raw.keys.len());
            self.error("server.keys", message, "remove those that no client uses any more");
        }
        let files = raw.keys.iter().enumerate();
        let keys = all(files.map(|(at, file)| self.key_file(&format!("server.keys[{at}]"), file)).collect());
        Some(Server { id: id?, keys: keys?, reply: raw.reply })
    }

    pub(super) fn knock_keys(&mut self, raw: Vec<raw::KnockKey>) -> Option<Vec<KnockKeyConfig>> {
        if raw.len() > MAX_KNOCK_KEYS as usize {
            let message = format!("{} keys, and {MAX_KNOCK_KEYS} at most", raw.len());
            self.error("knock_key", message, "let the clients of a group share one");
            return None;
        }
        let (mut seen, mut groups) = (Vec::new(), BTreeSet::new());
        let mut resolved = Vec::new();
        for (at, knock_key) in raw.into_iter().enumerate() {
            let parent = format!("knock_key[{at}]");
            resolved.push(self.knock_key(&parent, knock_key, &mut seen));
            if let Some(Some(key)) = resolved.last()
                && groups.insert(key.group.clone())
                && groups.len() == BUDGETS as usize
            {
                let message = format!("`{}` is one group too many: there are budgets for {}", key.group, BUDGETS - 1);
                self.error(&format!("{parent}.group"), message, "put several into one group");
            }
        }
        all(resolved)
    }

    fn knock_key(&mut self, parent: &str, raw: raw::KnockKey, seen: &mut Vec<(u16, String)>) -> Option<KnockKeyConfig> {
        let key = |name: &str| format!("{parent}.{name}");
        let id = self.required(&key("id"), raw.id, "id = 1, or another number that no [[knock_key]] has");
        let id = id.and_then(|id| self.number::<u16>(&key("id"), id, 1..=65_535));
        if let Some(id) = id {
            match seen.iter().find(|(other, _)| *other == id) {
                Some((_, first)) => {
                    let line = self.source.place(first).0;
                    let message = format!("{id} is already the id of the one in line {line}");
                    self.error(&key("id"), message, "give each key a number of its own: clients name it in each knock");
                }
                None => seen.push((id, key("id"))),
            }
        }
        let group = self.required(&key("group"), raw.group, "group = \"…\", the clients that share it");
        let group = group.and_then(|group| self.good(&key("group"), value::name(&group)).map(|()| group));
        let file = self.required(&key("file"), raw.file, &format!("file = \"knock-1.key\": {KEYGEN}"));
        let file = file.and_then(|file| self.key_file(&key("file"), &file));
        Some(KnockKeyConfig { id: id?, group: group?, file: file? })
    }

    pub(super) fn forms(&mut self, parent: &str, raw: &raw::Issuer) -> Forms {
        let key = |name: &str| format!("{parent}.{name}");
        let accept = self.accept(&key("accept"), &raw.accept);
        let modes = [("bind-source", ReplayMode::BindSource), ("once", ReplayMode::Once), ("proof", ReplayMode::Proof)];
        let replay = self.word(&key("replay"), &raw.replay, &modes);
        let bindings = [("observed", SourceBinding::Observed), ("strict", SourceBinding::Strict)];
        let source_binding = self.word(&key("source_binding"), &raw.source_binding, &bindings);
        if accept.as_ref().is_some_and(|forms| forms.contains(&Form::Bare)) {
            if replay == Some(ReplayMode::Proof) {
                let remedy = "use accept = [\"sealed\"], or replay = \"bind-source\" or \"once\"";
                self.error(&key("replay"), "a bare knock has no place for a client's proof", remedy);
            }
            if source_binding == Some(SourceBinding::Strict) {
                let remedy = "use accept = [\"sealed\"], or source_binding = \"observed\"";
                self.error(&key("source_binding"), "a bare knock has no place for the client's address", remedy);
            }
            self.warn_of_bare(&key("accept"), replay);
        }
        Forms { accept, replay, source_binding }
    }

    fn accept(&mut self, key: &str, raw: &[String]) -> Option<BTreeSet<Form>> {
        self.not_empty(key, raw, "accept = [\"sealed\"]");
        let words = [("sealed", Form::Sealed), ("bare", Form::Bare)];
        let forms = raw.iter().enumerate().map(|(at, text)| self.word(&format!("{key}[{at}]"), text, &words));
        Some(all(forms.collect())?.into_iter().collect())
    }

    fn warn_of_bare(&mut self, key: &str, replay: Option<ReplayMode>) {
        let message = match replay {
            Some(ReplayMode::Once) => {
                "bare knocks carry the token in the clear: whoever holds the packet back can use the token first"
            }
            Some(ReplayMode::BindSource | ReplayMode::Proof) | None => {
                "bare knocks carry the token in the clear: whoever sees the packet can use the token until it is spent or bound"
            }
        };
        let remedy = match replay {
            Some(ReplayMode::Once) => {
                "use accept = [\"sealed\"] where clients can have a profile (`jpatd client-config`)"
            }
            Some(ReplayMode::BindSource | ReplayMode::Proof) | None => {
                "use accept = [\"sealed\"]; or keep tokens short-lived, and replay = \"once\" where the issuer gives each a `jti`"
            }
        };
        self.warn(key, message, remedy);
    }

    /// Sealed knocks need a server and a knock key; a server without them has nothing to open.
    pub(super) fn sealed_needs(&mut self, issuers: Option<&[Issuer]>, has_server: bool, has_knock_keys: bool) {
        let Some(issuers) = issuers else { return };
        let Some(at) = issuers.iter().position(|issuer| issuer.accept.contains(&Form::Sealed)) else {
            for (there, key) in [(has_server, "server"), (has_knock_keys, "knock_key")] {
                if there {
                    let remedy = "add \"sealed\" to `accept` of an issuer";
                    self.warn(key, "no issuer accepts sealed knocks: nobody needs it", remedy);
                }
            }
            return;
        };
        for (there, key, what) in
            [(has_server, "server", "a [server]"), (has_knock_keys, "knock_key", "a [[knock_key]]")]
        {
            if !there && !self.blamed.contains(key) {
                self.error(&format!("issuer[{at}].accept"), format!("sealed knocks need {what}"), KEYGEN);
            }
        }
    }
}
