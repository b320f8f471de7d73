//! `[listen]` and `[always_allow]`.

use ipnet::IpNet;

use super::{Resolver, all};
use crate::config::{AttachMode, Destinations, Listen, raw, value};

/// Prefixes shorter than this are no break-glass any more.
const WIDE_V4: u8 = 8;
const WIDE_V6: u8 = 16;

impl Resolver {
    pub(super) fn listen(&mut self, raw: raw::Listen) -> Option<Listen> {
        self.not_empty("listen.interfaces", &raw.interfaces, "interfaces = [\"external\"]");
        let interfaces = raw.interfaces.iter().enumerate();
        let interfaces =
            interfaces.map(|(at, text)| self.good(&format!("listen.interfaces[{at}]"), value::interface(text)));
        let interfaces = all(interfaces.collect());
        let modes = [("auto", AttachMode::Auto), ("driver", AttachMode::Driver), ("generic", AttachMode::Generic)];
        let attach = self.word("listen.attach", &raw.attach, &modes);
        let port = self.number("listen.port", raw.port, 1..=65_535);
        let destinations = self.destinations(raw.destinations);
        let drop_tunnels = self.word("listen.tunnels", &raw.tunnels, &[("pass", false), ("drop", true)]);
        Some(Listen {
            interfaces: interfaces?,
            attach: attach?,
            port: port?,
            destinations: destinations?,
            drop_tunnels: drop_tunnels?,
        })
    }

    fn destinations(&mut self, raw: raw::Destinations) -> Option<Destinations> {
        let key = "listen.destinations";
        match raw {
            raw::Destinations::Word(word) => {
                let words = [("local", true), ("any", false)];
                let local = self.word(key, &word, &words)?;
                Some(if local { Destinations::Local } else { Destinations::Any })
            }
            raw::Destinations::Prefixes(prefixes) => {
                self.not_empty(key, &prefixes, "prefixes, or write \"local\" or \"any\"");
                self.prefixes(key, &prefixes).map(Destinations::Prefixes)
            }
        }
    }

    pub(super) fn always_allow(&mut self, sources: &[String]) -> Option<Vec<IpNet>> {
        let key = "always_allow.sources";
        let mut wide = false;
        for (at, text) in sources.iter().enumerate() {
            let Ok(net) = text.parse::<IpNet>() else { continue };
            let at = format!("{key}[{at}]");
            let limit = if net.addr().is_ipv4() { WIDE_V4 } else { WIDE_V6 };
            if net.prefix_len() == 0 {
                wide = true;
                self.error(&at, format!("`{text}` switches the firewall off"), "list the networks you administer from");
            } else if net.prefix_len() < limit {
                self.warn(&at, format!("`{text}` lets a large part of the internet in without a token"), "list less");
            }
        }
        if wide {
            return None;
        }
        self.prefixes(key, sources)
    }

    fn prefixes(&mut self, key: &str, texts: &[String]) -> Option<Vec<IpNet>> {
        let texts = texts.iter().enumerate();
        all(texts.map(|(at, text)| self.good(&format!("{key}[{at}]"), value::prefix(text))).collect())
    }
}
