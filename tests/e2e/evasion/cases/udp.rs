//! UDP from the ports that other filters let through (DNS, DHCP, NTP, IKE), and from port 0.

use jpat_common::reason::DropReason::NoGrant;
use jpat_tests::crafted::Ends;

use crate::evasion::{
    case::Case,
    shot::{UDP4, UDP6},
};

const TRUSTED: [u16; 17] = [0, 53, 67, 68, 123, 137, 161, 443, 500, 546, 547, 853, 1337, 1900, 4500, 5353, 65_535];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [UDP4, UDP6] {
        for source_port in TRUSTED {
            cases.push(Case::new(format!("from_port_{source_port}"), kind, NoGrant, move |shot| {
                let ends = Ends { source_port, ..shot.ends(kind.family) };
                shot.frame(kind.ether_type(), &shot.packet(kind.family, kind.protocol(), &shot.segment_of(kind, &ends)))
            }));
        }
        cases.push(Case::new("from_the_protected_port_itself", kind, NoGrant, move |shot| {
            let ends = Ends { source_port: shot.port, ..shot.ends(kind.family) };
            shot.frame(kind.ether_type(), &shot.packet(kind.family, kind.protocol(), &shot.segment_of(kind, &ends)))
        }));
        cases.push(Case::new("of_one_frame", kind, NoGrant, move |shot| {
            let ends = shot.ends(kind.family);
            let mut payload = shot.payload();
            payload.resize(1_400, b'.');
            shot.frame(kind.ether_type(), &shot.packet(kind.family, kind.protocol(), &ends.udp(&payload)))
        }));
    }
    cases
}
