//! What the checks know of the host.

use std::{fs, io, ops::RangeInclusive, path::Path};

use crate::datapath::{
    interfaces::{self, Device},
    ipsec::{self, Ipsec},
};

/// Facts of a host, read once so that tests can make them up.
#[derive(Debug)]
pub struct HostFacts {
    /// Network devices, or why they cannot be listed.
    pub devices: io::Result<Vec<Device>>,
    /// What IPsec there is; nothing where the kernel does not tell, which needs CAP_NET_ADMIN.
    pub ipsec: Option<Ipsec>,
    /// Names of the devices that PPPoE sessions run over.
    pub pppoe: Vec<String>,
    /// Names of the devices that take MPLS packets.
    pub mpls: Vec<String>,
    /// Ports that the kernel takes for the host's own connections (`ip_local_port_range`).
    pub ephemeral: RangeInclusive<u16>,
    /// Ports that it leaves out of those (`ip_local_reserved_ports`).
    pub reserved: Vec<RangeInclusive<u16>>,
    /// CPUs that the host may ever have.
    pub cpus: u32,
    /// Whether the host looks like a Kubernetes node.
    pub kubernetes: bool,
}

impl HostFacts {
    /// Asks this host. What cannot be read has the kernel's default.
    #[must_use]
    pub fn read() -> Self {
        let sysctl = |name: &str| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
        Self {
            devices: interfaces::list(),
            ipsec: ipsec::read().ok(),
            pppoe: pppoe(&fs::read_to_string("/proc/net/pppoe").unwrap_or_default()),
            mpls: mpls(Path::new("/proc/sys/net/mpls/conf")),
            ephemeral: pair(&sysctl("ip_local_port_range")).unwrap_or(32_768..=60_999),
            reserved: ranges(&sysctl("ip_local_reserved_ports")),
            cpus: aya::util::nr_cpus().ok().and_then(|cpus| u32::try_from(cpus).ok()).unwrap_or(1),
            kubernetes: std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
                || ["/etc/kubernetes", "/var/lib/kubelet"].iter().any(|path| Path::new(path).exists()),
        }
    }
}

/// The third column of what the kernel prints below "Id Address Device".
fn pppoe(table: &str) -> Vec<String> {
    table.lines().skip(1).filter_map(|row| row.split_whitespace().nth(2).map(str::to_owned)).collect()
}

fn mpls(conf: &Path) -> Vec<String> {
    let takes = |name: &str| fs::read_to_string(conf.join(name).join("input")).is_ok_and(|text| text.trim() == "1");
    let names = fs::read_dir(conf).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| takes(name)).collect()
}

fn pair(text: &str) -> Option<RangeInclusive<u16>> {
    let mut words = text.split_whitespace();
    Some(words.next()?.parse().ok()?..=words.next()?.parse().ok()?)
}

/// "8080,9148-9150"
fn ranges(text: &str) -> Vec<RangeInclusive<u16>> {
    let parts = text.trim().split(',');
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    parts.filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_encapsulations_are_found() {
        let table = "Id       Address              Device\n0100     02:00:00:00:00:01 eth1\n";
        assert_eq!(pppoe(table), ["eth1"]);
        assert_eq!(pppoe(""), [""; 0]);
        let conf = tempfile::tempdir().unwrap();
        for (name, input) in [("eth0", "0\n"), ("eth1", "1\n")] {
            fs::create_dir(conf.path().join(name)).unwrap();
            fs::write(conf.path().join(name).join("input"), input).unwrap();
        }
        assert_eq!(mpls(conf.path()), ["eth1"]);
        assert_eq!(mpls(&conf.path().join("absent")), [""; 0]);
    }

    #[test]
    fn sysctls_are_read_as_the_kernel_writes_them() {
        assert_eq!(pair("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(ranges("8080,9148-9150\n"), [8080..=8080, 9148..=9150]);
        assert!(ranges("\n").is_empty());
    }
}
