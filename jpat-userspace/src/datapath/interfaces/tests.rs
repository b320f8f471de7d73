use super::*;

const NO_HEADER: u16 = 0xfffe;

fn device(name: &str, hardware: u16, kind: Option<&str>, port_of: Option<&str>) -> Device {
    let (kind, port_of) = (kind.map(str::to_owned), port_of.map(str::to_owned));
    Device { name: name.into(), index: 1, hardware, up: true, kind, port_of, ..Device::default() }
}

fn host() -> Vec<Device> {
    vec![
        device("lo", LOOPBACK, None, None),
        device("eth0", ETHERNET, None, None),
        device("eth1", ETHERNET, None, Some("bond")),
        device("eth2", ETHERNET, None, Some("bridge")),
        device("bond0", ETHERNET, Some("bond"), None),
        device("br0", ETHERNET, Some("bridge"), None),
        device("veth7", ETHERNET, Some("veth"), Some("bridge")),
        device("wwan0", RAW_IP, None, None),
        device("wg0", NO_HEADER, Some("wireguard"), None),
        device("xfrm0", NO_HEADER, Some("xfrm"), None),
    ]
}

fn resolved(patterns: &[InterfacePattern]) -> (Vec<String>, Vec<usize>) {
    let Resolution { targets, unmatched, .. } = resolve(patterns, &host());
    (targets.into_iter().map(|target| target.interface).collect(), unmatched)
}

#[test]
fn external_is_what_faces_the_network() {
    let faces = ["bond0", "eth0", "wwan0"].map(str::to_owned).to_vec();
    assert_eq!(resolved(&[InterfacePattern::External]), (faces, vec![]));
}

#[test]
fn globs_take_what_can_be_judged_but_loopback() {
    let glob = |text: &str| InterfacePattern::Glob(text.into());
    assert_eq!(resolved(&[glob("eth?"), glob("e*0")]).0, ["eth0", "eth1", "eth2"]);
    let all = resolve(&[glob("*")], &host());
    assert_eq!((all.targets.len(), all.unreadable.len(), all.unmatched.len()), (8, 1, 0));
    assert!(all.unreadable.contains_key("xfrm0"));
    assert_eq!(resolved(&[glob("wl*")]), (vec![], vec![0]));
}

#[test]
fn a_name_is_that_device_or_unmatched() {
    let name = |text: &str| InterfacePattern::Name(text.into());
    let found = resolved(&[name("br0"), name("eth9"), name("wg0"), name("lo")]);
    assert_eq!(found, (vec!["br0".into(), "lo".into(), "wg0".into()], vec![1]));
}

#[test]
fn p2_each_device_gets_the_program_for_its_packets() {
    let all = resolve(&[InterfacePattern::Glob("*".into())], &host());
    for target in all.targets {
        let without = matches!(target.interface.as_str(), "wg0" | "wwan0");
        let wanted = if without { LinkLayer::Ip } else { LinkLayer::Ethernet };
        assert_eq!(target.link_layer, wanted, "{}", target.interface);
    }
}

#[test]
fn the_kernel_lists_the_devices_of_this_namespace() {
    let devices = list().unwrap();
    let loopback = devices.iter().find(|device| device.name == "lo").unwrap();
    assert_eq!((loopback.index, loopback.hardware, loopback.is_external()), (1, LOOPBACK, false));
    assert!(loopback.mtu >= 1280, "{loopback:?}");
    let names: Vec<_> =
        nix::net::if_::if_nameindex().unwrap().iter().map(|i| i.name().to_string_lossy().into_owned()).collect();
    assert_eq!(devices.iter().map(|device| device.name.clone()).collect::<Vec<_>>(), names);
}
