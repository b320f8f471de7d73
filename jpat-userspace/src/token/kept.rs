use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Principal, TokenId, VerifiedToken, jws::Header};
use crate::clock::UnixTime;

/// A [`VerifiedToken`] as it is kept while it has leases: as text, which takes a fraction of the room. Without the signature,
/// so that it is worth nothing to a thief.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptToken {
    expires: UnixTime,
    text: Box<str>,
}

/// The text: name of the issuer, digest where the id is one, `exp`, `iat`, header, claims. What claims say is there once.
#[derive(Serialize)]
struct Written<'t>(&'t str, Option<String>, UnixTime, Option<UnixTime>, Parameters<&'t str>, &'t Value);

/// The same.
#[derive(Deserialize)]
struct Read(String, Option<String>, UnixTime, Option<UnixTime>, Parameters<String>, Value);

/// `alg`, `kid`, `typ`.
type Parameters<T> = (Option<T>, Option<T>, Option<T>);

impl KeptToken {
    /// Keeps a token.
    #[must_use]
    pub fn of(token: &VerifiedToken) -> Self {
        let mut text = Vec::with_capacity(1_024);
        // Names, numbers and texts: nothing that JSON cannot write. And what cannot be read again is denied.
        let digest = match &*token.id {
            TokenId::Jti(..) => None,
            TokenId::Digest(digest) => Some(URL_SAFE_NO_PAD.encode(digest)),
        };
        let VerifiedToken { principal, expires, issued_at, header, claims, .. } = token;
        let parameters = (header.alg.as_deref(), header.kid.as_deref(), header.typ.as_deref());
        let written = Written(&principal.issuer, digest, *expires, *issued_at, parameters, claims);
        let text = serde_json::to_writer(&mut text, &written).map(|()| text).unwrap_or_default();
        Self { expires: token.expires(), text: String::from_utf8(text).unwrap_or_default().into() }
    }

    /// What the store was given: [`Self::text`] of a token with this `exp`.
    #[must_use]
    pub const fn stored(expires: UnixTime, text: Box<str>) -> Self {
        Self { expires, text }
    }

    /// `exp`.
    #[must_use]
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }

    /// The token in JSON.
    #[must_use]
    pub const fn text(&self) -> &str {
        &self.text
    }

    /// The token. Nothing if the text is none.
    #[must_use]
    pub fn restore(&self) -> Option<VerifiedToken> {
        let Read(issuer, digest, expires, issued_at, (alg, kid, typ), claims) =
            serde_json::from_str(&self.text).ok()?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        let id = match digest {
            Some(digest) => TokenId::Digest(URL_SAFE_NO_PAD.decode(digest).ok()?.try_into().ok()?),
            None => TokenId::Jti(issuer.clone(), text("jti")?),
        };
        let header = Arc::new(Header { alg, kid, typ });
        let principal = Principal { issuer, subject: text("sub").unwrap_or_default() };
        Some(VerifiedToken { principal: Arc::new(principal), id: Arc::new(id), expires, issued_at, header, claims })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_as_it_was() {
        let claims = serde_json::json!({
            "sub": "alice", "jti": "1", "iat": 1, "exp": 1_600, "text": "\u{0}\"\u{1f600}", "list": [1.5, null, -1, u64::MAX, {}],
        });
        let token = VerifiedToken::for_tests("corp", claims);
        let kept = KeptToken::of(&token);
        assert_eq!((kept.restore(), kept.expires()), (Some(token.clone()), token.expires()));
        assert_eq!(KeptToken::stored(kept.expires(), kept.text().into()), kept);
        for bad in
            ["", "{}", "[]", r#"["corp",null,1,1,[null,null,null],{}]"#, r#"["corp","AAAA",1,1,[null,null,null],{}]"#]
        {
            assert_eq!(KeptToken::stored(kept.expires(), bad.into()).restore(), None, "{bad}");
        }
    }

    #[test]
    fn a_token_without_id_and_subject_comes_back_too() {
        let mut token = VerifiedToken::for_tests("corp", serde_json::json!({ "exp": 1_600 }));
        token.id = Arc::new(TokenId::Digest(std::array::from_fn(|at| at as u8)));
        assert_eq!(KeptToken::of(&token).restore(), Some(token));
    }
}
