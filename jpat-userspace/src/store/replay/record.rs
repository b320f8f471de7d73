use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use jpat_common::{addr::Addr, grant::ServiceId};
use serde::{Deserialize, Serialize};

use crate::{
    clock::{BootTime, UnixTime},
    token::{TokenId, VerifiedToken},
};

/// One thing to remember.
#[derive(Clone, PartialEq, Debug)]
pub enum ClaimRecord {
    /// A nonce was used.
    Nonce(NonceUse),
    /// A token was used, for the first time or from another address than before.
    Use(TokenUse),
    /// A token got its first lease. What an expression sees of it is kept, without the signature, so that it is worth
    /// nothing to a thief.
    Token(Arc<VerifiedToken>),
    /// A lease began, or ends at another time than before.
    Lease(StoredLease),
    /// A lease is over before its time.
    LeaseOver(LeaseId),
}

/// A sealed knock that was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NonceUse {
    /// Its nonce.
    pub nonce: [u8; 16],
    /// Its date.
    pub time: UnixTime,
    /// Index of the budget that it was counted under.
    pub group: u32,
}

/// How a token was used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenUse {
    /// Which.
    pub id: TokenId,
    /// Its `exp`.
    pub expires: UnixTime,
    /// Nanoseconds from boot time to wall-clock time when `exp` was read, at most.
    pub offset_ns: i128,
    /// Whether what it bound is bound until `exp`: it came bare, or it may be used once.
    pub until_exp: bool,
    /// IPv4 address that it belongs to.
    pub v4: Option<Ipv4Addr>,
    /// IPv6 address that it belongs to.
    pub v6: Option<Ipv6Addr>,
}

/// Which lease: one for each grant key, principal and token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseId {
    /// First address of the granted prefix.
    pub prefix: Addr,
    /// The data path's number of the service.
    pub service: ServiceId,
    /// Configured name of the issuer.
    pub issuer: String,
    /// Subject.
    pub subject: String,
    /// Token.
    pub token: TokenId,
}

/// A lease of a token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredLease {
    /// Which.
    pub id: LeaseId,
    /// Its end, in this boot.
    pub end: BootTime,
    /// Address that knocked.
    pub source: IpAddr,
    /// Whether the knock was sealed.
    pub sealed: bool,
}
