//! A server as it is typed.

use std::{net::Ipv6Addr, str::FromStr};

/// A server as typed: a name or an address, without a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host(String);

impl Host {
    /// The name, or the address without brackets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a server cannot be named like that.
#[derive(thiserror::Error, PartialEq, Eq, Debug)]
pub enum HostError {
    /// A port stands behind it.
    #[error("{0} looks like a service port: use --wait tcp/{0} (and --knock-port for the port to knock at)")]
    Port(u16),
    /// It is a URL, a user or a path.
    #[error("give the name or the address of the server alone")]
    NotAHost,
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(HostError::NotAHost)?;
                let port =
                    if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(HostError::NotAHost)?) };
                (host, port)
            }
            None if text.matches(':').count() == 1 => text.split_once(':').map_or((text, None), |(h, p)| (h, Some(p))),
            None => (text, None),
        };
        if let Some(port) = port {
            return Err(port.parse().map_or(HostError::NotAHost, HostError::Port));
        }
        let foreign = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '@' | '[' | ']');
        let colons = host.contains(':') && host.split('%').next().is_none_or(|ip| ip.parse::<Ipv6Addr>().is_err());
        if host.is_empty() || host.contains(foreign) || colons {
            return Err(HostError::NotAHost);
        }
        Ok(Self(host.to_owned()))
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_no_port() {
        for good in ["web-1.example", "192.0.2.7", "2001:db8::7", "::1", "fe80::1%eth0", "localhost"] {
            assert_eq!(good.parse::<Host>().map(|host| host.0), Ok(good.to_owned()));
        }
        assert_eq!("[::1]".parse::<Host>().map(|host| host.0), Ok("::1".to_owned()));
        for bad in ["web-1.example:8443", "192.0.2.7:8443", "[2001:db8::7]:8443"] {
            let error = bad.parse::<Host>().unwrap_err();
            assert_eq!(error, HostError::Port(8443));
            assert!(error.to_string().starts_with("8443 looks like a service port: use --wait tcp/8443"), "{error}");
        }
        for bad in ["", "https://web-1.example", "me@web", "a b", "web:", "web:https", "[::1", "[::1]x", "1:2:3", "a/b"]
        {
            assert_eq!(bad.parse::<Host>(), Err(HostError::NotAHost), "{bad}");
        }
    }
}
