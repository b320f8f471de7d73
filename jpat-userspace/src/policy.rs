//! A [`VerifiedToken`] and a source become the services they open (CEL).
//!
//! Deny rules come first, for all services; one that fails to evaluate counts as a match. A service opens only where its
//! `allow` is exactly `true`.

pub mod compile;

mod budget;
mod check;
mod environment;
mod facts;
mod pattern;
mod place;
mod shape;
mod suggest;
mod used;
#[cfg(test)]
pub(crate) mod tests;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use jpat_common::grant::ServiceId;

pub use self::compile::CompileError;
use self::{compile::Rule, used::Used};
use crate::{
    clock::Now,
    config::{Config, Service},
    knock::Form,
    refusal::Refusal,
    token::VerifiedToken,
    verify::{Denied, Opening, Who},
};

/// Compiled rules of a configuration.
#[derive(Debug)]
pub struct Policy {
    deny: Vec<(String, Rule)>,
    services: Vec<ServiceRule>,
    used: Used,
}

#[derive(Debug)]
struct ServiceRule {
    issuers: Vec<Arc<str>>,
    allow: Rule,
    opening: Opening,
}

/// Whose expression it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Owner {
    /// `allow` of the service of this name.
    Service(String),
    /// `when` of the deny rule of this name.
    Deny(String),
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(name) => write!(f, "service \"{name}\", allow"),
            Self::Deny(name) => write!(f, "deny \"{name}\", when"),
        }
    }
}

/// What one rule said of one token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleResult {
    /// Which rule.
    pub owner: Owner,
    /// What it said.
    pub outcome: RuleOutcome,
}

/// The answer of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RuleOutcome {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It could not be evaluated, and why: a service stays closed, a deny rule matches.
    Error(String),
    /// Not asked: the service does not take tokens of this issuer.
    OtherIssuer,
}

impl RuleOutcome {
    /// Fail closed: a deny rule matches unless it is plainly `false`.
    const fn denies(&self) -> bool {
        match self {
            Self::True | Self::Error(_) => true,
            Self::False | Self::OtherIssuer => false,
        }
    }
}

