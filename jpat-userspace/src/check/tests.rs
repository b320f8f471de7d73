//! Hosts that a good configuration does not fit.

use super::*;
use crate::datapath::{interfaces::Device, ipsec::Ipsec};

const BASE: &str = r#"mode = "enforce"
[listen]
interfaces = ["eth0"]
[[issuer]]
name = "corp"
issuer = "https://idp.example"
audience = ["a"]
algorithms = ["ES256"]
keys = { discovery = true }
accept = ["bare"]
[[service]]
name = "web"
ports = ["tcp/8443"]
allow = "true"
ttl = "30s"
"#;

fn device(name: &str, hardware: u16, kind: Option<&str>) -> Device {
    Device { name: name.into(), index: 2, hardware, up: true, kind: kind.map(str::to_owned), ..Device::default() }
}

fn facts() -> HostFacts {
    HostFacts {
        devices: Ok(vec![device("eth0", 1, None)]),
        ipsec: None,
        pppoe: vec![],
        mpls: vec![],
        ephemeral: 32_768..=60_999,
        reserved: vec![],
        cpus: 2,
        kubernetes: false,
    }
}

/// Errors and warnings as texts without the file's name.
fn found(from: &str, to: &str, facts: &HostFacts) -> (Vec<String>, Vec<String>) {
    assert_eq!(BASE.matches(from).count(), 1, "{from}");
    let config = Config::for_tests(&BASE.replace(from, to));
    let file = format!("{}:", config.path.display());
    let (errors, warnings) = host(&config, facts);
    let errors = errors.iter().map(|error| error.to_string().replace(&file, "")).collect();
    (errors, warnings.iter().map(|warning| warning.to_string().replace(&file, "")).collect())
}

#[test]
fn a_fitting_host_earns_no_word() {
    assert_eq!(found("tcp/8443", "tcp/8443", &facts()), (vec![], vec![]));
}

#[test]
fn ports_of_own_connections_are_refused_when_they_would_be_dropped() {
    let message = "13:10: service[0].ports[0]: `tcp/32760-32770` lies among the ports of the host's own connections (32768-60999), whose replies would be dropped\n  remedy: use another port, or reserve it: sysctl -w net.ipv4.ip_local_reserved_ports=40000,32768-32770, and in /etc/sysctl.d";
    let mut facts = facts();
    facts.reserved = vec![40_000..=40_000];
    assert_eq!(found("tcp/8443", "tcp/32760-32770", &facts), (vec![message.to_owned()], vec![]));
    facts.reserved = vec![32_768..=33_000];
    assert_eq!(found("tcp/8443", "tcp/32760-32770", &facts), (vec![], vec![]), "reserved is fine");
    facts.reserved = vec![];
    let audit = BASE.replace("enforce", "audit").replace("8443", "40000");
    let (errors, warnings) = host(&Config::for_tests(&audit), &facts);
    assert_eq!((errors.len(), warnings.len()), (0, 1), "audit drops nothing");
    let (errors, _) = found("interfaces = [\"eth0\"]", "interfaces = [\"eth0\"]\nport = 40000", &facts);
    assert!(errors[0].starts_with("4:8: listen.port: 40000 is a port of the host's own"), "{errors:?}");
}

#[test]
fn a_named_device_must_be_there() {
    let absent = "3:15: listen.interfaces[0]: there is no device `eth1`\n  remedy: name devices of this host: eth0";
    assert_eq!(found("\"eth0\"", "\"eth1\"", &facts()), (vec![absent.to_owned()], vec![]));
    let (errors, warnings) = found("\"eth0\"", "\"eth0\", \"eth1\"", &facts());
    assert!(errors.is_empty() && warnings[0].contains("`eth1`; when it appears it is attached to"), "{warnings:?}");
    let (errors, warnings) = found("\"eth0\"", "\"eth0\", \"wl*\"", &facts());
    assert_eq!((errors, warnings.len()), (vec![], 1), "a glob may match nothing, as long as something is protected");
    let (errors, _) = found("\"eth0\"", "\"wl*\"", &facts());
    assert!(errors[0].starts_with("3:14: listen.interfaces: no device: nothing would be protected"), "{errors:?}");
}

#[test]
fn p2_devices_that_are_not_judged_are_named() {
    let mut facts = facts();
    let devices =
        || [device("eth0", 1, None), device("vx0", 1, Some("vxlan")), device("wg0", 65_534, Some("wireguard"))];
    let numbered = || devices().into_iter().zip(2..).map(|(device, index)| Device { index, ..device });
    facts.devices = Ok(numbered().map(|device| Device { port: Some(4789), ..device }).collect());
    let (errors, warnings) = found("\"eth0\"", "\"eth0\"", &facts);
    assert_eq!((errors.len(), warnings.len()), (0, 2));
    assert!(warnings[0].contains("vx0 (vxlan tunnel)") && warnings[0].contains("list \"vx0\" in"), "{warnings:?}");
    assert_eq!(found("\"eth0\"", "\"eth0\", \"vx0\"", &facts).1.len(), 1);
    assert_eq!(found("\"eth0\"", "\"eth0\", \"vx0\", \"wg*\"", &facts), (vec![], vec![]));
    let (_, warnings) = found("\"eth0\"]", "\"eth0\"]\ntunnels = \"drop\"", &facts);
    assert!(warnings.len() == 1 && warnings[0].contains("wg0"), "{warnings:?}");
    facts.ipsec = Some(Ipsec { states: 2, hidden: 0, policies: 1 });
    let (_, warnings) = found("\"eth0\"", "\"eth0\", \"vx0\", \"wg0\"", &facts);
    assert!(warnings.len() == 1 && warnings[0].contains("IPsec is in use (2 states"), "{warnings:?}");
}

