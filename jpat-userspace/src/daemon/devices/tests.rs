use super::*;
use crate::{
    config::{Config, Listen},
    datapath::{
        attach::Hook,
        attacher::Cause,
        interfaces::{LinkLayer, Target},
    },
};

const OURS: u32 = 77;

fn at(millis: u64) -> BootTime {
    BootTime::default().after(Duration::from_millis(millis))
}

fn listen(interfaces: &str) -> Listen {
    Config::for_tests(&format!(
        r#"mode = "enforce"
           [listen]
           interfaces = {interfaces}
           [[issuer]]
           name = "corp"
           issuer = "https://idp.example"
           audience = ["a"]
           algorithms = ["ES256"]
           keys = {{ discovery = true }}
           accept = ["bare"]
           [[service]]
           name = "web"
           ports = ["tcp/8443"]
           allow = "true"
           ttl = "30s""#
    ))
    .listen
}

fn device(index: u32, name: &str, is_attached: bool) -> Device {
    let xdp_programs = if is_attached { vec![OURS] } else { vec![] };
    Device { name: name.into(), index, hardware: 1, up: true, xdp_programs, ..Device::default() }
}

fn attached(index: u32, name: &str) -> Attached {
    Attached {
        interface: name.into(),
        ifindex: index,
        link_layer: LinkLayer::Ethernet,
        hook: Hook::Driver,
        program: "jpat_frags".into(),
        program_id: OURS,
        why: None,
    }
}

fn orders(devices: &mut Devices, seen: &[Device], attached: &[Attached], listen: &Listen, now: BootTime) -> Vec<Order> {
    devices.handle_devices(Seen { devices: seen, attached, listen, pin: true }, now)
}

fn attach(index: u32, name: &str, listen: &Listen) -> Order {
    let target = Target { ifindex: index, interface: name.into(), link_layer: LinkLayer::Ethernet };
    Order::Attach { target, mode: listen.attach, earlier: Earlier::TakeOver, pin: true }
}

fn refused() -> Result<Answer, Refused> {
    let cause = Cause { code: Some(95), text: "Operation not supported".into() };
    Err(Refused::Hook { interface: "eth1".into(), hook: Hook::Driver, cause })
}

