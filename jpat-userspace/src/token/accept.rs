//! The checks on a token, in the order of [`Refusal::ALL`]. What needs no signature comes first, because it is cheap; nothing of
//! it is believed before the signature verified under a key of the issuer that the token names.

use std::sync::Arc;

use super::{
    Principal, TokenId, VerifiedToken,
    claims::Claims,
    jws::{Header, Parts},
    signature,
};
use crate::{
    clock::{Now, UnixTime},
    config::{Config, Issuer, ReplayMode},
    keyring::KeyRing,
    knock::{Form, MAX_PAYLOAD, proof::Proof, sealed},
    refusal::Refusal,
    verify::{Denied, Record, Who},
};

/// How a token came.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'p> {
    /// In which form.
    pub form: Form,
    /// The proof that came with it.
    pub proof: Option<&'p Proof>,
    /// Takes a good proof for granted where none came: for `explain`, which sees no knock.
    pub assumed: bool,
}

impl From<Form> for Presented<'_> {
    fn from(form: Form) -> Self {
        Self { form, proof: None, assumed: false }
    }
}

/// Verifies one token; says also whose it is.
///
/// # Errors
/// [`Denied`] with the first refusal. Its `who` is set once the signature verified.
pub fn verify<'c, 'p>(
    token: &str,
    presented: impl Into<Presented<'p>>,
    config: &'c Config,
    keys: &KeyRing,
    now: Now,
    record: &mut impl Record,
) -> Result<(VerifiedToken, &'c Issuer), Denied> {
    let presented = presented.into();
    let form = presented.form;
    let stranger = |issuer: Option<&Issuer>| {
        let issuer = issuer.map(|issuer| issuer.name.clone());
        move |refusal| Denied { refusal, issuer, who: None, rule: None }
    };
    let (parts, header, claims) = read(token, form, record).map_err(stranger(None))?;
    let issuer = route(&claims, config, record).map_err(stranger(None))?;
    authenticate(&parts, &header, form, issuer, keys, now.unix, record).map_err(stranger(Some(issuer)))?;

    let accepted = accept(&claims, presented, issuer, now.unix, record);
    let principal = Arc::new(Principal { issuer: issuer.name.clone(), subject: claims.sub.unwrap_or_default() });
    let id = Arc::new(match claims.jti {
        Some(jti) => TokenId::Jti(issuer.name.clone(), jti),
        None => TokenId::Digest(sha256(parts.signing_input)),
    });
    match accepted {
        Ok(expires) => {
            let (issued_at, claims) = (claims.iat, claims.all.into());
            let payload = String::from_utf8(parts.payload).unwrap_or_default().into();
            Ok((VerifiedToken { principal, id, expires, issued_at, header, claims, payload }, issuer))
        }
        Err(refusal) => {
            let who = Some(Who { principal, token: id });
            Err(Denied { refusal, issuer: Some(issuer.name.clone()), who, rule: None })
        }
    }
}

fn read<'t>(token: &'t str, form: Form, record: &mut impl Record) -> Result<(Parts<'t>, Arc<Header>, Claims), Refusal> {
    let most = match form {
        Form::Bare => MAX_PAYLOAD,
        Form::Sealed => sealed::MAX_TOKEN,
    };
    let fits = if token.len() <= most { Ok(()) } else { Err(Refusal::TooLong) };
    record.step("length", fits, |_| format!("{} bytes, at most {most}", token.len()))?;
    let parts = record.step("jws", Parts::split(token), |_| String::new())?;
    let header = record.step("header", Header::read(parts.header), |header| {
        let all = header.map(|header| {
            format!("alg {}, kid {}, typ {}", shown(&header.alg), shown(&header.kid), shown(&header.typ))
        });
        all.unwrap_or_default()
    })?;
    let claims = record.step("claims", Claims::parse(&parts.payload), |claims| {
        let names = claims.map(|claims| format!("{:?}", claims.all.keys().collect::<Vec<_>>()));
        names.unwrap_or_default()
    })?;
    Ok((parts, header, claims))
}

fn route<'c>(claims: &Claims, config: &'c Config, record: &mut impl Record) -> Result<&'c Issuer, Refusal> {
    let issuer = match claims.iss() {
        None => Err(Refusal::NoIssuer),
        Some(iss) => config.issuers.iter().find(|issuer| issuer.issuer == iss).ok_or(Refusal::UnknownIssuer),
    };
    record.step("iss", issuer, |issuer| match (claims.iss(), issuer) {
        (Some(iss), Some(issuer)) => format!("{iss:?} is the issuer {:?}", issuer.name),
        (Some(iss), None) => format!("{iss:?}"),
        (None, _) => String::new(),
    })
}

fn authenticate(
    parts: &Parts<'_>,
    header: &Header,
    form: Form,
    issuer: &Issuer,
    keys: &KeyRing,
    now: UnixTime,
    record: &mut impl Record,
) -> Result<(), Refusal> {
    let accepted = if issuer.accept.contains(&form) { Ok(()) } else { Err(Refusal::FormNotAccepted) };
    record.step("form", accepted, |_| form.as_str().to_owned())?;
    let algorithm = signature::algorithm(header, &issuer.algorithms);
    let algorithm = record.step("alg", algorithm, |_| format!("{}, of {:?}", shown(&header.alg), issuer.algorithms))?;
    let typ = if typ_allowed(header, issuer) { Ok(()) } else { Err(Refusal::TypNotAllowed) };
    record.step("typ", typ, |_| format!("{}, of {:?}", shown(&header.typ), issuer.typ))?;
    let set = keys.usable(issuer, now).ok_or(Refusal::NoKeys);
    let set = record.step("keys", set, |set| format!("{} at hand", set.map_or(0, |set| set.keys().len())))?;
    let key = record.step("kid", set.select(header.kid.as_deref(), algorithm), |key| match key {
        Some(key) => format!("{} selects the key {} for {:?}", shown(&header.kid), shown(&key.kid()), key.algorithms()),
        None => {
            let kids: Vec<_> = set.keys().iter().map(|key| shown(&key.kid())).collect();
            format!("{}, of [{}]", shown(&header.kid), kids.join(", "))
        }
    })?;
    let verified = key.verify(algorithm, parts.signing_input.as_bytes(), parts.signature);
    record.step("signature", verified, |_| format!("{algorithm:?}, key {}", shown(&key.kid())))
}

