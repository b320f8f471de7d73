//! Which tokens were used, and from where. Bounded: full refuses new tokens, nothing is forgotten before its time.
//!
//! What a bare knock or a `once` token bound stays bound until `exp`. What a sealed knock bound is free again when the
//! token's last lease has ended, because nobody can send that knock a second time.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::{clock_offset::ClockOffset, since::Since};
use crate::{
    clock::{BootTime, Now, UnixTime},
    config::ReplayMode,
    knock::Form,
    refusal::Refusal,
    store::replay::{StoredLease, TokenPlace, TokenRecord},
    table::{self, Table},
    token::{KeptToken, TokenId, VerifiedToken},
};

/// The memory of uses, by token id and so never by signature.
#[derive(Debug)]
pub(super) struct Replay {
    uses: Table<Arc<TokenId>, Use>,
    by_expiry: BTreeMap<TokenPlace, Arc<TokenId>>,
    next_number: u64,
    capacity: usize,
    /// `once` tokens issued before may have been used while this memory did not exist yet.
    since: Since,
    /// Set where a memory was lost that this one follows: bare tokens issued before may have been bound elsewhere.
    lost: Option<UnixTime>,
    /// Latest `exp` of a token that was forgotten. After the clock was set back, a token up to here may be valid again,
    /// and whether it was used is not known.
    forgotten: UnixTime,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Use {
    place: TokenPlace,
    /// The clock that read `exp`: later readings never make it later.
    offset: ClockOffset,
    until_exp: bool,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

/// A use that may be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Permit {
    /// `exp` in boot time.
    pub(super) end: BootTime,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// What it opens ends as late as it may.
    Fresh,
    /// A `once` token whose grant lives, again: it ends no later than that. From the same source nothing is to be done.
    Repeat { is_same_source: bool },
}

/// A knock, as far as it matters here.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) token: &'a VerifiedToken,
    pub(super) mode: ReplayMode,
    pub(super) form: Form,
    pub(super) source: IpAddr,
    /// Whether the token has a lease, from wherever.
    pub(super) has_lease: bool,
}

/// What a claim changed.
#[derive(Debug)]
pub(super) struct Claimed {
    id: Arc<TokenId>,
    before: Option<Use>,
    after: Use,
}

impl Claimed {
    /// Which token.
    pub(super) const fn id(&self) -> &Arc<TokenId> {
        &self.id
    }

    /// Where the store was told to keep it.
    pub(super) const fn place(&self) -> TokenPlace {
        self.after.place
    }

    /// What the store has to know from now on.
    pub(super) fn record(&self, token: &Arc<KeptToken>, leases: Vec<StoredLease>) -> TokenRecord {
        let left = self.before.map(|before| before.place).filter(|place| *place != self.after.place);
        TokenRecord { left, ..self.after.record(&self.id, Some(Arc::clone(token)), leases) }
    }
}

impl Use {
    fn record(&self, id: &Arc<TokenId>, token: Option<Arc<KeptToken>>, leases: Vec<StoredLease>) -> TokenRecord {
        let Self { place, offset, until_exp, v4, v6 } = *self;
        TokenRecord {
            place,
            left: None,
            id: Arc::clone(id),
            offset_ns: offset.nanos(),
            until_exp,
            v4,
            v6,
            token,
            leases,
        }
    }
}

impl Replay {
    pub(super) fn new(
        capacity: u32,
        since: Since,
        lost: Option<UnixTime>,
        forgotten: UnixTime,
        tokens: &[TokenRecord],
    ) -> Self {
        let mut replay = Self {
            uses: table::large(),
            by_expiry: BTreeMap::new(),
            next_number: 0,
            capacity: capacity as usize,
            since,
            lost,
            forgotten,
        };
        for TokenRecord { place, id, offset_ns, until_exp, v4, v6, .. } in tokens {
            let offset = ClockOffset::from_nanos(*offset_ns);
            let mut used = Use { place: *place, offset, until_exp: *until_exp, v4: *v4, v6: *v6 };
            // Two tokens of one id: what either bound is bound.
            if let Some(other) = replay.uses.get(id) {
                used.place = used.place.max(other.place);
                used.offset = used.offset.max(other.offset);
                used.until_exp |= other.until_exp;
                used.v4 = used.v4.or(other.v4);
                used.v6 = used.v6.or(other.v6);
            }
            replay.set(Arc::clone(id), Some(used));
        }
        replay
    }

