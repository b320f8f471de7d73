use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use jpat_common::{addr::Addr, grant::ServiceId};

use crate::{
    clock::{BootTime, UnixTime},
    token::{KeptToken, TokenId},
};

/// One thing to remember.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClaimRecord {
    /// A nonce was used.
    Nonce(NonceUse),
    /// What is known of a token from now on.
    Token(TokenRecord),
    /// Nothing binds a token any more: it may be used as if it never had been.
    TokenOver(TokenPlace),
    /// A token has expired, and whether one that ends no later was used is not known any more.
    TokenForgotten(TokenPlace),
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

/// Where what is known of a token is kept. Numbers are given in the order in which tokens are first used, so that the latest
/// lie together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TokenPlace {
    /// Its `exp`, after which it is forgotten.
    pub expires: UnixTime,
    /// Different for each token.
    pub number: u64,
}

/// How a token was used, and whose leases it has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenRecord {
    /// Where it is kept.
    pub place: TokenPlace,
    /// Where it was kept until now, if elsewhere.
    pub left: Option<TokenPlace>,
    /// Which.
    pub id: Arc<TokenId>,
    /// Nanoseconds from boot time to wall-clock time when `exp` was read, at most.
    pub offset_ns: i128,
    /// Whether what it bound is bound until `exp`: it came bare, or it may be used once.
    pub until_exp: bool,
    /// IPv4 address that it belongs to.
    pub v4: Option<Ipv4Addr>,
    /// IPv6 address that it belongs to.
    pub v6: Option<Ipv6Addr>,
    /// Set while it has leases.
    pub token: Option<Arc<KeptToken>>,
    /// Its leases.
    pub leases: Vec<StoredLease>,
}

/// A lease of a token: there is one for each grant key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoredLease {
    /// First address of the granted prefix.
    pub prefix: Addr,
    /// The data path's number of the service.
    pub service: ServiceId,
    /// Its end, in this boot.
    pub end: BootTime,
    /// Address that knocked.
    pub source: IpAddr,
    /// Whether the knock was sealed.
    pub sealed: bool,
}