/// RFC 7515 §4.1.9: media types compare without case, and `application/` may be left out. Absence is allowed.
fn typ_allowed(header: &Header, issuer: &Issuer) -> bool {
    header.typ.as_ref().is_none_or(|typ| {
        const PREFIX: &str = "application/";
        let prefix = typ.get(..PREFIX.len()).filter(|prefix| prefix.eq_ignore_ascii_case(PREFIX));
        let typ = prefix.and_then(|prefix| typ.get(prefix.len()..)).unwrap_or(typ);
        issuer.typ.iter().any(|allowed| allowed.eq_ignore_ascii_case(typ))
    })
}

/// What the claims must say; returns `exp`.
fn accept(
    claims: &Claims,
    presented: Presented<'_>,
    issuer: &Issuer,
    now: UnixTime,
    record: &mut impl Record,
) -> Result<UnixTime, Refusal> {
    let is_ours = |one: &str| issuer.audience.iter().any(|ours| ours == one);
    let audience = match claims.aud().map(|mut aud| aud.any(is_ours)) {
        None => Err(Refusal::NoAudience),
        Some(true) => Ok(()),
        Some(false) => Err(Refusal::WrongAudience),
    };
    record.step("aud", audience, |_| {
        format!("{}, of {:?}", shown(&claims.aud().map(Iterator::collect::<Vec<_>>)), issuer.audience)
    })?;

    let exp = match claims.exp {
        None => Err(Refusal::NoExpiry),
        // RFC 7519 §4.1.4: on or after `exp` it must not be accepted. No leeway: a grant would outlive its token.
        Some(exp) if exp <= now => Err(Refusal::Expired),
        Some(exp) => Ok(exp),
    };
    let exp = record.step("exp", exp, |_| when(claims.exp, now))?;

    let latest = now.after(issuer.leeway);
    let early = |date: Option<UnixTime>| date.is_some_and(|date| date > latest);
    let nbf = if early(claims.nbf) { Err(Refusal::NotYetValid) } else { Ok(()) };
    record.step("nbf", nbf, |_| when(claims.nbf, now))?;
    let iat = if early(claims.iat) { Err(Refusal::IssuedInFuture) } else { Ok(()) };
    record.step("iat", iat, |_| when(claims.iat, now))?;

    let lifetime = claims.iat.unwrap_or(now).until(exp);
    let short = if lifetime <= issuer.max_lifetime { Ok(()) } else { Err(Refusal::LifetimeTooLong) };
    record.step("max_lifetime", short, |_| format!("{lifetime:?}, at most {:?}", issuer.max_lifetime))?;

    record.step("cnf", confirm(claims, presented, issuer), |_| {
        claims.all.get("cnf").map_or("absent".to_owned(), ToString::to_string)
    })?;

    let identified = match issuer.replay {
        ReplayMode::Once if claims.jti.is_none() => Err(Refusal::NoTokenId),
        ReplayMode::Once | ReplayMode::Proof | ReplayMode::BindSource => Ok(()),
    };
    record.step("jti", identified, |_| format!("{}, replay {:?}", shown(&claims.jti), issuer.replay.as_str()))?;
    Ok(exp)
}

/// A token that is bound to a key needs a proof of it, which only a sealed knock has; `replay = "proof"` asks for both.
fn confirm(claims: &Claims, presented: Presented<'_>, issuer: &Issuer) -> Result<(), Refusal> {
    match (presented.form, claims.all.get("cnf"), presented.proof) {
        (Form::Bare, Some(_), _) => Err(Refusal::ConfirmationMissing),
        (Form::Sealed, Some(cnf), Some(proof)) => proof.verify(cnf),
        (Form::Sealed, Some(cnf), None) if presented.assumed => {
            let members = cnf.as_object().filter(|members| members.len() == 1);
            let known = members.is_some_and(|members| members.contains_key("jwk") || members.contains_key("jkt"));
            known.then_some(()).ok_or(Refusal::UnknownConfirmation)
        }
        (Form::Sealed, Some(_), None) => Err(Refusal::ProofMissing),
        (Form::Bare | Form::Sealed, None, Some(_)) => Err(Refusal::BadProof),
        (Form::Bare | Form::Sealed, None, None) => match issuer.replay {
            ReplayMode::Proof => Err(Refusal::NoConfirmation),
            ReplayMode::Once | ReplayMode::BindSource => Ok(()),
        },
    }
}

/// Debug form, because it is the token's text and may hold anything.
fn shown(member: &Option<impl std::fmt::Debug>) -> String {
    member.as_ref().map_or_else(|| "absent".to_owned(), |text| format!("{text:?}"))
}

fn when(date: Option<UnixTime>, now: UnixTime) -> String {
    match date {
        None => "absent".to_owned(),
        Some(date) if date > now => format!("{date}, in {:?}", now.until(date)),
        Some(date) => format!("{date}, {:?} ago", date.until(now)),
    }
}

fn sha256(text: &str) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}
