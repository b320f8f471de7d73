//! The sans-IO core: datagrams and outcomes in, commands out. It owns replay state, leases and quotas; it never
//! blocks, reads no clock and touches no file.

pub mod admission;
pub mod grants;
pub mod replay;
