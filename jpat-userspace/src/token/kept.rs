use super::VerifiedToken;
use crate::clock::UnixTime;

/// A [`VerifiedToken`] as it is kept while it has leases: as text, which takes a fraction of the room. Without the signature,
/// so that it is worth nothing to a thief.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptToken {
    expires: UnixTime,
    text: Box<str>,
}

impl KeptToken {
    /// Keeps a token.
    #[must_use]
    pub fn of(token: &VerifiedToken) -> Self {
        let mut text = Vec::with_capacity(1_024);
        // Names, numbers and texts: nothing that JSON cannot write. And what cannot be read again is denied.
        let text = serde_json::to_writer(&mut text, token).map(|()| text).unwrap_or_default();
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
        serde_json::from_str(&self.text).ok()
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
        assert_eq!(KeptToken::stored(kept.expires(), "{}".into()).restore(), None);
    }
}
