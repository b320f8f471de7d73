//! What other packet-filter knockers were found to let through, each by the name of the one it was found in.

use jpat_common::reason::{DropReason, PassReason};

use super::{
    Case, Expected, dropped, no_grant, of_service, passed,
    scene::{Family, Scene, patched},
};
use crate::packet::{DESTINATION_OPTIONS, SYN, TCP, UDP, extended, fragment, tagged};

/// Source ports that one of them trusts: FTP data, SSH, DNS, DHCP, HTTP, NTP, HTTPS, DHCPv6, mDNS, and none.
const TRUSTED: [u16; 12] = [0, 20, 22, 53, 67, 68, 80, 123, 443, 546, 547, 5353];

pub(super) fn cases(scene: &Scene) -> Vec<Case> {
    let (path, host) = (scene.path(), &scene.host);
    let mut cases = Vec::new();
    for family in Family::BOTH {
        let name = family.name();
        let tcp = path.tcp(family, host.port, SYN, &[]);
        let udp = path.udp(family, host.port, b"hello");
        for port in TRUSTED {
            let segment = path.sent_from(family, TCP, port, tcp.clone());
            let datagram = path.sent_from(family, UDP, port, udp.clone());
            cases.extend([
                Case::one(
                    format!("hole/opennhp/{name}/tcp-from-port-{port}"),
                    no_grant(path.frame(family, TCP, &segment)),
                ),
                Case::one(
                    format!("hole/opennhp/{name}/udp-from-port-{port}"),
                    no_grant(path.frame(family, UDP, &datagram)),
                ),
            ]);
        }
        let from_itself = path.sent_from(family, TCP, host.port, tcp.clone());
        cases.extend([
            Case::one(format!("hole/secure-port-knock/{name}/udp-beside-tcp"), no_grant(path.frame(family, UDP, &udp))),
            Case::one(
                format!("hole/opennhp/{name}/from-the-protected-port"),
                no_grant(path.frame(family, TCP, &from_itself)),
            ),
            Case::one(format!("hole/spale/{name}/vlan-tag"), no_grant(tagged(0x8100, 42, &scene.syn(family)))),
            Case::one(
                format!("hole/spk/{name}/two-vlan-tags"),
                no_grant(tagged(0x88a8, 42, &tagged(0x8100, 42, &scene.syn(family)))),
            ),
            Case::one(
                format!("hole/phantom-grid/{name}/static-token-in-the-syn"),
                no_grant(path.frame(family, TCP, &path.tcp(family, host.port, SYN, b"a static token"))),
            ),
        ]);
        for (label, flags) in
            [("ack", 0x10), ("rst", 0x04), ("fin", 0x01), ("push-ack", 0x18), ("null", 0), ("xmas", 0x29)]
        {
            let frame = path.frame(family, TCP, &path.tcp(family, host.port, flags, b"data"));
            cases.push(Case::one(format!("hole/spk/{name}/non-syn-{label}"), no_grant(frame)));
        }
        for length in [1, 2, 3, 4, 8, 13, 14, 16, 19] {
            let frame = path.frame(family, TCP, &tcp[..length]);
            let expected = dropped(frame, DropReason::TruncatedL4);
            cases.push(Case::one(format!("hole/spale/{name}/tcp-cut-at-{length}"), expected));
        }
        let odd_offset = path.frame(family, TCP, &patched(tcp.clone(), 12, &[0x10]));
        cases
            .push(Case::one(format!("hole/spale/{name}/odd-header"), of_service(odd_offset, DropReason::BadTcpHeader)));
        // Sequences of ports open nothing.
        let syn_to = |port| path.frame(family, TCP, &path.tcp(family, port, SYN, &[]));
        let mut sequence: Vec<_> =
            [7000, 8000, 9000].map(|port| passed(syn_to(port), PassReason::UnprotectedPort)).into();
        sequence.push(no_grant(syn_to(host.port)));
        cases.push(Case::all(format!("hole/knock-knock/{name}/port-sequence"), sequence));
        let knock = Expected {
            frame: path.frame(family, UDP, &path.udp(family, host.knock_port, b"even so, not a token")),
            verdict: jpat_ebpf::verdict::Verdict::Knock,
            of_service: false,
        };
        cases.push(Case::all(
            format!("hole/warlock/{name}/a-knock-alone-opens-nothing"),
            vec![knock, no_grant(syn_to(host.port))],
        ));
    }
    let syn4 = path.tcp(Family::V4, host.port, SYN, &[0; 12]);
    let syn6 = path.tcp(Family::V6, host.port, SYN, &[0; 12]);
    let forged = path.tcp(Family::V4, host.free_port, SYN, &[]);
    let knocked = path.udp(Family::V4, host.knock_port, b"hello");
    let first4 = path.ip(Family::V4, &path.v4(TCP, 0x2000, &[], &syn4[..24]));
    let first6 = path.frame(Family::V6, 44, &fragment(TCP, 0, true, &syn6[..24]));
    let last4 = path.ip(Family::V4, &path.v4(TCP, 3, &[], &syn4));
    let (options, behind) = extended(&[DESTINATION_OPTIONS], TCP, &syn6);
    cases.extend([
        Case::one("hole/opennhp/v6-is-judged", no_grant(scene.syn(Family::V6))),
        Case::one(
            "hole/secure-port-knock/v6-is-judged",
            no_grant(path.frame(Family::V6, UDP, &path.udp(Family::V6, host.port, b"hello"))),
        ),
        Case::one("hole/opennhp/ports-in-options", no_grant(path.ip(Family::V4, &path.v4(TCP, 0, &forged, &syn4)))),
        Case::one(
            "hole/opennhp/knock-port-in-options",
            no_grant(path.ip(Family::V4, &path.v4(TCP, 0, &knocked, &syn4))),
        ),
        Case::one("hole/spk/v4-more-fragments", of_service(first4, DropReason::FirstFragment)),
        Case::one("hole/spk/v6-fragment-header", of_service(first6, DropReason::FirstFragment)),
        Case::one("hole/spk/last-fragment-read-as-tcp", passed(last4, PassReason::LaterFragment)),
        Case::one("hole/spale/v6-extension-header", no_grant(path.frame(Family::V6, options, &behind))),
    ]);
    cases
}
