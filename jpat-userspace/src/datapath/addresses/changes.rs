//! That addresses change.

use std::os::fd::{AsRawFd, RawFd};

use super::{
    super::{
        error::DataPathError,
        netlink::{Message, subscription::Subscription},
    },
    routes::{self, RTM_DELROUTE, RTM_NEWROUTE},
};

pub use super::super::netlink::subscription::Told;

/// `RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE`
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;

/// A socket that becomes readable whenever an address or a route comes or goes.
#[derive(Debug)]
pub struct Changes(Subscription);

impl Changes {
    /// Subscribes to rtnetlink.
    ///
    /// # Errors
    /// [`DataPathError::Addresses`].
    pub fn subscribe() -> Result<Self, DataPathError> {
        Subscription::open(GROUPS).map(Self).map_err(DataPathError::Addresses)
    }

    /// Takes what was told: whether something may have changed that [`super::local`] reads.
    #[must_use]
    pub fn drain(&self) -> Told {
        self.0.drain(concerns_addresses)
    }
}

impl AsRawFd for Changes {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn concerns_addresses(message: Message<'_>) -> bool {
    match message.kind {
        RTM_NEWADDR | RTM_DELADDR => true,
        RTM_NEWROUTE | RTM_DELROUTE => routes::ends_here(message.body),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::super::netlink::{self, subscription::tests::told},
        *,
    };

    fn route(message: u16, kind: u8) -> Vec<u8> {
        netlink::message(message, &[2, 32, 0, 0, 254, 2, 0, kind, 0, 0, 0, 0], &[])
    }

    fn address(message: u16) -> Vec<u8> {
        netlink::message(message, &[2, 24, 0, 0, 1, 0, 0, 0], &[])
    }

    #[test]
    fn a_routers_routes_are_no_change() {
        let routes = (0..1000).map(|_| Ok(route(RTM_NEWROUTE, 1))).collect();
        assert_eq!(told(routes, concerns_addresses).0, Told { is_change: false, is_all: true });
    }

    #[test]
    fn p2_addresses_and_routes_that_end_here_are_a_change() {
        let kinds =
            [RTM_NEWROUTE, RTM_DELROUTE].into_iter().flat_map(|message| [2, 3, 4].map(|kind| route(message, kind)));
        let addresses = [RTM_NEWADDR, RTM_DELADDR].map(address);
        for datagram in kinds.chain(addresses) {
            assert!(told(vec![Ok(datagram.clone())], concerns_addresses).0.is_change, "{datagram:?}");
        }
    }
}
