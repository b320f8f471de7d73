//! The pure worker step: a knock and a snapshot in, an outcome out. No clock, no I/O; runs on any thread.

use std::{sync::Arc, time::Duration};

use crate::{
    config::{PrefixWidths, ReplayMode},
    knock::Knock,
    refusal::Refusal,
    token::{Principal, TokenId, VerifiedToken},
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
#[derive(Clone, PartialEq, Eq, Debug)]
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
