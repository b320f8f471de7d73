//! The pure worker step: a knock and a snapshot in, an outcome out. No clock, no I/O; runs on any thread.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Now,
    config::{PrefixWidths, ReplayMode},
    knock::{Body, Knock},
    refusal::Refusal,
    snapshot::Snapshot,
    token::{self, Principal, TokenId, VerifiedToken},
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
    /// Services that it opens, in the order of the configuration; never empty.
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

/// Why a knock opens nothing, and of whom that is known.
#[derive(Clone, Debug)]
pub struct Denied {
    /// The reason.
    pub refusal: Refusal,
    /// Configured name of the issuer that the token names, signature verified or not.
    pub issuer: Option<String>,
    /// Set once the signature verified.
    pub who: Option<Who>,
    /// Name of the rule that decided (a `[[deny]]` rule's name), where one did.
    pub rule: Option<String>,
}

/// Identity of a token whose signature verified but that was refused all the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Who {
    /// Issuer and subject.
    pub principal: Principal,
    /// Token id.
    pub token: TokenId,
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

/// Verifies the token of a knock and asks the policy what it opens.
#[must_use]
pub fn verify(knock: &Knock, snapshot: &Snapshot, now: Now, record: &mut impl Record) -> Outcome {
    let text = match &knock.body {
        Body::Bare(token) => token,
        Body::Sealed(_) => {
            let refusal = Refusal::FormNotAccepted;
            return Outcome::Denied(Denied { refusal, issuer: None, who: None, rule: None });
        }
    };
    let (token, issuer) = match token::verify(text, knock.form, &snapshot.config, &snapshot.keys, now, record) {
        Ok(verified) => verified,
        Err(denied) => return Outcome::Denied(denied),
    };
    match snapshot.policy.evaluate(&token, knock.source, knock.form, now) {
        Ok(openings) => Outcome::Allowed(Allowed { token: Arc::new(token), replay: issuer.replay, openings }),
        Err(denied) => Outcome::Denied(denied),
    }
}
