//! What expressions see: the token and the circumstances of the knock as CEL values, borrowed where they can be.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use cel::{
    Context,
    common::{
        types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelTimestamp, CelUInt},
        value::Val,
    },
};
use serde_json::Value as Json;

use super::{environment::ENVIRONMENT, used::Used};
use crate::{
    clock::UnixTime,
    knock::Form,
    token::{VerifiedToken, jws::Header},
};

/// The variable of all that the token says.
pub(super) const CLAIMS: &str = "claims";
/// Variables of every rule.
pub(super) const VARIABLES: &[&str] = &[CLAIMS, "header", "issuer", "source", "now", "knock"];
/// The variable that only the rule of a service has.
pub(super) const SERVICE: &str = "service";
/// Variables with a fixed set of members, any of which may be absent from `header`.
pub(super) const MEMBERS: &[(&str, &[&str])] = &[("header", &["alg", "kid", "typ"]), ("knock", &["form", "proof"])];

/// The variables for one token, except [`SERVICE`], as far as they are used.
pub(super) fn context<'v>(
    token: &'v VerifiedToken,
    source: IpAddr,
    form: Form,
    now: UnixTime,
    used: &Used,
) -> Context<'v, 'v> {
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    let mut add = |name, value: &dyn Fn() -> Box<dyn Val + 'v>| {
        if used.has(name) {
            context.add_variable_as_val(name, value());
        }
    };
    add(CLAIMS, &|| claims(token.claims(), used));
    add("header", &|| header(token.header()));
    add("issuer", &|| Box::new(CelString::from(&*token.principal().issuer)));
    add("source", &|| Box::new(CelString::from(source.to_canonical().to_string())));
    add("now", &|| Box::new(timestamp(now)));
    add("knock", &|| knock(form, token));
    context
}

fn claims<'v>(json: &'v Json, used: &Used) -> Box<dyn Val + 'v> {
    let members = json.as_object().into_iter().flatten().filter(|(name, _)| used.has_claim(name));
    members_of(members)
}

/// A member that the token does not have is absent, not null, so that `has(header.kid)` tells.
fn header(header: &Header) -> Box<dyn Val + '_> {
    let mut members: HashMap<_, Box<dyn Val + '_>> = HashMap::new();
    for (name, member) in [("alg", &header.alg), ("kid", &header.kid), ("typ", &header.typ)] {
        if let Some(text) = member {
            members.insert(CelMapKey::from(name), Box::new(CelString::from(text.as_str())));
        }
    }
    Box::new(CelMap::from(members))
}

fn members_of<'v>(members: impl Iterator<Item = (&'v String, &'v Json)>) -> Box<dyn Val + 'v> {
    let members: HashMap<_, _> =
        members.map(|(name, member)| (CelMapKey::from(name.as_str()), value(member))).collect();
    Box::new(CelMap::from(members))
}

/// Integers stay integers, as in the token; CEL compares them with any number, but calculates only with their like.
fn value<'v>(json: &'v Json) -> Box<dyn Val + 'v> {
    match json {
        Json::Null => Box::new(CelNull),
        Json::Bool(flag) => Box::new(CelBool::from(*flag)),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(int), _, _) => Box::new(CelInt::from(int)),
            (None, Some(uint), _) => Box::new(CelUInt::from(uint)),
            (None, None, double) => Box::new(CelDouble::from(double.unwrap_or(f64::NAN))),
        },
        Json::String(text) => Box::new(CelString::from(text.as_str())),
        Json::Array(items) => Box::new(CelList::from(items.iter().map(value).collect::<Vec<_>>())),
        Json::Object(members) => members_of(members.iter()),
    }
}

/// The verifier takes no sealed token with a `cnf` that has no good proof.
fn knock(form: Form, token: &VerifiedToken) -> Box<dyn Val> {
    let has_proof = form == Form::Sealed && token.claims().get("cnf").is_some();
    let members: [(_, Box<dyn Val>); 2] =
        [("form", Box::new(CelString::from(form.as_str()))), ("proof", Box::new(CelBool::from(has_proof)))];
    Box::new(CelMap::from(
        members.map(|(name, member)| (CelMapKey::from(name), member)).into_iter().collect::<HashMap<_, _>>(),
    ))
}

fn timestamp(now: UnixTime) -> CelTimestamp {
    let epoch = cel::Timestamp::default().0;
    CelTimestamp::from(epoch + Duration::from_nanos(now.0))
}
