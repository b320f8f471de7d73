//! The decision on a token and every check behind it, offline: the verifier's own steps, all of them kept.
//!
//! [`verify`](verify::verify) decides, as for a real knock. What stands after the first failed check is supposition: the same
//! verifier run again on a copy of the configuration that forgives what failed. It is shown as such and decides nothing.

mod render;
mod suppose;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

pub use self::render::VERSION;

use crate::{
    clock::{Now, UnixTime},
    config::Config,
    knock::{self, Form, Knock, Received},
    policy::RuleResult,
    refusal::Refusal,
    snapshot::Snapshot,
    token::{self, Presented, Principal, TokenId, VerifiedToken, claims::Claims, jws::Parts},
    verify::{self, Allowed, Denied, Opening, Outcome, Record},
};

/// Everything there is to say about one token from one source at one moment.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The moment that it was judged for.
    pub at: UnixTime,
    /// The source that it was judged for.
    pub source: IpAddr,
    /// How it would come.
    pub way: Way,
    /// Whose token it is, once the signature verified.
    pub principal: Option<Principal>,
    /// Its identity, once the signature verified.
    pub id: Option<TokenId>,
    /// The checks, in the order in which they run.
    pub checks: Vec<Check>,
    /// What had to be forgiven for the checks and rules that decide nothing.
    pub suppositions: Vec<String>,
    /// What every rule says; empty when the checks went no further.
    pub rules: Vec<RuleResult>,
    /// What a knock with this token would bring.
    pub decision: Decision,
}

/// One check on the token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Whether it passed, and the refusal if not.
    pub result: Result<(), Refusal>,
    /// What was compared; may be empty.
    pub detail: String,
    /// Whether it stands behind a failed check, and decides nothing.
    pub supposed: bool,
}

/// What a knock would bring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It opens these, unless the token was used before in a way that its issuer's `replay` forbids.
    Open(Vec<Open>),
    /// It opens nothing.
    Refused {
        /// Why.
        refusal: Refusal,
        /// Name of the deny rule that matched, where one did.
        rule: Option<String>,
    },
}

/// One service that opens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    /// Its name.
    pub service: String,
    /// End of the grant: the service's TTL or the token's `exp`, whichever comes first.
    pub until: UnixTime,
}

/// How the token would come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// As the datagram.
    Bare,
    /// In a sealed knock, of which header, seal and address are good.
    Sealed {
        /// With a good proof of the key that the token is bound to.
        proof: bool,
    },
}

impl Way {
    /// Sealed where the issuer that the token names accepts that, bare otherwise.
    #[must_use]
    pub fn usual(config: &Config, token: &str, proof: bool) -> Self {
        let claims = Parts::split(token.trim()).and_then(|parts| Claims::parse(&parts.payload));
        let iss = claims.ok().and_then(|claims| claims.iss().map(str::to_owned));
        let issuer = iss.and_then(|iss| config.issuers.iter().find(|issuer| issuer.issuer == iss));
        if proof || issuer.is_some_and(|issuer| issuer.accept.contains(&Form::Sealed)) {
            Self::Sealed { proof }
        } else {
            Self::Bare
        }
    }

    /// The form of the knock.
    #[must_use]
    pub const fn form(self) -> Form {
        match self {
            Self::Bare => Form::Bare,
            Self::Sealed { .. } => Form::Sealed,
        }
    }

    /// How the verifier sees it.
    const fn presented(self) -> Presented<'static> {
        match self {
            Self::Bare => Presented { form: Form::Bare, proof: None, assumed: false },
            Self::Sealed { proof } => Presented { form: Form::Sealed, proof: None, assumed: proof },
        }
    }
}

