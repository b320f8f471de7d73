//! Which leases a token has, and a principal; and from how many sources.
//!
//! Most have one lease, and for that a sorted vector takes a fraction of the room of a tree.

use std::sync::Arc;

use jpat_common::addr::Addr;

use super::{
    grants::LeaseId,
    lease::{Holder, Lease},
};
use crate::{
    table::{self, Table},
    token::{Principal, TokenId},
};

#[derive(Debug)]
pub(super) struct Holders {
    by_token: Table<Arc<TokenId>, Vec<LeaseId>>,
    by_principal: Table<Arc<Principal>, Held>,
}

/// What a principal has.
#[derive(Default, Debug)]
struct Held {
    /// Ascending.
    leases: Vec<LeaseId>,
    /// Source prefixes, ascending, and how many leases each has.
    sources: Vec<(Addr, usize)>,
}

impl Holders {
    pub(super) fn new() -> Self {
        Self { by_token: table::large(), by_principal: table::large() }
    }

    /// A lease that is newer than all others.
    pub(super) fn add(&mut self, id: LeaseId, lease: &Lease) {
        if let Holder::Token(principal, token) = &*lease.holder {
            push(self.by_token.entry(Arc::clone(token)).or_default(), id);
            let held = self.by_principal.entry(Arc::clone(principal)).or_default();
            push(&mut held.leases, id);
            match held.find(lease.key.source()) {
                Ok(at) => held.sources[at].1 += 1,
                Err(at) => {
                    held.sources.reserve_exact(usize::from(held.sources.is_empty()));
                    held.sources.insert(at, (*lease.key.source(), 1));
                }
            }
        }
    }

    pub(super) fn remove(&mut self, id: LeaseId, lease: &Lease) {
        let Holder::Token(principal, token) = &*lease.holder else { return };
        if let Some(leases) = self.by_token.get_mut(token) {
            take(leases, id);
            if leases.is_empty() {
                self.by_token.remove(token);
            }
        }
        if let Some(held) = self.by_principal.get_mut(principal) {
            take(&mut held.leases, id);
            if let Ok(at) = held.find(lease.key.source()) {
                held.sources[at].1 -= 1;
                if held.sources[at].1 == 0 {
                    held.sources.remove(at);
                }
            }
            if held.leases.is_empty() {
                self.by_principal.remove(principal);
            }
        }
    }

    pub(super) fn of_token(&self, token: &TokenId) -> &[LeaseId] {
        self.by_token.get(token).map_or(&[], Vec::as_slice)
    }

    pub(super) fn of_principal(&self, principal: &Principal) -> &[LeaseId] {
        self.by_principal.get(principal).map_or(&[], |held| &held.leases)
    }

    /// Whether a principal would have at most `most` sources with these.
    pub(super) fn has_room(&self, principal: &Principal, sources: impl Iterator<Item = Addr>, most: usize) -> bool {
        let held = self.by_principal.get(principal);
        let mut new = sources.filter(|source| held.is_none_or(|held| held.find(source).is_err()));
        let Some(first) = new.next() else { return true };
        let mut others: Vec<_> = new.filter(|source| *source != first).collect();
        others.sort_unstable();
        others.dedup();
        held.map_or(0, |held| held.sources.len()) + 1 + others.len() <= most
    }
}

impl Held {
    fn find(&self, source: &Addr) -> Result<usize, usize> {
        self.sources.binary_search_by(|(other, _)| other.cmp(source))
    }
}

fn push(leases: &mut Vec<LeaseId>, id: LeaseId) {
    leases.reserve_exact(usize::from(leases.is_empty()));
    leases.push(id);
}

fn take(leases: &mut Vec<LeaseId>, id: LeaseId) {
    if let Ok(at) = leases.binary_search(&id) {
        leases.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_new_source_counts_once() {
        let principal = Principal { issuer: "corp".into(), subject: "alice".to_owned() };
        let held = Held { leases: vec![1], sources: vec![([1; 16], 1)] };
        let mut holders = Holders::new();
        let has_room = |holders: &Holders, new: &[u8], most| {
            holders.has_room(&principal, new.iter().map(|byte| [*byte; 16]), most)
        };
        for (new, count) in [(&[][..], 0), (&[2], 1), (&[2, 2], 1), (&[2, 3, 2, 3, 3], 2), (&[4, 3, 3, 2, 2, 3], 3)] {
            assert!(has_room(&holders, new, count) && (count == 0 || !has_room(&holders, new, count - 1)), "{new:?}");
        }
        holders.by_principal.insert(Arc::new(principal.clone()), held);
        for (new, count) in [(&[1, 1][..], 1), (&[1, 2], 2), (&[3, 1, 2, 3], 3)] {
            assert!(has_room(&holders, new, count) && (count == 1 || !has_room(&holders, new, count - 1)), "{new:?}");
        }
        assert!(has_room(&holders, &[1], 0), "what it has it may have again");
    }
}
