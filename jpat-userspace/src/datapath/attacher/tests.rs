use serde::{Deserialize, Serialize};

use super::*;

fn target(link_layer: LinkLayer) -> Target {
    Target { ifindex: 7, interface: "eth0".into(), link_layer }
}

fn round_trip<T: Serialize + for<'de> Deserialize<'de> + PartialEq + std::fmt::Debug>(value: T) {
    let text = serde_json::to_string(&value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&text).unwrap(), value, "{text}");
}

#[test]
fn p7_orders_are_plain_data() {
    for (mode, earlier, link_layer) in [
        (AttachMode::Auto, Earlier::Leave, LinkLayer::Ethernet),
        (AttachMode::Driver, Earlier::TakeOver, LinkLayer::Ip),
        (AttachMode::Generic, Earlier::TakeOver, LinkLayer::Ethernet),
    ] {
        round_trip(Order::Attach { target: target(link_layer), mode, earlier, pin: true });
    }
    for order in [Order::Release { ifindex: 7 }, Order::ReleaseOthers, Order::Pin] {
        round_trip(order);
    }
    let text = serde_json::to_string(&Order::Release { ifindex: 7 }).unwrap();
    assert_eq!(text, r#"{"order":"release","ifindex":7}"#);
    assert!(serde_json::from_str::<Order>(r#"{"order":"release","ifindex":7,"also":1}"#).is_err());
}

#[test]
fn p7_answers_are_plain_data() {
    let attached = Attached {
        interface: "tun0".into(),
        ifindex: 7,
        link_layer: LinkLayer::Ip,
        hook: Hook::Generic,
        program: "jpat_l3".into(),
        program_id: 9,
        why: Some("a device without an Ethernet header has no driver hook".into()),
    };
    for answer in [Answer::Attached(attached), Answer::Left, Answer::Released(vec![3, 4]), Answer::Pinned] {
        round_trip(answer);
    }
}

#[test]
fn p7_refusals_are_plain_data() {
    let cause = Cause { code: Some(95), text: "Operation not supported (os error 95)".into() };
    let foreign = Foreign { id: 3, name: Some("other".into()), user: Some(0), link: None };
    for refused in [
        Refused::NoInterface("eth0".into()),
        Refused::Changed("eth0".into()),
        Refused::Busy { interface: "eth0".into(), programs: vec![foreign] },
        Refused::OtherNamespace("/sys/fs/bpf/jpat/abi2/link-7-driver".into()),
        Refused::Hook { interface: "eth0".into(), hook: Hook::Driver, cause: cause.clone() },
        Refused::NotPinnable("eth0".into()),
        Refused::Link { interface: "eth0".into(), cause: cause.clone() },
        Refused::Pin { path: "/sys/fs/bpf/jpat".into(), cause: cause.clone() },
        Refused::Program { program: "jpat_l3".into(), cause: cause.clone() },
        Refused::Devices(cause),
    ] {
        round_trip(refused);
    }
}