    /// No token was given this number yet, nor a greater one.
    pub(super) const fn numbered_from(mut self, number: u64) -> Self {
        self.next_number = number;
        self
    }

    pub(super) const fn set_capacity(&mut self, capacity: u32) {
        self.capacity = capacity as usize;
    }

    /// Whether the token may be used, and until when in boot time. Claims nothing: see [`Self::claim`].
    ///
    /// Every repeat of a bare `once` token is [`Refusal::Replayed`]; only a sealed repeat can be told from a replay.
    pub(super) fn check(&mut self, attempt: Attempt<'_>, now: Now) -> Result<Permit, Refusal> {
        let Attempt { token, mode, source, has_lease, .. } = attempt;
        self.forget_expired(now.unix);
        if token.expires() <= now.unix.max(self.forgotten) {
            return Err(Refusal::Expired);
        }
        let known = self.uses.get(token.id());
        let bound = known.filter(|used| used.until_exp || has_lease);
        let kind = match mode {
            ReplayMode::Once => self.check_once(attempt, bound, now)?,
            ReplayMode::BindSource => {
                check_source(bound, source)?;
                self.check_date(attempt, known)?;
                Kind::Fresh
            }
            ReplayMode::Proof => Kind::Fresh,
        };
        if known.is_none() && self.uses.len() >= self.capacity {
            return Err(Refusal::ReplayFull);
        }
        let offset = ClockOffset::of(now);
        Ok(Permit { end: bound.map_or(offset, |used| used.offset.max(offset)).boot_at(token.expires()), kind })
    }

    /// Of a bare token that whoever saw it can send nothing may be unknown.
    fn check_date(&self, attempt: Attempt<'_>, known: Option<&Use>) -> Result<(), Refusal> {
        let is_old = |lost| attempt.token.issued_at().is_none_or(|iat| iat < lost);
        match self.lost {
            Some(lost) if attempt.form == Form::Bare && known.is_none() && is_old(lost) => Err(Refusal::BeforeStart),
            Some(_) | None => Ok(()),
        }
    }

    fn check_once(&self, attempt: Attempt<'_>, bound: Option<&Use>, now: Now) -> Result<Kind, Refusal> {
        let Attempt { token, form, source, has_lease, .. } = attempt;
        if let TokenId::Digest(_) = **token.id() {
            return Err(Refusal::NoTokenId);
        }
        match bound {
            Some(used) if form == Form::Sealed && has_lease && check_source(Some(used), source).is_ok() => {
                let is_same_source = match source.to_canonical() {
                    IpAddr::V4(_) => used.v4.is_some(),
                    IpAddr::V6(_) => used.v6.is_some(),
                };
                Ok(Kind::Repeat { is_same_source })
            }
            Some(_) => Err(Refusal::Replayed),
            None if token.issued_at().is_none_or(|iat| self.since.is_before(iat, now)) => Err(Refusal::BeforeStart),
            None => Ok(Kind::Fresh),
        }
    }

