//! One line of the audit log.

use std::{net::IpAddr, sync::Arc};

use serde::{Serialize, Serializer};

use crate::clock::UnixTime;

/// Most characters of a text that a token chose (`sub`, `jti`).
const MAX_TEXT: usize = 256;

/// What happened to whom, when and why. Never holds a token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Event {
    /// When, RFC 3339 in UTC.
    #[serde(serialize_with = "rfc3339")]
    pub time: UnixTime,
    /// What.
    pub event: Kind,
    /// Issuer and subject (`corp:alice`), the admin who added the grant, or `adopted`.
    #[serde(serialize_with = "clipped", skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Configured name of the issuer; of a token that did not verify, the one it claims.
    #[serde(serialize_with = "clipped", skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Arc<str>>,
    /// `jti`, else the digest of the signing input.
    #[serde(serialize_with = "clipped", skip_serializing_if = "Option::is_none")]
    pub token_id: Option<Arc<str>>,
    /// Address the knock came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Name of the service.
    #[serde(serialize_with = "clipped", skip_serializing_if = "Option::is_none")]
    pub service: Option<Arc<str>>,
    /// End of the lease, as the clocks stood at `time`.
    #[serde(serialize_with = "rfc3339_opt", skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixTime>,
    /// Name of the rule that decided, where one did.
    #[serde(serialize_with = "clipped", skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Stable code: of the refusal for `denied`, of a [`Revocation`] for `revoked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Who ordered it on this host.
    #[serde(serialize_with = "clipped", skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Refusals left out since the last line of a refusal.
    #[serde(skip_serializing_if = "is_zero")]
    pub suppressed: u64,
}

impl Event {
    /// An event of which nothing but kind and time is known yet.
    #[must_use]
    pub const fn new(event: Kind, time: UnixTime) -> Self {
        Self {
            time,
            event,
            principal: None,
            issuer: None,
            token_id: None,
            source: None,
            service: None,
            until: None,
            rule: None,
            reason: None,
            by: None,
            suppressed: 0,
        }
    }
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A lease began.
    Granted,
    /// A lease that still ran was confirmed or lengthened.
    Renewed,
    /// A token was sent again while its grant lives, and nothing was extended.
    Repeated,
    /// A knock opened nothing.
    Denied,
    /// A lease ended by itself.
    Expired,
    /// A lease was ended, or the flows of one that had ended before.
    Revoked,
    /// Connections that stood when enforcement began became flows.
    Adopted,
}

/// Why a lease was ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revocation {
    /// Somebody on this host asked for it.
    Admin,
    /// Its holder gave it back.
    Closed,
    /// Everything was revoked at once.
    Flush,
    /// A `[[deny]]` rule of the new configuration matches its token.
    DenyRule,
    /// The new configuration changed or removed its service.
    ServiceChanged,
    /// The data path did not take it.
    WriteFailed,
    /// Found in the data path at the start, and it fits no service of the configuration or no free place.
    NotAdopted,
}

impl Revocation {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Closed => "closed",
            Self::Flush => "flush",
            Self::DenyRule => "deny_rule",
            Self::ServiceChanged => "service_changed",
            Self::WriteFailed => "write_failed",
            Self::NotAdopted => "not_adopted",
        }
    }
}

/// RFC 3339, for serde.
pub(crate) fn rfc3339<S: Serializer>(time: &UnixTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

fn rfc3339_opt<S: Serializer>(time: &Option<UnixTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Cuts long texts, and replaces what JSON does not escape but terminals act on (C1 controls, bidirectional overrides).
fn clipped<T: AsRef<str>, S: Serializer>(text: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(text) = text else {
        return serializer.serialize_none();
    };
    let text = text.as_ref();
    if text.len() <= MAX_TEXT && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return serializer.serialize_str(text);
    }
    let mut chars = text.chars();
    let mut clean: String = chars.by_ref().take(MAX_TEXT).map(|c| if is_hostile(c) { '\u{fffd}' } else { c }).collect();
    if chars.next().is_some() {
        clean.push('…');
    }
    serializer.serialize_str(&clean)
}

const fn is_hostile(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_fields_are_left_out_and_times_are_rfc_3339() {
        let event = Event {
            source: Some("192.0.2.7".parse().unwrap()),
            service: Some("web".into()),
            until: Some(UnixTime::from_secs(90)),
            ..Event::new(Kind::Granted, UnixTime::from_secs(60))
        };
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"time":"1970-01-01T00:01:00.000Z","event":"granted","source":"192.0.2.7","service":"web","until":"1970-01-01T00:01:30.000Z"}"#
        );
    }

    #[test]
    fn what_a_token_says_cannot_forge_a_line_or_steer_a_terminal() {
        let event = Event {
            principal: Some("a\n{\"event\":\"granted\"}\u{9b}31m\u{202e}\u{1b}[2J".to_owned()),
            token_id: Some("é".repeat(1_000).into()),
            ..Event::new(Kind::Denied, UnixTime(0))
        };
        let line = serde_json::to_string(&event).unwrap();
        assert!(!line.chars().any(|c| c.is_control() || is_hostile(c)), "{line}");
        let back: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(back["event"], "denied");
        assert_eq!(back["token_id"].as_str().unwrap().chars().count(), MAX_TEXT + 1);
    }
}
