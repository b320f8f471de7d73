//! An explanation as text for people and as JSON for programs.

use std::fmt::{self, Display, Formatter};

use serde_json::{Value, json};

use super::{Check, Decision, Explanation, Way};
use crate::{
    output::printable,
    policy::{Owner, RuleOutcome, RuleResult},
};

/// Version of the JSON form: raised when a member changes its meaning or goes away.
pub const VERSION: u32 = 1;

impl Display for Explanation {
    /// One line for each check and rule, then the decision. Words in brackets decide nothing.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let whose = match (&self.principal, &self.id) {
            (Some(principal), Some(id)) => format!("token {id} of {principal}"),
            (_, None) | (None, _) => "a token that nobody vouches for".to_owned(),
        };
        writeln!(f, "{}, {} from {}, at {}", printable(&whose), self.way.form().as_str(), self.source, self.at)?;
        writeln!(f)?;
        let supposed = self.rules_supposed();
        let rows: Vec<_> =
            self.checks.iter().map(check_row).chain(self.rules.iter().map(|rule| rule_row(rule, supposed))).collect();
        let width = rows.iter().map(|[_, name, _]| name.chars().count()).max().unwrap_or_default();
        for [mark, name, detail] in &rows {
            let row = format!("{mark:<7} {name:<width$}  {}", printable(detail));
            writeln!(f, "{}", row.trim_end())?;
        }
        if !self.suppositions.is_empty() {
            writeln!(
                f,
                "\nIn brackets, deciding nothing: what would follow if {}.",
                self.suppositions.join(", and if ")
            )?;
        }
        writeln!(f)?;
        match &self.decision {
            Decision::Open(services) => {
                for open in services {
                    writeln!(f, "OPENS {} until {}", open.service, open.until)?;
                }
                writeln!(
                    f,
                    "Whether the token was used before, or with replay = once is older than that controller, only the controller knows."
                )
            }
            Decision::Refused { refusal, rule } => {
                write!(f, "REFUSED {refusal}")?;
                match rule {
                    Some(rule) => writeln!(f, " {rule:?}: {}", refusal.text()),
                    None => writeln!(f, ": {}", refusal.text()),
                }
            }
        }
    }
}

fn check_row(check: &Check) -> [String; 3] {
    let (word, detail) = match check.result {
        Ok(()) => ("ok", check.detail.clone()),
        Err(refusal) if check.detail.is_empty() => ("FAIL", refusal.text().to_owned()),
        Err(refusal) => ("FAIL", format!("{}; {}", check.detail, refusal.text())),
    };
    [mark(word, check.supposed), check.name.to_owned(), detail]
}

fn rule_row(rule: &RuleResult, supposed: bool) -> [String; 3] {
    let name = match &rule.owner {
        Owner::Deny(name) => format!("deny {name:?}"),
        Owner::Service(name) => format!("service {name:?}"),
    };
    let (word, detail) = match (&rule.owner, &rule.outcome) {
        (Owner::Deny(_), RuleOutcome::True) => ("DENY", "matches".to_owned()),
        (Owner::Deny(_), RuleOutcome::False) => ("ok", "does not match".to_owned()),
        (Owner::Deny(_), RuleOutcome::Error(error)) => ("DENY", format!("failed, which counts as a match: {error}")),
        (Owner::Service(_), RuleOutcome::True) => ("yes", String::new()),
        (Owner::Service(_), RuleOutcome::False) => ("no", "allow is false".to_owned()),
        (Owner::Service(_), RuleOutcome::Error(error)) => ("no", format!("allow failed: {error}")),
        (Owner::Deny(_) | Owner::Service(_), RuleOutcome::OtherIssuer) => {
            ("-", "takes no tokens of this issuer".to_owned())
        }
    };
    [mark(word, supposed), name, detail]
}

fn mark(word: &str, supposed: bool) -> String {
    if supposed { format!("({word})") } else { word.to_owned() }
}

impl Explanation {
    /// The stable form of `-o json`, with [`VERSION`].
    #[must_use]
    pub fn to_json(&self) -> Value {
        let checks = self.checks.iter().map(|check| {
            json!({
                "name": check.name,
                "passed": check.result.is_ok(),
                "refusal": check.result.err().map(|refusal| refusal.code()),
                "detail": check.detail,
                "supposed": check.supposed,
            })
        });
        let supposed = self.rules_supposed();
        let rules = self.rules.iter().map(|rule| {
            let (kind, name) = match &rule.owner {
                Owner::Deny(name) => ("deny", name),
                Owner::Service(name) => ("service", name),
            };
            let (result, error) = match &rule.outcome {
                RuleOutcome::True => ("true", None),
                RuleOutcome::False => ("false", None),
                RuleOutcome::Error(error) => ("error", Some(error)),
                RuleOutcome::OtherIssuer => ("other_issuer", None),
            };
            json!({ "kind": kind, "name": name, "result": result, "error": error, "supposed": supposed })
        });
        let (services, refusal) = match &self.decision {
            Decision::Open(services) => {
                let open = |open: &super::Open| json!({ "name": open.service, "until": open.until.to_string() });
                (services.iter().map(open).collect::<Vec<_>>(), None)
            }
            Decision::Refused { refusal, rule } => {
                (vec![], Some(json!({ "code": refusal.code(), "text": refusal.text(), "rule": rule })))
            }
        };
        json!({
            "version": VERSION,
            "at": self.at.to_string(),
            "source": self.source.to_string(),
            "form": self.way.form().as_str(),
            "proof": matches!(self.way, Way::Sealed { proof: true }),
            "principal": self.principal.as_ref().map(|p| json!({ "issuer": &*p.issuer, "subject": p.subject })),
            "token": self.id.as_ref().map(ToString::to_string),
            "allowed": self.allowed(),
            "services": services,
            "refusal": refusal,
            "checks": checks.collect::<Vec<_>>(),
            "suppositions": self.suppositions,
            "rules": rules.collect::<Vec<_>>(),
        })
    }
}
