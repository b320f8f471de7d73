//! This host's addresses: what `destinations = "local"` means.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

use ipnet::IpNet;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, recv, socket,
};

use super::error::DataPathError;

/// Multicast groups of rtnetlink that tell of IPv4 and IPv6 addresses (`RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR`).
const ADDRESS_GROUPS: u32 = 0x10 | 0x100;

/// Addresses of all interfaces of this network namespace, and the broadcast address of each IPv4 subnet.
///
/// # Errors
/// [`DataPathError::Addresses`].
pub fn local() -> Result<BTreeSet<IpNet>, DataPathError> {
    let interfaces = nix::ifaddrs::getifaddrs().map_err(|error| DataPathError::Addresses(error.into()))?;
    Ok(interfaces
        .flat_map(|interface| [interface.address, interface.broadcast])
        .flatten()
        .filter_map(|address| ip(&address))
        .map(IpNet::from)
        .collect())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// A socket that becomes readable whenever an address comes or goes.
#[derive(Debug)]
pub struct Changes(OwnedFd);

impl Changes {
    /// Subscribes to rtnetlink.
    ///
    /// # Errors
    /// [`DataPathError::Addresses`].
    pub fn subscribe() -> Result<Self, DataPathError> {
        let open = || {
            let fd = socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
                SockProtocol::NetlinkRoute,
            )?;
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, ADDRESS_GROUPS))?;
            Ok(Self(fd))
        };
        open().map_err(|error: nix::Error| DataPathError::Addresses(error.into()))
    }

    /// Throws away what was told: the whole list is read again anyway, also after an overrun.
    pub fn drain(&self) {
        let mut buffer = [0; 8192];
        while recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()).is_ok_and(|length| length > 0) {}
    }
}

impl AsRawFd for Changes {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