#[test]
fn p2_what_appears_is_attached_and_what_goes_is_forgotten() {
    let listen = listen(r#"["eth*"]"#);
    let mut devices = Devices::new(at(0));
    let both = [device(2, "eth0", true), device(3, "eth1", false), device(4, "veth1", false)];
    let found = orders(&mut devices, &both, &[attached(2, "eth0")], &listen, at(0));
    assert_eq!(found, [attach(3, "eth1", &listen)]);
    let one = [device(2, "eth0", true)];
    let found = orders(&mut devices, &one, &[attached(2, "eth0"), attached(3, "eth1")], &listen, at(1));
    assert_eq!(found, [Order::Release { ifindex: 3 }]);
}

#[test]
fn p4_a_program_that_was_taken_away_is_put_back_and_counted() {
    let listen = listen(r#"["eth0"]"#);
    let mut devices = Devices::new(at(0));
    let order = attach(2, "eth0", &listen);
    let found = orders(&mut devices, &[device(2, "eth0", false)], &[attached(2, "eth0")], &listen, at(0));
    assert_eq!(found, std::slice::from_ref(&order));
    devices.handle_answer(&order, true, &Ok(Answer::Attached(attached(2, "eth0"))), at(0));
    assert_eq!(devices.restored(), 1);
    // Another device under the number and name of the old one.
    let tun = Device { hardware: 0xfffe, is_tun: true, kind: Some("tun".into()), ..device(2, "eth0", false) };
    let found = orders(&mut devices, &[tun], &[attached(2, "eth0")], &listen, at(1));
    let target = Target { ifindex: 2, interface: "eth0".into(), link_layer: LinkLayer::Ip };
    let anew = Order::Attach { target, mode: listen.attach, earlier: Earlier::TakeOver, pin: true };
    assert_eq!(found, [Order::Release { ifindex: 2 }, anew]);
}

#[test]
fn p2_a_device_that_cannot_be_had_is_an_alarm_and_tried_again_ever_more_rarely() {
    let listen = listen(r#"["eth1"]"#);
    let mut devices = Devices::new(at(0));
    let (seen, order) = ([device(3, "eth1", false)], attach(3, "eth1", &listen));
    let mut now = at(0);
    let mut attempts = Vec::new();
    for second in 0..400u64 {
        now = at(second * 1000);
        if orders(&mut devices, &seen, &[], &listen, now).contains(&order) {
            attempts.push(second);
            devices.handle_answer(&order, false, &refused(), now);
        }
        assert_eq!(devices.unready().len(), 1);
        assert!(devices.unready()[0].contains("eth1 is not protected: attaching to eth1 (driver mode)"));
        assert!(!devices.unready()[0].contains('\n'));
    }
    assert_eq!(attempts, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243, 303, 363]);
    // It is forgotten with its device, and with it what it had to wait.
    assert!(orders(&mut devices, &[], &[], &listen, now).is_empty());
    assert!(devices.unready().is_empty());
    assert_eq!(devices.waiting(), ["eth1"]);
    assert_eq!(orders(&mut devices, &seen, &[], &listen, now), std::slice::from_ref(&order));
    devices.handle_answer(&order, false, &Ok(Answer::Attached(attached(3, "eth1"))), now);
    assert!(devices.unready().is_empty() && devices.waiting().is_empty());
    assert_eq!(devices.restored(), 0, "it was never there");
}

#[test]
fn p2_a_change_is_looked_at_at_once_and_a_storm_is_coalesced() {
    let listen = listen(r#"["eth0"]"#);
    let mut devices = Devices::new(at(0));
    assert_eq!(devices.poll_timeout(), at(0));
    let seen = [device(2, "eth0", true)];
    let attached = [attached(2, "eth0")];
    let look = |devices: &mut Devices, began, ended| {
        let seen = Seen { devices: &seen, attached: &attached, listen: &listen, pin: true };
        assert!(devices.handle_devices(seen, began).is_empty());
        devices.handle_end(seen, None, began, ended);
    };
    look(&mut devices, at(0), at(0));
    assert_eq!(devices.poll_timeout(), at(250), "without a message");
    devices.handle_change(at(200));
    assert_eq!(devices.poll_timeout(), at(200));
    look(&mut devices, at(200), at(210));
    for change in 210..220 {
        devices.handle_change(at(change));
        assert_eq!(devices.poll_timeout(), at(220), "as long as it took");
    }
    look(&mut devices, at(220), at(223));
    assert_eq!(devices.poll_timeout(), at(823), "a two-hundredth of the time");
    look(&mut devices, at(823), at(923));
    assert_eq!(devices.poll_timeout(), at(1923), "but never longer than a second");
    devices.handle_change(at(924));
    assert_eq!(devices.poll_timeout(), at(973), "nor is a change put off for long");
}

#[test]
fn p2_devices_that_cannot_be_listed_are_an_alarm() {
    let mut devices = Devices::new(at(0));
    devices.handle_blindness("no".to_owned(), at(0), at(0));
    assert!(devices.unready()[0].contains("not known: no"));
    assert_eq!(devices.poll_timeout(), at(250));
    let listen = listen(r#"["eth0"]"#);
    orders(&mut devices, &[device(2, "eth0", true)], &[attached(2, "eth0")], &listen, at(1000));
    assert!(devices.unready().is_empty());
}

#[test]
fn a_renamed_device_keeps_its_program_under_its_new_name() {
    let listen = listen(r#"["eth0"]"#);
    let mut devices = Devices::new(at(0));
    let found = orders(&mut devices, &[device(2, "wan", true)], &[attached(2, "eth0")], &listen, at(0));
    assert_eq!(found, [attach(2, "wan", &listen)]);
}
