//! Every way of carrying a segment that JPAT follows, times who sends it and where to.

use jpat_common::reason::{DropReason, PassReason};
use jpat_ebpf::verdict::Verdict;

use super::Vector;
use crate::{
    packet::{
        AUTHENTICATION, DESTINATION_OPTIONS, ETHER_IPV4, ETHER_IPV6, FRAGMENT, HIP, HOP_BY_HOP, MOBILITY, ROUTING,
        SHIM6, SYN, TCP, UDP, ethernet, extended, ipv4, ipv6, tagged, tcp, udp,
    },
    world::{
        ALLOWED, ENDED, FREE_PORT, GRANTED, HOST4, HOST6, KNOCK_PORT, OTHER4, OTHER6, REVOKED, SSH, SSH_PORT, STRANGER,
        Sender, TOO_LONG, WEB, WEB_PORT,
    },
};

/// A way of carrying a segment: name, version, headers in between, tags.
struct Carrier {
    name: String,
    is_v6: bool,
    options: Vec<u8>,
    extensions: Vec<u8>,
    tags: Vec<u16>,
}

impl Carrier {
    fn frame(&self, sender: &Sender, to_other: bool, protocol: u8, segment: &[u8]) -> Vec<u8> {
        let (next, payload) = extended(&self.extensions, protocol, segment);
        let frame = if self.is_v6 {
            let destination = if to_other { OTHER6 } else { HOST6 };
            ethernet(ETHER_IPV6, &ipv6(sender.v6, destination, next, &payload))
        } else {
            let destination = if to_other { OTHER4 } else { HOST4 };
            ethernet(ETHER_IPV4, &ipv4(sender.v4, destination, next, 0, &self.options, &payload))
        };
        self.tags.iter().fold(frame, |frame, tpid| tagged(*tpid, 42, &frame))
    }
}

fn carriers() -> Vec<Carrier> {
    let tags: [(&str, Vec<u16>); 4] =
        [("", vec![]), ("q/", vec![0x8100]), ("ad+q/", vec![0x8100, 0x88a8]), ("old+q/", vec![0x8100, 0x9100])];
    let mut inner: Vec<(String, bool, Vec<u8>, Vec<u8>)> = vec![
        ("v4".into(), false, vec![], vec![]),
        ("v4+option".into(), false, vec![1], vec![]),
        ("v4+40-bytes-of-options".into(), false, vec![1; 40], vec![]),
        ("v4+ah".into(), false, vec![], vec![AUTHENTICATION]),
        ("v4+6-ah".into(), false, vec![], vec![AUTHENTICATION; 6]),
        ("v6".into(), true, vec![], vec![]),
    ];
    for kind in [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS, AUTHENTICATION, MOBILITY, HIP, SHIM6] {
        inner.push((format!("v6+{kind}"), true, vec![], vec![kind]));
    }
    for count in 2..=6 {
        let chain = [HOP_BY_HOP, DESTINATION_OPTIONS, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION_OPTIONS];
        inner.push((format!("v6+{count}-extensions"), true, vec![], chain[..count].to_vec()));
    }
    let carrier = |(prefix, tags): &(&str, Vec<u16>)| {
        inner
            .iter()
            .map(|(name, is_v6, options, extensions)| Carrier {
                name: format!("{prefix}{name}"),
                is_v6: *is_v6,
                options: options.clone(),
                extensions: extensions.clone(),
                tags: tags.clone(),
            })
            .collect::<Vec<_>>()
    };
    tags.iter().flat_map(carrier).collect()
}

pub(super) fn vectors() -> Vec<Vector> {
    let mut vectors = Vec::new();
    for carrier in carriers() {
        let name = &carrier.name;
        for (sender, verdict) in [
            (GRANTED, Verdict::Pass(PassReason::Grant)),
            (STRANGER, Verdict::Drop(DropReason::NoGrant)),
            (ENDED, Verdict::Drop(DropReason::GrantEnded)),
            (REVOKED, Verdict::Drop(DropReason::GrantRevoked)),
            (TOO_LONG, Verdict::Drop(DropReason::GrantTooLong)),
        ] {
            for (label, protocol, segment) in
                [("tcp", TCP, tcp(WEB_PORT, SYN, &[])), ("udp", UDP, udp(WEB_PORT, b"hello"))]
            {
                let frame = carrier.frame(&sender, false, protocol, &segment);
                vectors.push(Vector::new(format!("{name}/{label}/{}", sender.name), frame, WEB, verdict));
            }
        }
        let web = tcp(WEB_PORT, SYN, &[]);
        let allowed = carrier.frame(&ALLOWED, false, TCP, &web);
        vectors.push(Vector::pass(format!("{name}/tcp/allowed"), allowed, PassReason::AlwaysAllow));
        let other_service = carrier.frame(&GRANTED, false, TCP, &tcp(SSH_PORT, SYN, &[]));
        let no_grant = Verdict::Drop(DropReason::NoGrant);
        vectors.push(Vector::new(format!("{name}/a-grant-for-another-service"), other_service, SSH, no_grant));
        let elsewhere = carrier.frame(&STRANGER, true, TCP, &web);
        vectors.push(Vector::pass(format!("{name}/another-destination"), elsewhere, PassReason::OtherDestination));
        for (label, protocol, segment) in [
            ("tcp", TCP, tcp(FREE_PORT, SYN, &[])),
            ("udp", UDP, udp(FREE_PORT, b"hello")),
            ("tcp-to-the-knock-port", TCP, tcp(KNOCK_PORT, SYN, &[])),
        ] {
            let frame = carrier.frame(&STRANGER, false, protocol, &segment);
            vectors.push(Vector::pass(format!("{name}/{label}/unprotected"), frame, PassReason::UnprotectedPort));
        }
        let knock = carrier.frame(&STRANGER, false, UDP, &udp(KNOCK_PORT, b"eyJ.eyJ.sig"));
        vectors.push(Vector::new(format!("{name}/knock"), knock, 0, Verdict::Knock));
    }
    for flags in 0..64 {
        for (sender, verdict) in
            [(STRANGER, Verdict::Drop(DropReason::NoGrant)), (GRANTED, Verdict::Pass(PassReason::Grant))]
        {
            let packet = ipv4(sender.v4, HOST4, TCP, 0, &[], &tcp(WEB_PORT, flags, b"data"));
            let name = format!("v4/tcp-flags-{flags:#04x}/{}", sender.name);
            vectors.push(Vector::new(name, ethernet(ETHER_IPV4, &packet), WEB, verdict));
        }
    }
    vectors
}