impl Policy {
    /// Compiles every rule of a configuration, once.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub fn compile(config: &Config, service_ids: &BTreeMap<String, ServiceId>) -> Result<Self, Vec<CompileError>> {
        let mut errors = vec![];
        let mut keep = |owner: Owner, source: &str| Rule::compile(&owner, source).map_err(|e| errors.extend(e)).ok();
        let deny = config.deny.iter().filter_map(|rule| {
            let compiled = keep(Owner::Deny(rule.name.clone()), &rule.when)?;
            Some((rule.name.clone(), compiled))
        });
        let deny: Vec<_> = deny.collect();
        let allows: Vec<_> =
            config.services.iter().map(|s| (s, keep(Owner::Service(s.name.clone()), &s.allow))).collect();
        let services = allows.into_iter().filter_map(|(service, allow)| {
            let Some(id) = service_ids.get(&service.name) else {
                errors.push(CompileError {
                    owner: Owner::Service(service.name.clone()),
                    line: None,
                    column: None,
                    message: "the service has no number in the data path".to_owned(),
                });
                return None;
            };
            Some(ServiceRule {
                issuers: service.issuers.iter().map(|name| name.as_str().into()).collect(),
                allow: allow?,
                opening: opening(service, *id),
            })
        });
        let services: Vec<_> = services.collect();
        let rules = deny.iter().map(|(_, rule)| rule).chain(services.iter().map(|service| &service.allow));
        let used = rules.fold(Used::default(), |used, rule| used.and(rule.used()));
        if errors.is_empty() { Ok(Self { deny, services, used }) } else { Err(errors) }
    }

    /// What a token opens from `source`, in the order of the configuration; never empty.
    ///
    /// # Errors
    /// [`Refusal::DenyRule`] with the rule's name, [`Refusal::NotAllowed`], or [`Refusal::PolicyError`] when the rule of
    /// every service that takes tokens of this issuer failed to evaluate.
    pub fn evaluate(
        &self,
        token: &VerifiedToken,
        source: IpAddr,
        form: Form,
        now: Now,
    ) -> Result<Vec<Opening>, Denied> {
        self.judge(token, source, form, now, None)
    }

    /// As [`Self::evaluate`], of those that are wanted, in the order of the configuration.
    ///
    /// # Errors
    /// As there, and [`Refusal::NotAllowed`] where one of them is not given: its name is the rule's.
    pub fn evaluate_wanted(
        &self,
        token: &VerifiedToken,
        source: IpAddr,
        form: Form,
        now: Now,
        wanted: &[String],
    ) -> Result<Vec<Opening>, Denied> {
        let mut openings = self.evaluate(token, source, form, now)?;
        let is_given = |name: &&String| openings.iter().any(|opening| *opening.name == ***name);
        if let Some(missing) = wanted.iter().find(|name| !is_given(name)) {
            return Err(denied(token, Refusal::NotAllowed, Some(missing)));
        }
        openings.retain(|opening| wanted.iter().any(|name| **name == *opening.name));
        Ok(openings)
    }

    /// The same decision, with the answer of every rule, those that could not change it any more included.
    pub fn examine(
        &self,
        token: &VerifiedToken,
        source: IpAddr,
        form: Form,
        now: Now,
    ) -> (Result<Vec<Opening>, Denied>, Vec<RuleResult>) {
        let mut results = vec![];
        let decision = self.judge(token, source, form, now, Some(&mut results));
        (decision, results)
    }

    /// Name of the first deny rule that matches a token which may hold grants.
    #[must_use]
    pub fn denies(&self, token: &VerifiedToken, source: IpAddr, form: Form, now: Now) -> Option<&str> {
        if self.deny.is_empty() {
            return None;
        }
        let facts = facts::context(token, source, form, now.unix, &self.used);
        self.deny.iter().find(|(_, rule)| rule.run(&facts).denies()).map(|(name, _)| name.as_str())
    }

    /// Asks the rules in order. With `seen` it goes on after the decision fell, without changing it.
    fn judge(
        &self,
        token: &VerifiedToken,
        source: IpAddr,
        form: Form,
        now: Now,
        mut seen: Option<&mut Vec<RuleResult>>,
    ) -> Result<Vec<Opening>, Denied> {
        let facts = facts::context(token, source, form, now.unix, &self.used);
        let mut denied_by = None;
        for (name, rule) in &self.deny {
            let outcome = rule.run(&facts);
            if outcome.denies() && denied_by.is_none() {
                denied_by = Some(name);
            }
            match &mut seen {
                Some(seen) => seen.push(RuleResult { owner: Owner::Deny(name.clone()), outcome }),
                None if denied_by.is_some() => break,
                None => {}
            }
        }
        if let (Some(name), None) = (denied_by, &seen) {
            return Err(denied(token, Refusal::DenyRule, Some(name)));
        }
        let (mut openings, mut asked, mut failed) = (Vec::with_capacity(self.services.len().min(4)), 0_usize, 0_usize);
        for service in &self.services {
            let outcome = service.ask(token, &facts);
            match &outcome {
                RuleOutcome::True => openings.push(service.opening.clone()),
                RuleOutcome::Error(_) => failed += 1,
                RuleOutcome::False | RuleOutcome::OtherIssuer => {}
            }
            asked += usize::from(outcome != RuleOutcome::OtherIssuer);
            if let (RuleOutcome::Error(error), None) = (&outcome, &seen) {
                tracing::debug!(service = %service.opening.name, error, "allow failed");
            }
            if let Some(seen) = &mut seen {
                seen.push(RuleResult { owner: Owner::Service(service.opening.name.to_string()), outcome });
            }
        }
        if let Some(name) = denied_by {
            return Err(denied(token, Refusal::DenyRule, Some(name)));
        }
        match openings.is_empty() {
            false => Ok(openings),
            true if asked > 0 && failed == asked => Err(denied(token, Refusal::PolicyError, None)),
            true => Err(denied(token, Refusal::NotAllowed, None)),
        }
    }
}

impl ServiceRule {
    fn ask<'v>(&'v self, token: &VerifiedToken, facts: &cel::Context<'_, 'v>) -> RuleOutcome {
        if !self.issuers.contains(&token.principal().issuer) {
            return RuleOutcome::OtherIssuer;
        }
        self.allow.run(facts)
    }
}

fn opening(service: &Service, id: ServiceId) -> Opening {
    Opening { service: id, name: service.name.as_str().into(), ttl: service.ttl, prefix: service.prefix }
}

fn denied(token: &VerifiedToken, refusal: Refusal, rule: Option<&String>) -> Denied {
    Denied { refusal, issuer: Some(token.principal().issuer.clone()), who: Some(Who::of(token)), rule: rule.cloned() }
}
