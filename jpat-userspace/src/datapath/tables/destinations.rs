//! Whose packets are judged: single addresses in a table of buckets; prefixes, and the few addresses whose bucket is
//! full, in a trie that the program asks only where a flag says so.

use std::{collections::BTreeSet, net::IpAddr};

use aya::maps::Array;
use ipnet::IpNet;
use jpat_common::{
    addr::Addr,
    hosts::{BUCKETS, Bucket, bucket_index},
    map_name, settings,
};

use super::{DataPathError, Tables, key};

/// Judged destinations, by kind.
pub(super) struct Judged {
    hosts: BTreeSet<Addr>,
    prefixes: BTreeSet<IpNet>,
}

impl Judged {
    pub(super) fn of(destinations: &BTreeSet<IpNet>) -> Self {
        let (hosts, prefixes): (Vec<_>, Vec<_>) = destinations.iter().partition(|net| is_host(net));
        Self {
            hosts: hosts.into_iter().map(|net| key(net).data()).collect(),
            prefixes: prefixes.into_iter().map(IpNet::trunc).collect(),
        }
    }

    fn contains(&self, net: &IpNet) -> bool {
        if is_host(net) { self.hosts.contains(&key(net).data()) } else { self.prefixes.contains(net) }
    }
}

impl Tables {
    /// Makes the judged destinations exactly these.
    ///
    /// # Errors
    /// The kernel's refusal; additions came first, unless there was no room for them beside the old ones.
    pub fn write_destinations(&mut self, destinations: &BTreeSet<IpNet>) -> Result<(), DataPathError> {
        let judged = Judged::of(destinations);
        if self.add_judged(&judged).is_ok() {
            return self.retain_judged(&judged);
        }
        self.retain_judged(&judged)?;
        self.add_judged(&judged)
    }

    /// Adds what is not judged yet.
    pub(super) fn add_judged(&mut self, judged: &Judged) -> Result<(), DataPathError> {
        let mut full = Vec::new();
        let mut table: Array<_, Bucket> =
            Array::try_from(self.map_mut(map_name::HOSTS)?).map_err(DataPathError::map(map_name::HOSTS))?;
        for host in &judged.hosts {
            let index = bucket_index(host);
            let mut bucket = table.get(&index, 0).map_err(DataPathError::map(map_name::HOSTS))?;
            if bucket.contains(host) {
                continue;
            }
            if bucket.insert(host) {
                table.set(index, bucket, 0).map_err(DataPathError::map(map_name::HOSTS))?;
            } else {
                full.push(IpNet::from(IpAddr::from(*host).to_canonical()));
            }
        }
        let held = self.prefixes(map_name::DESTINATIONS)?;
        // A full trie of Linux before 6.13 refuses also what it holds.
        let added = judged.prefixes.iter().copied().chain(full).filter(|net| !held.contains(net)).collect();
        self.add_prefixes(map_name::DESTINATIONS, &added)?;
        if added.is_empty() { Ok(()) } else { self.set_flag(settings::FLAG_PREFIX_DESTINATIONS, true) }
    }

    /// Removes what is not judged any more.
    pub(super) fn retain_judged(&mut self, judged: &Judged) -> Result<(), DataPathError> {
        let mut table: Array<_, Bucket> =
            Array::try_from(self.map_mut(map_name::HOSTS)?).map_err(DataPathError::map(map_name::HOSTS))?;
        for index in 0..BUCKETS {
            let held = table.get(&index, 0).map_err(DataPathError::map(map_name::HOSTS))?;
            let mut kept = held;
            kept.retain(|host| judged.hosts.contains(host));
            if kept != held {
                table.set(index, kept, 0).map_err(DataPathError::map(map_name::HOSTS))?;
            }
        }
        let prefixes = self.prefixes(map_name::DESTINATIONS)?;
        let kept: BTreeSet<_> = prefixes.into_iter().filter(|net| judged.contains(net)).collect();
        self.retain_prefixes(map_name::DESTINATIONS, &kept)?;
        self.set_flag(settings::FLAG_PREFIX_DESTINATIONS, !kept.is_empty())
    }

    /// Whether the program has to ask the trie.
    pub(super) fn has_prefix_destinations(&self) -> Result<bool, DataPathError> {
        Ok(!self.prefixes(map_name::DESTINATIONS)?.is_empty())
    }

    fn set_flag(&mut self, flag: u32, is_set: bool) -> Result<(), DataPathError> {
        let mut settings = self.settings()?;
        let flags = if is_set { settings.flags | flag } else { settings.flags & !flag };
        if flags == settings.flags {
            return Ok(());
        }
        settings.flags = flags;
        self.write_settings(&settings)
    }
}

fn is_host(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}
