//! Which tokens were used, and from where. Bounded: full refuses new tokens, nothing is forgotten before its `exp`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::clock_offset::ClockOffset;
use crate::{
    clock::{BootTime, Now, UnixTime},
    config::ReplayMode,
    refusal::Refusal,
    token::{TokenId, VerifiedToken},
};

/// The memory of uses, by token id and so never by signature.
#[derive(Debug)]
pub(super) struct Replay {
    uses: BTreeMap<Arc<TokenId>, Use>,
    by_expiry: BTreeSet<(UnixTime, Arc<TokenId>)>,
    capacity: usize,
    /// `once` tokens issued before may have been used while this memory did not exist yet.
    once_since: UnixTime,
    /// Latest `exp` of a token that was forgotten. After the clock was set back, a token up to here may be valid again,
    /// and whether it was used is not known.
    forgotten: UnixTime,
}

#[derive(Clone, Copy, Debug)]
struct Use {
    expires: UnixTime,
    /// The clock that read `exp`: later readings never make it later.
    offset: ClockOffset,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl Replay {
    pub(super) const fn new(capacity: u32, once_since: UnixTime) -> Self {
        Self {
            uses: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
            capacity: capacity as usize,
            once_since,
            forgotten: UnixTime(0),
        }
    }

    pub(super) const fn set_capacity(&mut self, capacity: u32) {
        self.capacity = capacity as usize;
    }

    /// Whether the token may be used from `source`, and until when in boot time. Claims nothing: see [`Self::claim`].
    ///
    /// Every repeat of a bare `once` token is [`Refusal::Replayed`]; only a sealed repeat can be told from a replay.
    pub(super) fn check(
        &mut self,
        token: &VerifiedToken,
        mode: ReplayMode,
        source: IpAddr,
        now: Now,
    ) -> Result<BootTime, Refusal> {
        self.forget_expired(now.unix);
        if token.expires() <= now.unix.max(self.forgotten) {
            return Err(Refusal::Expired);
        }
        let known = self.uses.get(token.id());
        match mode {
            ReplayMode::Once => self.check_once(token, known)?,
            ReplayMode::Proof | ReplayMode::BindSource => check_source(known, source)?,
        }
        if known.is_none() && self.uses.len() >= self.capacity {
            return Err(Refusal::ReplayFull);
        }
        let offset = ClockOffset::of(now);
        Ok(known.map_or(offset, |used| used.offset.max(offset)).boot_at(token.expires()))
    }

    fn check_once(&self, token: &VerifiedToken, known: Option<&Use>) -> Result<(), Refusal> {
        match token.id() {
            TokenId::Digest(_) => Err(Refusal::NoTokenId),
            TokenId::Jti(..) if known.is_some() => Err(Refusal::Replayed),
            TokenId::Jti(..) if token.issued_at().is_none_or(|iat| iat < self.once_since) => Err(Refusal::BeforeStart),
            TokenId::Jti(..) => Ok(()),
        }
    }

    /// Records a use that [`Self::check`] allowed at this very `now`.
    pub(super) fn claim(&mut self, token: &VerifiedToken, source: IpAddr, now: Now) {
        let offset = ClockOffset::of(now);
        let id = Arc::new(token.id().clone());
        let fresh = Use { expires: token.expires(), offset, v4: None, v6: None };
        let mut used = self.uses.get(&id).copied().unwrap_or(fresh);
        self.by_expiry.remove(&(used.expires, Arc::clone(&id)));
        used.expires = used.expires.max(token.expires());
        used.offset = used.offset.max(offset);
        match source.to_canonical() {
            IpAddr::V4(v4) => used.v4 = Some(v4),
            IpAddr::V6(v6) => used.v6 = Some(v6),
        }
        self.by_expiry.insert((used.expires, Arc::clone(&id)));
        self.uses.insert(id, used);
    }

    fn forget_expired(&mut self, now: UnixTime) {
        while let Some((expires, id)) = self.by_expiry.pop_first() {
            if expires > now {
                self.by_expiry.insert((expires, id));
                break;
            }
            self.forgotten = self.forgotten.max(expires);
            self.uses.remove(&id);
        }
    }
}

/// One IPv4 and one IPv6 source may hold a token.
fn check_source(known: Option<&Use>, source: IpAddr) -> Result<(), Refusal> {
    let is_bound_elsewhere = match source.to_canonical() {
        IpAddr::V4(v4) => known.and_then(|used| used.v4).is_some_and(|bound| bound != v4),
        IpAddr::V6(v6) => known.and_then(|used| used.v6).is_some_and(|bound| bound != v6),
    };
    if is_bound_elsewhere { Err(Refusal::OtherSource) } else { Ok(()) }
}
