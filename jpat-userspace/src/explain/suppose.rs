//! What would follow if a failed check had passed.

use std::time::Duration;

use super::{Check, Checks, Explanation, Way};
use crate::{
    clock::{Now, UnixTime},
    config::{Config, ReplayMode},
    knock::Form,
    refusal::Refusal,
    snapshot::Snapshot,
    token::{self, VerifiedToken, claims::Claims, jws::Parts},
};

/// Runs the verifier again and again, each time forgiving the check that failed last, and adds what comes after it. The keys and
/// the signature are never forgiven, so that the claims in the end are the issuer's.
pub(super) fn verify(
    snapshot: &Snapshot,
    token: &str,
    way: Way,
    now: Now,
    explanation: &mut Explanation,
) -> Option<VerifiedToken> {
    let claims = Claims::parse(&Parts::split(token).ok()?.payload).ok()?;
    let mut config = Config::clone(&snapshot.config);
    let (mut at, mut presented) = (now, way.presented());
    // What ran before the verifier: the datagram's own check.
    let before = explanation.checks.iter().take_while(|check| check.name == "datagram").count();
    if explanation.checks.iter().any(|check| check.result == Err(Refusal::BadSource)) {
        explanation.suppositions.push(format!("{} could hold a grant", explanation.source));
    }
    let mut forgiven = vec![];
    loop {
        let mut record = Checks::default();
        let verified = token::verify(token, presented, &config, &snapshot.keys, at, &mut record);
        let known = explanation.checks.len() - before;
        // A check that passed for real and fails under a supposition ends the matter.
        if record.0.len() < known {
            return None;
        }
        let more = record.0.into_iter().skip(known).map(|check| Check { supposed: true, ..check });
        explanation.checks.extend(more);
        match verified {
            Ok((witness, _issuer)) => return Some(witness),
            Err(denied) if forgiven.contains(&denied.refusal) => return None,
            Err(denied) => {
                forgiven.push(denied.refusal);
                let what = if denied.refusal == Refusal::ProofMissing {
                    presented.assumed = true;
                    "the client had proved that it holds the key of `cnf` (--proof)".to_owned()
                } else {
                    let issuer = denied.issuer.as_deref()?;
                    forgive(denied.refusal, way.form(), issuer, &claims, &mut config, &mut at.unix)?
                };
                explanation.suppositions.push(what);
            }
        }
    }
}

/// Changes the copies so that the check passes; says how. `None` for what cannot be supposed away.
fn forgive(
    refusal: Refusal,
    form: Form,
    issuer: &str,
    claims: &Claims,
    config: &mut Config,
    at: &mut UnixTime,
) -> Option<String> {
    let issuer = config.issuers.iter_mut().find(|candidate| *candidate.name == *issuer)?;
    if refusal == Refusal::FormNotAccepted {
        issuer.accept.insert(form);
        return Some(format!("issuer {:?} accepted {} knocks", issuer.name, form.as_str()));
    }
    if refusal == Refusal::WrongAudience {
        issuer.audience = claims.aud()?.map(str::to_owned).collect();
        return Some(format!("issuer {:?} accepted the audience {:?}", issuer.name, issuer.audience));
    }
    if refusal == Refusal::Expired {
        *at = UnixTime::from_secs(claims.exp?.secs().checked_sub(1)?);
        return Some(format!("it were {at}"));
    }
    if matches!(refusal, Refusal::NotYetValid | Refusal::IssuedInFuture) {
        *at = claims.nbf.max(claims.iat)?;
        return Some(format!("it were {at}"));
    }
    if refusal == Refusal::LifetimeTooLong {
        issuer.max_lifetime = Duration::MAX;
        return Some(format!("issuer {:?} allowed tokens of any lifetime", issuer.name));
    }
    if refusal == Refusal::NoTokenId {
        issuer.replay = ReplayMode::BindSource;
        return Some("a token without jti could be used".to_owned());
    }
    None
}
