//! The pure worker step: a knock and a snapshot in, an outcome out. No clock, no I/O; runs on any thread.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::{Now, UnixTime},
    config::{Issuer, PrefixWidths, ReplayMode, SourceBinding},
    knock::{
        Body, Form, Knock,
        sealed::{self, Opened, ReplyTicket, Verb},
    },
    refusal::Refusal,
    snapshot::Snapshot,
    token::{self, Presented, Principal, TokenId, VerifiedToken},
};

/// What a verification found.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The token is good and at least one service's policy allows it.
    Allowed(Allowed),
    /// It opens nothing.
    Denied(Denied),
}

/// A good token and what it may open.
#[derive(Clone, Debug)]
pub struct Allowed {
    /// The witness.
    pub token: Arc<VerifiedToken>,
    /// How its issuer treats a second use.
    pub replay: ReplayMode,
    /// Services that it opens, in the order of the configuration; never empty but for a knock that closes.
    pub openings: Vec<Opening>,
}

/// One service that a token opens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opening {
    /// The data path's number of the service.
    pub service: jpat_common::grant::ServiceId,
    /// Its name.
    pub name: Arc<str>,
    /// Life of the grant unless `exp` comes first.
    pub ttl: Duration,
    /// Width of the address.
    pub prefix: PrefixWidths,
}

impl Outcome {
    /// Whether the token's signature verified.
    #[must_use]
    pub const fn is_verified(&self) -> bool {
        match self {
            Self::Allowed(_) => true,
            Self::Denied(denied) => denied.who.is_some(),
        }
    }
}

/// Why a knock opens nothing, and of whom that is known.
#[derive(Clone, Debug)]
pub struct Denied {
    /// The reason.
    pub refusal: Refusal,
    /// Configured name of the issuer that the token names, signature verified or not.
    pub issuer: Option<Arc<str>>,
    /// Set once the signature verified.
    pub who: Option<Who>,
    /// Name of the rule that decided (a `[[deny]]` rule's name), where one did.
    pub rule: Option<String>,
}

/// Identity of a token whose signature verified but that was refused all the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Who {
    /// Issuer and subject.
    pub principal: Arc<Principal>,
    /// Token id.
    pub token: Arc<TokenId>,
}

impl Who {
    /// Whose a token is.
    #[must_use]
    pub fn of(token: &VerifiedToken) -> Self {
        Self { principal: Arc::clone(token.principal()), token: Arc::clone(token.id()) }
    }
}

/// A knock on its way to a worker and back.
#[derive(Clone, Debug)]
pub struct Job {
    /// Number given by the gate.
    pub id: u64,
    /// What to verify.
    pub knock: Knock,
}

/// Hears of every check, in order, up to the first refusal. `explain` keeps them; a worker uses [`NoRecord`].
pub trait Record {
    /// One check was made. `detail` says what was compared, empty where the refusal's own text says all; nobody who does not
    /// listen calls it.
    fn check(&mut self, name: &'static str, result: Result<(), Refusal>, detail: impl FnOnce() -> String);

    /// Reports a check and hands its result on. `detail` sees the value, if there is one.
    ///
    /// # Errors
    /// The refusal that `result` holds.
    fn step<T>(
        &mut self,
        name: &'static str,
        result: Result<T, Refusal>,
        detail: impl FnOnce(Option<&T>) -> String,
    ) -> Result<T, Refusal> {
        self.check(name, result.as_ref().map(|_| ()).map_err(|refusal| *refusal), || detail(result.as_ref().ok()));
        result
    }
}

/// Keeps nothing.
#[derive(Clone, Copy, Default, Debug)]
pub struct NoRecord;

impl Record for NoRecord {
    fn check(&mut self, _name: &'static str, _result: Result<(), Refusal>, _detail: impl FnOnce() -> String) {}
}

/// A knock as far as its sender may be answered.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What the knock opens, or why it does not.
    pub outcome: Outcome,
    /// Set for a sealed knock that opened.
    pub sealed: Option<Box<Sealed>>,
}

impl From<Outcome> for Judged {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, sealed: None }
    }
}

/// What a sealed knock says besides its token.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// For the reply, where replies are wanted.
    pub ticket: Option<ReplyTicket>,
    /// Random, once for each datagram.
    pub nonce: [u8; 16],
    /// The sender's clock.
    pub time: UnixTime,
    /// What it asks for.
    pub verb: Verb,
    /// The services that it names.
    pub wanted: Option<Vec<String>>,
    /// Whether token and proof held, so that whatever comes of it may be told to the sender.
    pub accepted: bool,
}

