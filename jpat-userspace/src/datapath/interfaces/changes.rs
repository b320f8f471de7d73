//! That devices change.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
};

pub use super::super::netlink::subscription::Told;
use super::{
    super::netlink::subscription::Subscription,
    netlink::{RTM_DELLINK, RTM_NEWLINK},
};

/// `RTMGRP_LINK`
const GROUPS: u32 = 1;

/// A socket that becomes readable whenever a device comes, goes or changes.
#[derive(Debug)]
pub struct Changes(Subscription);

impl Changes {
    /// Subscribes to rtnetlink.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn subscribe() -> io::Result<Self> {
        Subscription::open(GROUPS).map(Self)
    }

    /// Takes what was told: whether something may have changed that [`super::list`] reads.
    #[must_use]
    pub fn drain(&self) -> Told {
        self.0.drain(|message| matches!(message.kind, RTM_NEWLINK | RTM_DELLINK))
    }
}

impl AsRawFd for Changes {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
