use super::*;

const ETHERNET: u16 = 1;
const NO_HEADER: u16 = 0xfffe;

fn device(index: u32, name: &str, kind: Option<&str>) -> Device {
    let kind = kind.map(str::to_owned);
    Device { name: name.into(), index, hardware: ETHERNET, up: true, kind, ..Device::default() }
}

fn port(device: Device, of: &str, master: u32) -> Device {
    Device { port_of: Some(of.into()), master: Some(master), ..device }
}

fn above(device: Device, lower: u32) -> Device {
    Device { lower: Some(lower), ..device }
}

/// Names of the devices that raise an alarm, and of those that are not judged.
fn found(devices: &[Device], attached: &[u32], drops_tunnels: bool) -> (Vec<String>, Vec<String>) {
    let exposure = of(devices, &attached.iter().copied().collect(), None, drops_tunnels);
    (exposure.exposed.into_iter().flat_map(|exposed| exposed.devices).collect(), exposure.not_judged)
}

#[test]
fn p2_a_physical_device_that_is_not_listed_raises_an_alarm() {
    let host = [device(2, "eth0", None), device(3, "eth1", None)];
    assert_eq!(found(&host, &[2], false).0, ["eth1"]);
    assert_eq!(found(&host, &[2, 3], false).0, [""; 0]);
    let down = [host[0].clone(), Device { up: false, ..host[1].clone() }];
    assert_eq!(found(&down, &[2], false).0, [""; 0]);
    let text = of(&host, &[2].into(), None, false).exposed[0].to_string();
    assert_eq!(
        text,
        "eth1 (physical) is up and not protected: what comes through it reaches protected ports unjudged; \
         remedy: list \"eth1\" or \"external\" in listen.interfaces"
    );
}

#[test]
fn p2_ports_are_judged_on_what_they_hand_their_packets_to() {
    let ports = |of: &'static str| {
        [device(2, "up0", Some(of)), port(device(3, "eth0", None), of, 2), port(device(4, "eth1", None), of, 2)]
    };
    for of in ["bridge", "bond", "team"] {
        assert_eq!(found(&ports(of), &[2], false).0, [""; 0], "{of} attached");
    }
    // A bridge's ports are looked at one by one; a bond is one device.
    assert_eq!(found(&ports("bridge"), &[3], false).0, ["eth1"]);
    assert_eq!(found(&ports("bridge"), &[3, 4], false).0, [""; 0]);
    assert_eq!(found(&ports("bond"), &[], false).0, ["up0"]);
    // A VRF does not run a program on what its members receive.
    assert_eq!(found(&ports("vrf"), &[2], false).0, ["eth0", "eth1"]);
    // A bond that is a bridge port.
    let nested = [
        device(2, "br0", Some("bridge")),
        port(device(3, "bond0", Some("bond")), "bridge", 2),
        port(device(4, "eth0", None), "bond", 3),
    ];
    assert_eq!(found(&nested, &[2], false).0, [""; 0]);
    assert_eq!(found(&nested, &[], false).0, ["bond0"]);
}

#[test]
fn p2_devices_above_are_as_safe_as_those_below() {
    for kind in ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec"] {
        let host = [device(2, "eth0", None), above(device(3, "up0", Some(kind)), 2)];
        assert_eq!(found(&host, &[2], false).0, [""; 0], "{kind}");
        assert_eq!(found(&host, &[], false).0, ["eth0"], "{kind}");
        // To attach above does not judge what the device below takes itself.
        assert_eq!(found(&host, &[3], false).0, ["eth0"], "{kind}");
        let elsewhere = [device(2, "eth0", None), device(3, "up0", Some(kind))];
        assert_eq!(found(&elsewhere, &[2], false).0, ["up0"], "{kind} on a device of another namespace");
    }
}

