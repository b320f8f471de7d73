//! JPAT's controller and client.

/// The XDP program and its maps.
#[cfg(feature = "daemon")]
pub mod datapath {
    pub mod object;
}