    /// Records a use that [`Self::check`] allowed at this very `now`.
    pub(super) fn claim(&mut self, attempt: Attempt<'_>, now: Now) -> Claimed {
        let Attempt { token, mode, form, source, has_lease } = attempt;
        let offset = ClockOffset::of(now);
        let id = Arc::clone(token.id());
        let before = self.uses.get(&id).copied();
        let place = match before {
            Some(Use { place, .. }) => TokenPlace { expires: place.expires.max(token.expires()), ..place },
            None => {
                self.next_number += 1;
                TokenPlace { expires: token.expires(), number: self.next_number - 1 }
            }
        };
        let fresh = Use { place, offset, until_exp: false, v4: None, v6: None };
        let mut used = before.filter(|used| used.until_exp || has_lease).unwrap_or(fresh);
        used.place = place;
        used.offset = used.offset.max(offset);
        used.until_exp |= match (mode, form) {
            (ReplayMode::Once, _) | (_, Form::Bare) => true,
            (ReplayMode::BindSource | ReplayMode::Proof, Form::Sealed) => false,
        };
        if mode != ReplayMode::Proof {
            match source.to_canonical() {
                IpAddr::V4(v4) => used.v4 = Some(v4),
                IpAddr::V6(v6) => used.v6 = Some(v6),
            }
        }
        self.set(Arc::clone(&id), Some(used));
        Claimed { id, before, after: used }
    }

    /// Takes a claim back that came to nothing, unless there was another since.
    pub(super) fn undo(&mut self, claimed: &Claimed) {
        if self.uses.get(&claimed.id) == Some(&claimed.after) {
            self.set(Arc::clone(&claimed.id), claimed.before);
        }
    }

    /// What was claimed opened something. A lease that ended meanwhile may have taken the use with it.
    pub(super) fn confirm(&mut self, claimed: &Claimed) {
        if !self.uses.contains_key(&claimed.id) {
            self.set(Arc::clone(&claimed.id), Some(claimed.after));
        }
    }

    /// The token's last lease has ended.
    pub(super) fn release(&mut self, id: &TokenId) {
        if let Some((id, used)) = self.uses.get_key_value(id)
            && !used.until_exp
        {
            self.set(Arc::clone(id), None);
        }
    }

    /// Whether tokens that end then may have been forgotten.
    pub(super) fn is_forgotten(&self, expires: UnixTime) -> bool {
        expires <= self.forgotten
    }

    /// Where the store keeps what it knows of a token.
    pub(super) fn place(&self, id: &TokenId) -> Option<TokenPlace> {
        self.uses.get(id).map(|used| used.place)
    }

    /// What the store has to know of a token, if anything binds it.
    pub(super) fn record(
        &self,
        id: &Arc<TokenId>,
        token: Option<Arc<KeptToken>>,
        leases: Vec<StoredLease>,
    ) -> Option<TokenRecord> {
        self.uses.get(id).map(|used| used.record(id, token, leases))
    }

    fn set(&mut self, id: Arc<TokenId>, used: Option<Use>) {
        let old = match used {
            Some(used) => {
                self.by_expiry.insert(used.place, Arc::clone(&id));
                self.uses.insert(id, used)
            }
            None => self.uses.remove(&id),
        };
        if let Some(old) = old.filter(|old| used.is_none_or(|used| used.place != old.place)) {
            self.by_expiry.remove(&old.place);
        }
    }

    fn forget_expired(&mut self, now: UnixTime) {
        while let Some(first) = self.by_expiry.first_entry().filter(|first| first.key().expires <= now) {
            let (place, id) = first.remove_entry();
            self.forgotten = self.forgotten.max(place.expires);
            self.uses.remove(&id);
        }
    }
}

/// One IPv4 and one IPv6 source may hold a token.
fn check_source(bound: Option<&Use>, source: IpAddr) -> Result<(), Refusal> {
    let is_bound_elsewhere = match source.to_canonical() {
        IpAddr::V4(v4) => bound.and_then(|used| used.v4).is_some_and(|bound| bound != v4),
        IpAddr::V6(v6) => bound.and_then(|used| used.v6).is_some_and(|bound| bound != v6),
    };
    if is_bound_elsewhere { Err(Refusal::OtherSource) } else { Ok(()) }
}
