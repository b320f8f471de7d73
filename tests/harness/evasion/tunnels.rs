//! T21: packets in packets. They pass by default, for the inner packet comes in through another device; `tunnels = "drop"`
//! refuses them.

use jpat_common::reason::{DropReason, PassReason};

use super::{
    Case, dropped, passed,
    scene::{Family, Scene},
};
use crate::packet::{AUTHENTICATION, UDP, extended, fragment};

pub(super) fn cases(scene: &Scene) -> Vec<Case> {
    let path = scene.path();
    let mut cases = Vec::new();
    for family in Family::BOTH {
        let outer = family.name();
        let inner4 = &scene.syn(Family::V4)[14..];
        let inner6 = &scene.syn(Family::V6)[14..];
        let frame4 = &scene.syn(Family::V4)[..];
        let gre = |protocol: u16, inner: &[u8]| [&[0, 0], &protocol.to_be_bytes()[..], inner].concat();
        let keyed = [&[0x20, 0, 8, 0, 0, 0, 0, 9], inner4].concat();
        let ah = |next| extended(&[AUTHENTICATION], next, inner4);
        for (label, protocol, payload) in [
            ("ipip", 4, inner4.to_vec()),
            ("6in4", 41, inner6.to_vec()),
            ("gre-v4", 47, gre(0x0800, inner4)),
            ("gre-v6", 47, gre(0x86dd, inner6)),
            ("gre-keyed", 47, keyed),
            ("gretap", 47, gre(0x6558, frame4)),
            ("esp", 50, [&[0, 0, 1, 0, 0, 0, 0, 1], inner4].concat()),
            ("mobile-ip", 55, inner4.to_vec()),
            ("ethernet-in-ip", 97, [&[0x30, 0], frame4].concat()),
            ("ipcomp", 108, [&[4, 0, 0, 2], inner4].concat()),
            ("l2tp", 115, [&[0, 0, 0, 1, 0, 0, 0, 0], frame4].concat()),
            ("mpls-in-ip", 137, [&[0, 0, 0x11, 64], inner4].concat()),
            ("ethernet-143", 143, frame4.to_vec()),
        ] {
            let frame = path.frame(family, protocol, &payload);
            let name = format!("T21/{outer}/{label}");
            cases.push(Case::one(name.clone(), passed(frame.clone(), PassReason::Tunnel)));
            cases.push(Case::one(format!("{name}-refused"), dropped(frame, DropReason::Tunnel)).dropping_tunnels());
        }
        let (next, behind) = ah(4);
        let authenticated = path.frame(family, next, &behind);
        cases.push(Case::one(format!("T21/{outer}/ipip-behind-ah"), passed(authenticated.clone(), PassReason::Tunnel)));
        cases.push(
            Case::one(format!("T21/{outer}/ipip-behind-ah-refused"), dropped(authenticated, DropReason::Tunnel))
                .dropping_tunnels(),
        );
        let vxlan = [&[8, 0, 0, 0, 0, 0, 42, 0], frame4].concat();
        let geneve = [&[0, 0, 0x65, 0x58, 0, 0, 42, 0], frame4].concat();
        for (label, port, payload) in [
            ("vxlan", 4789, &vxlan),
            ("vxlan-linux", 8472, &vxlan),
            ("vxlan-gpe", 4790, &vxlan),
            ("geneve", 6081, &geneve),
            ("gue", 6080, &inner4.to_vec()),
            ("esp-in-udp", 4500, &[&[0, 0, 1, 0, 0, 0, 0, 1], inner4].concat()),
            ("l2tp-in-udp", 1701, &[&[0, 2, 0, 1, 0, 1], inner4].concat()),
            ("gtp-u", 2152, &[&[0x30, 0xff, 0, 40, 0, 0, 0, 1], inner4].concat()),
            ("mpls-in-udp", 6635, &[&[0, 0, 0x11, 64], inner4].concat()),
        ] {
            let frame = path.frame(family, UDP, &path.udp(family, port, payload));
            let name = format!("T21/{outer}/{label}");
            cases.push(Case::one(name.clone(), passed(frame.clone(), PassReason::UnprotectedPort)));
            cases.push(Case::one(format!("{name}-refused"), dropped(frame, DropReason::Tunnel)).dropping_tunnels());
        }
    }
    let first4 = path.ip(Family::V4, &path.v4(4, 0x2000, &[], &scene.syn(Family::V4)[14..38]));
    let first6 = path.ip(Family::V6, &path.v6(44, &fragment(41, 0, true, &scene.syn(Family::V6)[14..62])));
    for (name, frame) in [("v4/ipip-first-fragment", first4), ("v6/6in6-first-fragment", first6)] {
        cases.push(Case::one(format!("T21/{name}"), passed(frame.clone(), PassReason::Tunnel)));
        cases.push(Case::one(format!("T21/{name}-refused"), dropped(frame, DropReason::Tunnel)).dropping_tunnels());
    }
    cases
}
