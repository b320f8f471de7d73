//! Why a knock was refused: one stable code each, the same in metric, audit, `explain` and docs.

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $stage:ident;)+) => {
        /// Why a knock opened nothing.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Refusal {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Refusal {
            /// Every refusal, in the order in which the checks run.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }

            /// One sentence for people.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim(),)+ }
            }

            /// How much was known of the sender.
            #[must_use]
            pub const fn stage(self) -> Stage {
                match self { $(Self::$variant => Stage::$stage,)+ }
            }
        }
    };
}

/// Whether a refusal came before or after a signature verified: before, anybody can cause it at any rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Counted, and at most ten sampled lines a second in the audit log.
    Stranger,
    /// In the audit log with the principal; repeats by the same token within a second are left out and counted.
    Authenticated,
}

refusals! {
    /// The controller's budget for bare knocks, or for the group of this knock's key, is used up.
    RateLimited = "rate_limited", Stranger;
    /// The verification queue is full.
    QueueFull = "queue_full", Stranger;
    /// The source is unspecified, loopback, link-local, multicast or broadcast; such an address never gets a grant.
    BadSource = "bad_source", Stranger;
    /// The datagram is longer than 1232 bytes.
    TooLong = "too_long", Stranger;
    /// The datagram does not have the header or the length of a sealed knock.
    NotSealed = "not_sealed", Stranger;
    /// No server key has the hint of this sealed knock.
    UnknownServerKey = "unknown_server_key", Stranger;
    /// A sealed knock that no server key with its hint opens: altered, or sealed to another server's key or id.
    CannotOpen = "cannot_open", Stranger;
    /// What was sealed is not the deterministic CBOR map of the protocol, or not the least padding behind it.
    BadInner = "bad_inner", Stranger;
    /// The sealed server id is another server's.
    WrongServer = "wrong_server", Stranger;
    /// The sealed time is not that of the header.
    TimeMismatch = "time_mismatch", Stranger;
    /// The sealed address is not the datagram's source.
    WrongAddress = "wrong_address", Stranger;
    /// The nonce of this sealed knock was seen before.
    KnockReplayed = "knock_replayed", Stranger;
    /// The datagram is not a compact JWS: three base64url parts joined by two dots.
    NotJws = "not_jws", Stranger;
    /// A part is not canonical base64url (padding, white space, other characters, or spare bits set).
    BadBase64 = "bad_base64", Stranger;
    /// The header or the payload is not UTF-8.
    NotUtf8 = "not_utf8", Stranger;
    /// The header or the payload is not a JSON object.
    BadJson = "bad_json", Stranger;
    /// A member occurs twice in a JSON object.
    DuplicateMember = "duplicate_member", Stranger;
    /// JSON nested deeper than eight levels.
    TooDeep = "too_deep", Stranger;
    /// A header member has the wrong type, is too long, or changes how a token is read (`b64`).
    BadHeader = "bad_header", Stranger;
    /// `alg` is `none`, in any spelling.
    AlgNone = "alg_none", Stranger;
    /// The header names critical extensions (`crit`), and JPAT supports none.
    CriticalHeader = "critical_header", Stranger;
    /// The header carries a key or a reference to one (`jwk`, `jku`, `x5u`, `x5c`); keys come from the configuration alone.
    EmbeddedKey = "embedded_key", Stranger;
    /// The token is compressed or encrypted.
    Compressed = "compressed", Stranger;
    /// A registered claim (`iss`, `sub`, `aud`, `exp`, `nbf`, `iat`, `jti`) has the wrong type or is too long.
    BadClaimType = "bad_claim_type", Stranger;
    /// There is no `iss`.
    NoIssuer = "no_issuer", Stranger;
    /// `iss` is no configured issuer.
    UnknownIssuer = "unknown_issuer", Stranger;
    /// This issuer's tokens are not accepted in the form of this knock.
    FormNotAccepted = "form_not_accepted", Stranger;
    /// `alg` is missing, or is none that this issuer is configured for.
    AlgNotAllowed = "alg_not_allowed", Stranger;
    /// `typ` is none that this issuer is configured for.
    TypNotAllowed = "typ_not_allowed", Stranger;
    /// No keys of this issuer are at hand: it was not reached yet, or for longer than `max_stale`.
    NoKeys = "no_keys", Stranger;
    /// No key of this issuer has the token's `kid`.
    UnknownKid = "unknown_kid", Stranger;
    /// The token has no `kid`, and more than one key of the issuer fits.
    AmbiguousKey = "ambiguous_key", Stranger;
    /// The issuer's key cannot be used with the token's `alg`.
    KeyMismatch = "key_mismatch", Stranger;
    /// The signature does not verify.
    BadSignature = "bad_signature", Stranger;
    /// There is no `aud`.
    NoAudience = "no_audience", Authenticated;
    /// `aud` does not name this server.
    WrongAudience = "wrong_audience", Authenticated;
    /// There is no `exp`.
    NoExpiry = "no_expiry", Authenticated;
    /// The token has expired.
    Expired = "expired", Authenticated;
    /// `nbf` lies in the future.
    NotYetValid = "not_yet_valid", Authenticated;
    /// `iat` lies in the future.
    IssuedInFuture = "issued_in_future", Authenticated;
    /// The token lives longer than `max_lifetime` allows.
    LifetimeTooLong = "lifetime_too_long", Authenticated;
    /// The token is bound to a key (`cnf`) and was sent bare, without a proof of it.
    ConfirmationMissing = "confirmation_missing", Authenticated;
    /// The token is bound to a key in a way that this version does not know: `cnf` is not one `jwk` or `jkt` of Ed25519 or P-256.
    UnknownConfirmation = "unknown_confirmation", Authenticated;
    /// The token is bound to a key (`cnf`), and the sealed knock has no proof of it.
    ProofMissing = "proof_missing", Authenticated;
    /// The proof does not verify under the key that the token is bound to, or the token is bound to none.
    BadProof = "bad_proof", Authenticated;
    /// `replay = "proof"` needs a token that is bound to a key (`cnf`).
    NoConfirmation = "no_confirmation", Authenticated;
    /// `source_binding = "strict"` needs the client's address in the sealed knock.
    NoAddress = "no_address", Authenticated;
    /// The sender's clock is more than 30 seconds away from this host's.
    ClockSkew = "clock_skew", Authenticated;
    /// `replay = "once"` needs a `jti`.
    NoTokenId = "no_token_id", Authenticated;
    /// The token was used before.
    Replayed = "replayed", Authenticated;
    /// The token belongs to another source address.
    OtherSource = "other_source", Authenticated;
    /// A `once` token or a sealed knock dated before the replay memory begins (in its second, or within the issuer's `leeway` or 30 seconds after it): whether it was used is not known.
    BeforeStart = "before_start", Authenticated;
    /// The replay memory is full.
    ReplayFull = "replay_full", Authenticated;
    /// A `[[deny]]` rule matches.
    DenyRule = "deny_rule", Authenticated;
    /// No service's policy allows this principal, or not the service that the knock names (`rule`).
    NotAllowed = "not_allowed", Authenticated;
    /// The policy failed to evaluate for every service that might have allowed it.
    PolicyError = "policy_error", Authenticated;
    /// A renewal of what is not open from this source.
    NotOpen = "not_open", Authenticated;
    /// This principal holds grants from as many sources as it may.
    TooManySources = "too_many_sources", Authenticated;
    /// The grant map is as full as it may be without evicting live grants.
    GrantsFull = "grants_full", Authenticated;
    /// The replay store could not be written, so nothing was opened.
    StoreFailed = "store_failed", Authenticated;
    /// The grant could not be written.
    WriteFailed = "write_failed", Authenticated;
}

impl Refusal {
    /// Its place in [`Refusal::ALL`], for counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_texts_are_sentences() {
        let mut codes: Vec<_> = Refusal::ALL.iter().map(|r| r.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Refusal::ALL.len());
        assert!(Refusal::ALL.iter().all(|r| r.text().ends_with('.') && !r.text().contains("  ")));
        assert!(Refusal::ALL.iter().enumerate().all(|(at, r)| r.index() == at));
    }
}
