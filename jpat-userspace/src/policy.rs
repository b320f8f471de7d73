//! A [`VerifiedToken`](crate::token::VerifiedToken) and a source become the services they open (CEL).

pub mod compile;

/// Compiled rules of a configuration.
#[derive(Debug)]
pub struct Policy {}
