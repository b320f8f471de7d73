//! JPAT's userspace: the controller `jpatd` and the client and admin tool `jpat`.
//!
//! The modules stand in the order in which one datagram passes them; what lies around comes after.
#![forbid(unsafe_code)]

// One datagram.
#[cfg(feature = "daemon")]
pub mod datapath;
pub mod knock;
#[cfg(feature = "daemon")]
pub mod gate;
#[cfg(feature = "daemon")]
pub mod verify;
#[cfg(feature = "daemon")]
pub mod token;
#[cfg(feature = "daemon")]
pub mod policy;
#[cfg(feature = "daemon")]
pub mod audit;

// Around it.
pub mod refusal;
#[cfg(feature = "daemon")]
pub mod snapshot;
#[cfg(feature = "daemon")]
pub mod keyring;
#[cfg(feature = "daemon")]
pub mod store;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod check;
#[cfg(feature = "daemon")]
pub mod provision;
#[cfg(feature = "daemon")]
pub mod init;
#[cfg(feature = "daemon")]
pub mod explain;
pub mod admin;
#[cfg(feature = "daemon")]
pub mod daemon;
#[cfg(feature = "daemon")]
pub mod metrics;
#[cfg(feature = "daemon")]
mod connections;
pub mod clock;
#[cfg(feature = "daemon")]
mod table;
pub mod secret_file;

// The program `jpat`.
pub mod client;
pub mod issuer;
pub mod cli;
pub mod output;