#[test]
fn p2_a_device_that_cannot_be_judged_is_refused_by_name_and_told_otherwise() {
    let mut facts = facts();
    facts.devices = Ok(vec![device("eth0", 1, None), Device { index: 3, ..device("gre1", 778, Some("gre")) }]);
    let (errors, _) = found("\"eth0\"", "\"eth0\", \"gre1\"", &facts);
    assert!(errors[0].contains("`gre1` cannot be protected: what XDP sees"), "{errors:?}");
    let (errors, warnings) = found("\"eth0\"", "\"eth0\", \"g*\"", &facts);
    assert_eq!((errors.len(), warnings.len()), (0, 2), "{warnings:?}");
}

#[test]
fn what_is_dropped_below_ip_is_told() {
    let on_eth0 = |name: &str, kind| Device { index: 3, lower: Some(2), ..device(name, 1, Some(kind)) };
    let mut facts = facts();
    let warned = |facts: &HostFacts| found("\"eth0\"", "\"eth0\"", facts).1.join("\n");
    facts.devices = Ok(vec![device("eth0", 1, None), on_eth0("macsec0", "macsec")]);
    assert!(warned(&facts).contains("MACsec (`macsec0`) runs over `eth0`, whose frames are dropped there as l2_encap"));
    facts.devices = Ok(vec![device("eth0", 1, None), on_eth0("v1", "vlan")]);
    assert_eq!(warned(&facts), "");
    let vlan = |index, lower| Device { index, lower: Some(lower), ..device(&format!("v{index}"), 1, Some("vlan")) };
    facts.devices = Ok(vec![device("eth0", 1, None), vlan(3, 2), vlan(4, 3)]);
    assert_eq!(warned(&facts), "");
    facts.devices = Ok(vec![device("eth0", 1, None), vlan(3, 2), vlan(4, 3), vlan(5, 4)]);
    assert!(warned(&facts).contains("`v5`, under more than two VLAN tags, runs over `eth0`"));
    facts.devices = Ok(vec![device("eth0", 1, None)]);
    facts.pppoe = vec!["eth0".into()];
    facts.mpls = vec!["eth0".into(), "eth1".into()];
    let warned = warned(&facts);
    assert!(warned.contains("PPPoE runs over `eth0`") && warned.contains("MPLS runs over `eth0`"), "{warned}");
}

#[test]
fn a_host_that_cannot_be_looked_at_is_refused() {
    let mut facts = facts();
    facts.devices = Err(std::io::Error::from_raw_os_error(97));
    let (errors, _) = found("\"eth0\"", "\"eth0\"", &facts);
    assert!(errors[0].contains("cannot be listed") && errors[0].contains("AF_NETLINK"), "{errors:?}");
}

#[test]
fn p8_a_node_keeps_its_cluster() {
    let mut facts = facts();
    let (errors, warnings) = found("tcp/8443", "tcp/6443", &facts);
    assert_eq!((errors.len(), warnings.len()), (0, 1));
    facts.kubernetes = true;
    let (errors, _) = found("tcp/8443", "tcp/10000-11000", &facts);
    assert!(errors[0].contains("`tcp/10000-11000` holds the port of the kubelet"), "{errors:?}");
    let allowed = BASE.replace("[[issuer]]", "[always_allow]\nsources = [\"10.0.0.0/8\"]\n[[issuer]]");
    let (errors, warnings) = host(&Config::for_tests(&allowed.replace("8443", "10250")), &facts);
    assert_eq!((errors.len(), warnings.len()), (0, 1), "who lets the cluster's networks through may");
    let (_, warnings) = found("tcp/8443", "udp/68", &facts);
    assert!(warnings[0].contains("the DHCP client"), "{warnings:?}");
}

#[test]
fn p4_a_grant_map_without_headroom_is_refused() {
    let mut facts = facts();
    facts.cpus = 16;
    let (errors, _) = found("[[issuer]]", "[limits]\ngrants = 2000\n[[issuer]]", &facts);
    assert!(errors[0].starts_with("5:10: limits.grants: 2000 entries"), "{errors:?}");
    assert!(errors[0].ends_with("use 2112 or more"), "{errors:?}");
    assert_eq!(found("[[issuer]]", "[limits]\ngrants = 2112\n[[issuer]]", &facts), (vec![], vec![]));
}

#[test]
fn a_rule_that_does_not_compile_points_at_its_place() {
    let config = Config::for_tests(&BASE.replace("\"true\"", "'''\ntrue &&\n  clams.sub == \"a\"'''"));
    let errors = rules(&config);
    assert_eq!((errors[0].0.line, errors[0].0.column, errors[0].0.key.as_str()), (16, 3, "service[0].allow"));
    assert!(errors[0].0.message.starts_with("`web`: ") && errors[0].0.message.contains("clams"), "{}", errors[0]);
}

#[test]
fn keys_in_files_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("corp.pem");
    std::fs::write(&path, "no key").unwrap();
    let toml = BASE.replace("{ discovery = true }", &format!("{{ pem_file = '{}' }}", path.display()));
    let errors = static_keys(&Config::for_tests(&toml));
    assert_eq!((errors[0].0.line, errors[0].0.key.as_str()), (9, "issuer[0].keys"));
    assert!(errors[0].0.message.contains("no public key or certificate"), "{}", errors[0]);
    std::fs::write(&path, r#"{"keys": [{"kty": "oct", "k": "AAAA", "kid": "a"}]}"#).unwrap();
    let config = Config::for_tests(&toml.replace("pem_file", "jwks_file"));
    let findings = keys(&config);
    assert_eq!(findings.errors[0].0.message, "no key that can be used");
    assert!(findings.warnings[0].0.message.contains("shared secret"), "{}", findings.warnings[0]);
}