/// How far the clock of a sealed knock's sender may be from this host's.
pub const CLOCK_WINDOW: Duration = Duration::from_secs(30);

/// Opens a knock, verifies its token and asks the policy what it opens.
#[must_use]
pub fn judge(knock: &Knock, snapshot: &Snapshot, now: Now, record: &mut impl Record) -> Judged {
    match &knock.body {
        Body::Bare(token) => bare(token, knock, snapshot, now, record).into(),
        Body::Sealed(datagram) => {
            // Without a server no knock key is in the filter, and nothing sealed comes this far.
            let opened = snapshot.server.as_ref().ok_or(Refusal::UnknownServerKey);
            match opened.and_then(|server| sealed::open(datagram, knock.source, server)) {
                Ok(opened) => unsealed(opened, knock, snapshot, now, record),
                Err(refusal) => Outcome::Denied(Denied { refusal, issuer: None, who: None, rule: None }).into(),
            }
        }
    }
}

/// As [`judge`], without what a reply needs.
#[must_use]
pub fn verify(knock: &Knock, snapshot: &Snapshot, now: Now, record: &mut impl Record) -> Outcome {
    judge(knock, snapshot, now, record).outcome
}

fn bare(token: &str, knock: &Knock, snapshot: &Snapshot, now: Now, record: &mut impl Record) -> Outcome {
    let (token, issuer) = match token::verify(token, Form::Bare, &snapshot.config, &snapshot.keys, now, record) {
        Ok(verified) => verified,
        Err(denied) => return Outcome::Denied(denied),
    };
    match snapshot.policy.evaluate(&token, knock.source, Form::Bare, now) {
        Ok(openings) => Outcome::Allowed(Allowed { token: Arc::new(token), replay: issuer.replay, openings }),
        Err(denied) => Outcome::Denied(denied),
    }
}

fn unsealed(opened: Opened, knock: &Knock, snapshot: &Snapshot, now: Now, record: &mut impl Record) -> Judged {
    let Opened { inner, ticket } = opened;
    let wants_reply = snapshot.config.server.as_ref().is_some_and(|server| server.reply);
    let mut sealed = Box::new(Sealed {
        ticket: wants_reply.then_some(ticket),
        nonce: inner.nonce,
        time: UnixTime(inner.time_ms.saturating_mul(1_000_000)),
        verb: inner.verb,
        wanted: inner.services,
        accepted: false,
    });
    let presented = Presented { form: Form::Sealed, proof: inner.proof.as_ref(), assumed: false };
    let verified = token::verify(&inner.token, presented, &snapshot.config, &snapshot.keys, now, record);
    let (token, issuer) = match verified {
        Ok(verified) => verified,
        Err(denied) => return Judged { outcome: Outcome::Denied(denied), sealed: Some(sealed) },
    };
    sealed.accepted = true;
    let replay = issuer.replay;
    let outcome = match decide(&token, issuer, inner.address.is_some(), &sealed, knock, snapshot, now) {
        Ok(openings) => Outcome::Allowed(Allowed { token: Arc::new(token), replay, openings }),
        Err(denied) => Outcome::Denied(denied),
    };
    Judged { outcome, sealed: Some(sealed) }
}

/// What an authentic sealed knock opens; nothing for one that closes.
fn decide(
    token: &VerifiedToken,
    issuer: &Issuer,
    has_address: bool,
    sealed: &Sealed,
    knock: &Knock,
    snapshot: &Snapshot,
    now: Now,
) -> Result<Vec<Opening>, Denied> {
    let denied = |refusal| {
        let who = Some(Who::of(token));
        Denied { refusal, issuer: Some(issuer.name.clone()), who, rule: None }
    };
    // An address that is there and differs was refused when the knock was opened.
    if issuer.source_binding == SourceBinding::Strict && !has_address {
        return Err(denied(Refusal::NoAddress));
    }
    if sealed.time.0.abs_diff(now.unix.0) > u64::try_from(CLOCK_WINDOW.as_nanos()).unwrap_or(u64::MAX) {
        return Err(denied(Refusal::ClockSkew));
    }
    match (sealed.verb, &sealed.wanted) {
        // Whoever may not come in any more may still leave.
        (Verb::Close, _) => Ok(Vec::new()),
        (Verb::Open | Verb::Renew, None) => snapshot.policy.evaluate(token, knock.source, Form::Sealed, now),
        (Verb::Open | Verb::Renew, Some(wanted)) => {
            snapshot.policy.evaluate_wanted(token, knock.source, Form::Sealed, now, wanted)
        }
    }
}
