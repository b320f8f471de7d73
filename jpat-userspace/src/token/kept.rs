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

/// The text begins with: name of the issuer, digest where the id is one, `exp`, `iat`, header. The claims follow as they came.
#[derive(Serialize, Deserialize)]
struct Beginning<T>(T, Option<String>, UnixTime, Option<UnixTime>, Parameters<T>);

/// Bytes of most beginnings, but for the name, the digest and the `kid`.
const BEGINNING: usize = 72;

/// `alg`, `kid`, `typ`.
type Parameters<T> = (Option<T>, Option<T>, Option<T>);

impl KeptToken {
    /// Keeps a token.
    #[must_use]
    pub fn of(token: &VerifiedToken) -> Self {
        let digest = match &*token.id {
            TokenId::Jti(..) => None,
            TokenId::Digest(digest) => Some(URL_SAFE_NO_PAD.encode(digest)),
        };
        let VerifiedToken { principal, expires, issued_at, header, payload, .. } = token;
        let parameters = (header.alg.as_deref(), header.kid.as_deref(), header.typ.as_deref());
        let own = [Some(&*principal.issuer), digest.as_deref(), parameters.1].map(|part| part.map_or(0, str::len));
        let beginning = Beginning(&*principal.issuer, digest, *expires, *issued_at, parameters);
        let mut text = Vec::with_capacity(BEGINNING + own.iter().sum::<usize>() + payload.len());
        // Names, numbers and texts: nothing that JSON cannot write. And what cannot be read again is denied.
        let _written = serde_json::to_writer(&mut text, &beginning);
        text.extend_from_slice(payload.as_bytes());
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
        let mut input = serde_json::Deserializer::from_str(&self.text).into_iter::<Beginning<String>>();
        let Beginning(issuer, digest, expires, issued_at, (alg, kid, typ)) = input.next()?.ok()?;
        let payload = self.text.get(input.byte_offset()..)?;
        let claims: Value = serde_json::from_str(payload).ok()?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        let issuer = Arc::<str>::from(issuer);
        let id = match digest {
            Some(digest) => TokenId::Digest(URL_SAFE_NO_PAD.decode(digest).ok()?.try_into().ok()?),
            None => TokenId::Jti(Arc::clone(&issuer), text("jti")?.into()),
        };
        let header = Arc::new(Header { alg, kid, typ });
        let principal = Principal { issuer, subject: text("sub").unwrap_or_default() };
        let payload = payload.into();
        Some(VerifiedToken {
            principal: Arc::new(principal),
            id: Arc::new(id),
            expires,
            issued_at,
            header,
            claims,
            payload,
        })
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
            ["", "{}", "[]", r#"["corp",null,1,1,[null,null,null]]{}"#, r#"["corp","AAAA",1,1,[null,null,null]]{}"#]
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
