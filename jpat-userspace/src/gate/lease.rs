//! Who stands behind a grant: one lease for each grant key, principal and token.

use std::{net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use jpat_common::grant::{GrantKey, ServiceId};
use serde::Serialize;

use crate::{
    audit::{Event, Kind},
    clock::{BootTime, Now, UnixTime},
    knock::Form,
    store::replay::StoredLease,
    token::{KeptToken, Principal, TokenId, VerifiedToken},
    verify::Opening,
};

/// Whose lease it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Holder {
    /// A principal with one of its tokens.
    Token(Arc<Principal>, Arc<TokenId>),
    /// Somebody on this host.
    Admin(String),
    /// Unknown: the entry was in the map when the controller started.
    Adopted,
}

impl Holder {
    pub(super) fn of(token: &VerifiedToken) -> Self {
        Self::Token(Arc::clone(token.principal()), Arc::clone(token.id()))
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Token(principal, _) => [&principal.issuer, ":", &principal.subject].concat(),
            Self::Admin(name) => name.clone(),
            Self::Adopted => "adopted".to_owned(),
        }
    }

    fn issuer(&self) -> Option<Arc<str>> {
        match self {
            Self::Token(principal, _) => Some(principal.issuer.clone()),
            Self::Admin(_) | Self::Adopted => None,
        }
    }

    fn token_id(&self) -> Option<Arc<str>> {
        match self {
            Self::Token(_, id) => Some(id.shown()),
            Self::Admin(_) | Self::Adopted => None,
        }
    }
}

/// A right to a grant until `end`.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) key: GrantKey,
    pub(super) holder: Arc<Holder>,
    pub(super) end: BootTime,
    /// The witness, for holders that have one: its `exp` bounds `end`, and `[[deny]]` rules judge it again.
    pub(super) token: Option<Arc<KeptToken>>,
    pub(super) source: IpAddr,
    /// Form of the knock that began it, or renewed it last; bare for those that no knock began.
    pub(super) form: Form,
    network: IpNet,
    service: Arc<str>,
}

impl Lease {
    pub(super) fn new(holder: &Arc<Holder>, opening: &Opening, source: IpAddr, end: BootTime) -> Self {
        let source = source.to_canonical();
        Self {
            key: key(opening, source),
            holder: Arc::clone(holder),
            end,
            token: None,
            source,
            form: Form::Bare,
            network: network(opening, source),
            service: Arc::clone(&opening.name),
        }
    }

    pub(super) fn with_token(self, token: &Arc<KeptToken>, form: Form) -> Self {
        Self { token: Some(Arc::clone(token)), form, ..self }
    }

    /// The token of a holder that has one.
    pub(super) fn token_id(&self) -> Option<&Arc<TokenId>> {
        match &*self.holder {
            Holder::Token(_, id) => Some(id),
            Holder::Admin(_) | Holder::Adopted => None,
        }
    }

    pub(super) fn service(&self) -> &Arc<str> {
        &self.service
    }

    /// What the store is to know of it.
    pub(super) fn stored(&self) -> StoredLease {
        let sealed = match self.form {
            Form::Bare => false,
            Form::Sealed => true,
        };
        StoredLease {
            prefix: *self.key.source(),
            service: self.key.service(),
            end: self.end,
            source: self.source,
            sealed,
        }
    }

    pub(super) fn ending(self, end: BootTime) -> Self {
        Self { end, ..self }
    }

    /// As admins see the holder.
    pub(super) fn holder_name(&self) -> String {
        self.holder.name()
    }

    pub(super) fn event(&self, kind: Kind, now: Now) -> Event {
        Event {
            principal: Some(self.holder.name()),
            issuer: self.holder.issuer(),
            token_id: self.holder.token_id(),
            source: Some(self.source),
            service: Some(Arc::clone(&self.service)),
            until: Some(now.unix_at(self.end)),
            ..Event::new(kind, now.unix)
        }
    }

    pub(super) fn view(&self, flows: usize, now: Now) -> GrantView {
        GrantView {
            source: self.network,
            service: self.service.to_string(),
            service_id: self.key.service(),
            principal: self.holder.name(),
            issuer: self.holder.issuer().map(|name| name.to_string()),
            token_id: self.holder.token_id().map(|id| id.to_string()),
            until: now.unix_at(self.end),
            remaining: now.boot.until(self.end),
            flows,
        }
    }
}

/// The grant key of `source` for a service.
pub(super) fn key(opening: &Opening, source: IpAddr) -> GrantKey {
    let bytes = match source.to_canonical() {
        IpAddr::V4(v4) => jpat_common::addr::from_v4(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    };
    GrantKey::new(&bytes, &opening.prefix.mask(source), opening.service)
}

fn network(opening: &Opening, source: IpAddr) -> IpNet {
    let width = match source {
        IpAddr::V4(_) => opening.prefix.v4,
        IpAddr::V6(_) => opening.prefix.v6,
    };
    IpNet::new(source, width).map_or_else(|_too_wide| source.into(), |network| network.trunc())
}

/// A lease as an admin sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct GrantView {
    /// What the grant covers.
    pub source: IpNet,
    /// Name of the service.
    pub service: String,
    /// The data path's number of the service.
    pub service_id: ServiceId,
    /// Issuer and subject (`corp:alice`), the admin who added it, or `adopted`.
    pub principal: String,
    /// Configured name of the issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// `jti`, else the digest of the signing input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// End, as the clocks stand now; RFC 3339 in JSON.
    #[serde(serialize_with = "crate::audit::rfc3339")]
    pub until: UnixTime,
    /// Time left; milliseconds in JSON.
    #[serde(rename = "remaining_ms", serialize_with = "millis")]
    pub remaining: Duration,
    /// Flows under the grant's key, whoever opened them, when somebody last looked.
    pub flows: usize,
}

/// Which leases to revoke: those that match everything given here. An empty selector matches none; that is what a
/// flush is for.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Selector {
    /// Grants that cover any address of this network.
    pub source: Option<IpNet>,
    /// The data path's number of the service.
    pub service: Option<ServiceId>,
    /// As [`GrantView::principal`].
    pub principal: Option<String>,
    /// As [`GrantView::token_id`].
    pub token_id: Option<String>,
}

impl Selector {
    pub(super) fn matches(&self, lease: &Lease) -> bool {
        *self != Self::default()
            && self.matches_place(lease)
            && self.principal.as_ref().is_none_or(|name| *name == lease.holder.name())
            && self.token_id.as_ref().is_none_or(|id| lease.holder.token_id().as_deref() == Some(id))
    }
}

impl Selector {
    /// Whether source and service match, whoever holds the lease.
    pub(super) fn matches_place(&self, lease: &Lease) -> bool {
        self.source.is_none_or(|net| net.contains(&lease.network) || lease.network.contains(&net))
            && self.service.is_none_or(|service| service == lease.key.service())
    }
}

fn millis<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
