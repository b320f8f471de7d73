//! Single values: what a string in the file means.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use jsonwebtoken::Algorithm;

use super::{InterfacePattern, PortRange, Protocol};
use crate::knock::inner::{is_server_id, is_service};

/// Names of RFC 7518 §3.1 and RFC 8037 that the verifier knows.
pub(super) const ALGORITHMS: [(&str, Algorithm); 12] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
];

/// Longest name of a Linux network device (`IFNAMSIZ` less the final zero).
const MAX_INTERFACE_NAME: usize = 15;

/// What is wrong with a value, and what to write instead.
pub(super) type Complaint = (String, String);

/// `tcp/22`, `udp/5000-5010`.
pub(super) fn ports(text: &str) -> Result<PortRange, Complaint> {
    let form = || (format!("`{text}` is no port"), "write tcp/8443 or udp/5000-5010".to_owned());
    let (protocol, numbers) = text.split_once('/').ok_or_else(form)?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err(form()),
    };
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let number = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => digits.parse::<u16>().ok().filter(|port| *port > 0),
        false => None,
    };
    let (Some(first), Some(last)) = (number(first), number(last)) else {
        return Err((
            format!("`{text}` is no port"),
            "ports are numbers from 1 to 65535: tcp/8443, udp/5000-5010".into(),
        ));
    };
    if first > last {
        return Err((
            format!("the range `{text}` runs backwards"),
            format!("write {}/{last}-{first}", protocol_name(protocol)),
        ));
    }
    Ok(PortRange { protocol, first, last })
}

const fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// An address, or a prefix without bits beyond its length. IPv6 prefixes never hold IPv4-mapped addresses, because
/// the data path keeps IPv4 as those: `::/64` would mean every IPv4 address as well.
pub(super) fn prefix(text: &str) -> Result<IpNet, Complaint> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_said_below| {
            let address = text.split_once('/').map(|(address, _)| address.parse::<IpAddr>());
            let cause = match address {
                Some(Ok(IpAddr::V4(_))) => "its length is not 0 to 32",
                Some(Ok(IpAddr::V6(_))) => "its length is not 0 to 128",
                Some(Err(_)) | None => "there is no address in front",
            };
            let remedy = "write 192.0.2.0/24, 2001:db8::/32 or a single address".to_owned();
            (format!("`{text}` is no prefix: {cause}"), remedy)
        })?,
    };
    if net.trunc() != net {
        return Err((format!("`{text}` has bits set beyond its length"), format!("write {}", net.trunc())));
    }
    if let IpNet::V6(v6) = net {
        let mapped = ipnet::Ipv6Net::new_assert("::ffff:0:0".parse().unwrap_or(std::net::Ipv6Addr::UNSPECIFIED), 96);
        if v6.contains(&mapped) || mapped.contains(&v6) {
            let remedy = "write IPv4 prefixes as such; for all of global IPv6, 2000::/3".to_owned();
            return Err((format!("`{text}` overlaps ::ffff:0:0/96, the IPv4-mapped addresses"), remedy));
        }
    }
    Ok(net)
}

/// "30s", "10m", "1h 30m", "0.5s": jiff's friendly format and ISO 8601, with hours as the largest unit.
pub(super) fn duration(text: &str) -> Result<Duration, Complaint> {
    jiff::fmt::friendly::SpanParser::new().parse_unsigned_duration(text).map_err(|_no_calendar_units| {
        let remedy = "write hours, minutes or seconds: \"30s\", \"10m\", \"12h\"; a day is \"24h\"".to_owned();
        (format!("`{text}` is no duration"), remedy)
    })
}

/// A name that goes into file names, labels and messages; a sealed knock can carry a service's.
pub(super) fn name(text: &str) -> Result<(), Complaint> {
    if is_service(text) {
        return Ok(());
    }
    Err((format!("`{text}` is no name"), "use 1 to 64 letters, digits, `.`, `_`, `-`, and no `.` in front".into()))
}

/// Part of what knocks are bound to (`docs/protocol.md` §3).
pub(super) fn server_id(text: &str) -> Result<(), Complaint> {
    if is_server_id(text) {
        return Ok(());
    }
    Err((format!("`{text}` is no server id"), "use 1 to 64 printable ASCII characters without spaces".into()))
}

/// An entry of `listen.interfaces`.
pub(super) fn interface(text: &str) -> Result<InterfacePattern, Complaint> {
    if text == "external" {
        return Ok(InterfacePattern::External);
    }
    if text.contains(['[', ']', '{', '}']) {
        return Err((format!("`{text}` is no glob that is known here"), "use `*` and `?` alone".into()));
    }
    let glob = text.contains(['*', '?']);
    let too_long = !glob && text.len() > MAX_INTERFACE_NAME;
    if text.is_empty() || too_long || text.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
        let remedy = "a device name has 1 to 15 characters, without `/` and blanks (see `ip link`)".to_owned();
        return Err((format!("`{text}` is no device name"), remedy));
    }
    Ok(if glob { InterfacePattern::Glob(text.to_owned()) } else { InterfacePattern::Name(text.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges() {
        assert_eq!(ports("tcp/22").unwrap().to_string(), "tcp/22");
        assert_eq!(ports("udp/5000-5010").unwrap().to_string(), "udp/5000-5010");
        for bad in ["22", "tcp/0", "tcp/65536", "tcp/+22", "sctp/22", "tcp/", "tcp/1-", "TCP/22", "tcp/22 "] {
            assert!(ports(bad).is_err(), "{bad}");
        }
        assert_eq!(ports("tcp/9-8").unwrap_err().1, "write tcp/8-9");
    }

    #[test]
    fn p2_no_ipv6_prefix_holds_ipv4_unsaid() {
        for bad in ["::/0", "::/64", "::ffff:0:0/96", "::ffff:192.0.2.1", "::ffff:192.0.2.0/120", "::/8"] {
            assert!(prefix(bad).unwrap_err().0.contains("IPv4-mapped"), "{bad}");
        }
        assert!(prefix("2000::/3").is_ok() && prefix("::1").is_ok());
        assert_eq!(prefix("192.0.2.7").unwrap().to_string(), "192.0.2.7/32");
        assert_eq!(prefix("192.0.2.7/28").unwrap_err().1, "write 192.0.2.0/28");
    }

    #[test]
    fn durations_go_up_to_hours() {
        assert_eq!(duration("30s").unwrap(), Duration::from_secs(30));
        assert_eq!(duration("1h 30m").unwrap(), Duration::from_secs(5400));
        for bad in ["30", "1d", "-5s", "soon", ""] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn interfaces_are_names_globs_or_external() {
        assert_eq!(interface("external").unwrap(), InterfacePattern::External);
        assert_eq!(interface("en*").unwrap(), InterfacePattern::Glob("en*".into()));
        assert_eq!(interface("eth0.7").unwrap(), InterfacePattern::Name("eth0.7".into()));
        for bad in ["", "a/b", "sixteencharsname", "eth[01]", "eth 0"] {
            assert!(interface(bad).is_err(), "{bad}");
        }
    }
}