/// Explains the decision on `token` (surrounding white space aside) that comes from `source` at `now`.
#[must_use]
pub fn explain(snapshot: &Snapshot, token: &str, way: Way, source: IpAddr, now: Now) -> Explanation {
    let mut explanation = Explanation {
        at: now.unix,
        source,
        way,
        principal: None,
        id: None,
        checks: vec![],
        suppositions: vec![],
        rules: vec![],
        decision: Decision::Open(vec![]),
    };
    let mut record = Checks::default();
    let decided = decide(snapshot, token.trim(), way, source, now, &mut record);
    explanation.checks = record.0;
    let form = way.form();
    let witness = match &decided {
        Outcome::Allowed(allowed) => Some(VerifiedToken::clone(&allowed.token)),
        Outcome::Denied(_) => suppose::verify(snapshot, token.trim(), way, now, &mut explanation),
    };
    if let Some(witness) = &witness {
        explanation.principal = Some(Principal::clone(witness.principal()));
        explanation.id = Some(TokenId::clone(witness.id()));
        // The decision was made above; this keeps the answers.
        let (_decision, rules) = snapshot.policy.examine(witness, source, form, now);
        explanation.rules = rules;
    }
    explanation.decision = match decided {
        Outcome::Allowed(allowed) => {
            let open = |opening: &Opening| Open {
                service: opening.name.to_string(),
                until: now.unix.after(opening.ttl).min(allowed.token.expires()),
            };
            Decision::Open(allowed.openings.iter().map(open).collect())
        }
        Outcome::Denied(Denied { refusal, who, rule, .. }) => {
            if let Some(who) = who {
                explanation.principal = Some(Arc::unwrap_or_clone(who.principal));
                explanation.id = Some(Arc::unwrap_or_clone(who.token));
            }
            Decision::Refused { refusal, rule }
        }
    };
    explanation
}

/// What a controller does with the datagram, from its arrival on; of a sealed one, from where it is open.
fn decide(snapshot: &Snapshot, token: &str, way: Way, source: IpAddr, now: Now, record: &mut Checks) -> Outcome {
    match way {
        Way::Bare => bare(snapshot, token, source, now, record),
        Way::Sealed { .. } => sealed(snapshot, token, way, source, now, record),
    }
}

fn sealed(snapshot: &Snapshot, token: &str, way: Way, source: IpAddr, now: Now, record: &mut Checks) -> Outcome {
    let may = if knock::may_be_granted(source) { Ok(()) } else { Err(Refusal::BadSource) };
    if let Err(refusal) = record.step("datagram", may, |_| format!("sealed, from {source}")) {
        return Outcome::Denied(Denied { refusal, issuer: None, who: None, rule: None });
    }
    match token::verify(token, way.presented(), &snapshot.config, &snapshot.keys, now, record) {
        Ok((token, issuer)) => match snapshot.policy.evaluate(&token, source, Form::Sealed, now) {
            Ok(openings) => Outcome::Allowed(Allowed { token: Arc::new(token), replay: issuer.replay, openings }),
            Err(denied) => Outcome::Denied(denied),
        },
        Err(denied) => Outcome::Denied(denied),
    }
}

fn bare(snapshot: &Snapshot, token: &str, source: IpAddr, now: Now, record: &mut Checks) -> Outcome {
    let datagram = Received {
        form: Form::Bare,
        group: jpat_common::sealed::BARE_BUDGET,
        bytes: token.as_bytes().to_vec(),
        source: SocketAddr::new(source, 0),
        destination: SocketAddr::from(([0, 0, 0, 0], 0)),
        received: now.boot,
        ifindex: 0,
    };
    let length = datagram.bytes.len();
    let knock: Result<Knock, Refusal> = knock::decode(datagram);
    match record.step("datagram", knock, |_| format!("{length} bytes from {source}")) {
        Ok(knock) => verify::verify(&knock, snapshot, now, record),
        Err(refusal) => Outcome::Denied(Denied { refusal, issuer: None, who: None, rule: None }),
    }
}

/// A recorder that keeps everything.
#[derive(Default)]
struct Checks(Vec<Check>);

impl Record for Checks {
    fn check(&mut self, name: &'static str, result: Result<(), Refusal>, detail: impl FnOnce() -> String) {
        self.0.push(Check { name, result, detail: detail(), supposed: false });
    }
}

impl Explanation {
    /// Whether the knock opens anything.
    #[must_use]
    pub const fn allowed(&self) -> bool {
        matches!(self.decision, Decision::Open(_))
    }

    /// Whether the rules were asked on a supposition, because the token itself was refused.
    #[must_use]
    pub fn rules_supposed(&self) -> bool {
        self.checks.iter().any(|check| check.result.is_err())
    }
}