#[test]
fn p2_tunnels_raise_an_alarm_until_they_are_dropped() {
    let tunnel = |kind: &str| vec![device(2, "eth0", None), above(device(3, "t0", Some(kind)), 2)];
    let vxlan = |port| vec![device(2, "eth0", None), Device { port, ..device(3, "t0", Some("vxlan")) }];
    let wrapped = vec![device(2, "eth0", None), Device { is_wrapped: true, ..device(3, "t0", Some("ipip")) }];
    let rows = [
        (tunnel("gre"), true),
        (tunnel("gretap"), true),
        (tunnel("ipip"), true),
        (tunnel("sit"), true),
        (tunnel("ip6tnl"), true),
        (tunnel("xfrm"), true),
        (tunnel("vti"), true),
        (vxlan(Some(4789)), true),
        (vxlan(Some(8472)), true),
        (vxlan(Some(5000)), false),
        (vxlan(None), false),
        (wrapped, false),
        (tunnel("wireguard"), false),
        (tunnel("tun"), false),
        (tunnel("ppp"), false),
        (tunnel("a-kind-of-tomorrow"), false),
    ];
    for (host, is_dropped) in rows {
        assert_eq!(found(&host, &[2], false).0, ["t0"], "{host:?}");
        assert_eq!(found(&host, &[2], true).0.is_empty(), is_dropped, "{host:?}");
        assert_eq!(found(&host, &[2, 3], false).0, [""; 0], "{host:?}");
    }
}

#[test]
fn what_is_this_hosts_own_is_not_judged_and_raises_no_alarm() {
    let lo = Device { hardware: 772, ..device(1, "lo", None) };
    let host = [lo, device(2, "eth0", None), device(3, "veth1", Some("veth")), device(4, "d0", Some("dummy"))];
    assert_eq!(found(&host, &[2], false), (vec![], ["lo", "veth1", "d0"].map(str::to_owned).to_vec()));
    let bridged = [device(2, "br0", Some("bridge")), port(device(3, "veth1", Some("veth")), "bridge", 2)];
    assert_eq!(found(&bridged, &[2], false), (vec![], vec![]), "judged on the bridge");
}

#[test]
fn p2_remedies_fit_the_device() {
    let remedy = |device: Device, drops_tunnels| {
        let bridge = Device { up: false, ..self::device(9, "br0", Some("bridge")) };
        of(&[device, bridge], &BTreeSet::new(), None, drops_tunnels).exposed[0].remedy.clone()
    };
    let vxlan = Device { port: Some(4789), ..device(2, "vx0", Some("vxlan")) };
    assert_eq!(remedy(vxlan, false), "list \"vx0\" in listen.interfaces, or set listen.tunnels = \"drop\"");
    let gre = Device { hardware: 778, ..device(2, "gre1", Some("gre")) };
    let text = remedy(gre, false);
    assert!(text.starts_with("it cannot be attached to (what XDP sees of its packets is not known)"), "{text}");
    assert!(text.ends_with("or set listen.tunnels = \"drop\""), "{text}");
    let wireguard = Device { hardware: NO_HEADER, ..device(2, "wg0", Some("wireguard")) };
    assert_eq!(remedy(wireguard, true), "list \"wg0\" in listen.interfaces");
    let tap = port(device(2, "tap0", Some("tun")), "bridge", 9);
    assert_eq!(remedy(tap, false), "list \"tap0\" in listen.interfaces, or its bridge \"br0\"");
}

#[test]
fn p2_ipsec_raises_an_alarm_without_a_device() {
    let alarm = |ipsec, drops_tunnels| of(&[], &BTreeSet::new(), Some(ipsec), drops_tunnels).exposed.len();
    let ipsec = |states, hidden, policies| Ipsec { states, hidden, policies };
    assert_eq!(alarm(ipsec(0, 0, 0), false), 0);
    assert_eq!(alarm(ipsec(0, 0, 1), false), 1);
    assert_eq!(alarm(ipsec(2, 0, 0), false), 1);
    assert_eq!(alarm(ipsec(2, 0, 2), true), 0, "ESP is dropped");
    assert_eq!(alarm(ipsec(2, 1, 2), true), 1, "except where it is hidden");
}

#[test]
fn p2_source_routing_raises_an_alarm_on_attached_devices_too() {
    let device = Device { unpacks_source_routing: true, ..device(2, "eth0", None) };
    let exposed = of(std::slice::from_ref(&device), &[2].into(), None, false).exposed;
    assert_eq!((exposed.len(), exposed[0].devices.as_slice()), (1, ["eth0".to_owned()].as_slice()));
    assert!(exposed[0].to_string().contains("tunnels = \"drop\""), "{}", exposed[0]);
    assert!(of(&[device], &[2].into(), None, true).exposed.is_empty(), "what it carries is dropped as a tunnel");
}
