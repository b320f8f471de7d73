//! This host's addresses: what `destinations = "local"` means.

mod changes;
mod routes;

use std::{collections::BTreeSet, io, net::IpAddr};

use ipnet::IpNet;
use jpat_common::settings::MAX_PREFIXES;
use nix::sys::socket::SockaddrStorage;

pub use self::changes::{Changes, Told};
use super::error::DataPathError;

/// What this network namespace takes for its own: the addresses of all interfaces and the broadcast addresses that
/// they name, and what the routing tables say is local (prefixes too), broadcast or anycast. The tables know of
/// broadcast addresses that no interface names, of subnet-router anycast (RFC 4291 §2.6.1), and of AnyIP.
///
/// # Errors
/// [`DataPathError::Addresses`], and [`DataPathError::TooManyAddresses`] for more than the program's table holds.
pub fn local() -> Result<BTreeSet<IpNet>, DataPathError> {
    let addresses = read().map_err(DataPathError::Addresses)?;
    match addresses.len() {
        count if count > MAX_PREFIXES as usize => Err(DataPathError::TooManyAddresses(count)),
        _fits => Ok(addresses),
    }
}

fn read() -> io::Result<BTreeSet<IpNet>> {
    let interfaces = nix::ifaddrs::getifaddrs()?;
    let named = interfaces.flat_map(|interface| [interface.address, interface.broadcast]).flatten();
    let mut addresses: BTreeSet<_> = named.filter_map(|address| ip(&address)).map(IpNet::from).collect();
    addresses.extend(routes::local()?);
    Ok(addresses)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p2_the_routing_tables_tell_more_than_the_interfaces() {
        let local = local().unwrap();
        for net in ["127.0.0.1/32", "127.0.0.0/8"] {
            assert!(local.contains(&net.parse().unwrap()), "{net} of {local:?}");
        }
        assert!(local.iter().all(|net| net.prefix_len() > 0), "{local:?}");
    }
}
