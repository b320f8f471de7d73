//! Properties of the decision over frames that nobody thought of.

#[path = "../../tests/harness/knocks.rs"]
pub mod knocks;
#[path = "../../tests/harness/packet.rs"]
pub mod packet;
mod recogniser;
#[path = "../../tests/harness/vectors/mod.rs"]
pub mod vectors;
#[path = "../../tests/harness/world.rs"]
pub mod world;

use std::{net::IpAddr, sync::LazyLock};

use jpat_common::{
    addr,
    grant::{GrantKey, GrantValue},
    reason::{DropReason, PassReason},
    settings::{Protocol, Settings, service_index},
};
use jpat_ebpf::{
    decide::decide,
    frame::Cursor,
    parse::{Carries, Packet, parse, parse_any},
    verdict::{Decision, Verdict},
};
use packet::{
    AUTHENTICATION, DESTINATION_OPTIONS, ETHER_IPV4, ETHER_IPV6, FRAGMENT, HIP, HOP_BY_HOP, MOBILITY, ROUTING, SHIM6,
    SYN, TCP, UDP, ethernet, extended, ipv4, ipv6, tagged, tcp, udp,
};
use proptest::{collection::vec, prelude::*, sample::select};
use recogniser::{Delivery, delivery};
use world::{
    ALLOWED, BROADCAST4, ENDED, FREE_PORT, GRANTED, HOST4, HOST6, KNOCK_PORT, OTHER4, REVOKED, SSH_PORT, STRANGER,
    Sender, TOO_LONG, WEB, WEB_PORT, World,
};

const NOW_NS: u64 = 1_000_000_000_000;

static WORLD: LazyLock<World> = LazyLock::new(|| World::new(NOW_NS));
static FRAMES: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| vectors::all().into_iter().map(|vector| vector.frame).collect());

fn judge(frame: &[u8]) -> Verdict {
    decide(&parse(Cursor::over(frame)), &WORLD.settings, &*WORLD).verdict
}

/// Whether a packet may be refused, by a second opinion on the tables of [`World`].
fn is_protected(delivery: &Delivery) -> bool {
    let Delivery { source, destination, is_udp, port, is_fragment } = *delivery;
    let judged = match destination {
        IpAddr::V4(to) => {
            to.octets() == HOST4
                || to.octets() == BROADCAST4
                || to.is_multicast()
                || to.is_broadcast()
                || to.is_loopback()
        }
        IpAddr::V6(to) => to.octets() == HOST6 || to.is_multicast() || to.is_loopback(),
    };
    let from = |sender: &Sender| match source {
        IpAddr::V4(from) => from.octets() == sender.v4,
        IpAddr::V6(from) => from.octets()[..8] == sender.v6[..8],
    };
    let is_web = port == WEB_PORT;
    let is_listed = is_web || (!is_udp && port == SSH_PORT) || (is_udp && port == KNOCK_PORT);
    let is_open = from(&ALLOWED) || (from(&GRANTED) && is_web && !is_fragment);
    judged && is_listed && !is_open
}

/// A frame from the vectors with bytes changed, taken out and put in, and perhaps cut.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let change = (0..3_u8, any::<prop::sample::Index>(), any::<u8>());
    (select(&**FRAMES), vec(change, 0..6), any::<prop::sample::Index>()).prop_map(|(mut frame, changes, cut)| {
        for (kind, at, byte) in changes {
            // Most of what matters lies in front.
            let at = at.index(frame.len().clamp(1, 100));
            match kind {
                0 if at < frame.len() => frame[at] = byte,
                1 if at < frame.len() => drop(frame.remove(at)),
                _ => frame.insert(at.min(frame.len()), byte),
            }
        }
        if cut.index(4) == 0 {
            frame.truncate(cut.index(frame.len() + 1));
        }
        frame
    })
}

fn sender() -> impl Strategy<Value = Sender> {
    select(&[GRANTED, STRANGER, ENDED, REVOKED, TOO_LONG, ALLOWED][..])
}

/// Headers in front of a segment, of any number and order.
fn chain(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let kinds =
        [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS, AUTHENTICATION, MOBILITY, HIP, SHIM6, AUTHENTICATION];
    vec(select(kinds.to_vec()), 0..=most)
}

fn tags(most: usize) -> impl Strategy<Value = Vec<u16>> {
    vec(select(&[0x8100_u16, 0x88a8, 0x9100][..]), 0..=most)
}

/// How a segment is carried.
#[derive(Clone, Debug)]
struct Nest {
    is_v6: bool,
    chain: Vec<u8>,
    tags: Vec<u16>,
    options: Vec<u8>,
    fragment: u16,
}

fn nest(most_headers: usize, most_tags: usize, fragments: bool) -> impl Strategy<Value = Nest> {
    let fragment =
        if fragments { select(&[0_u16, 0x2000, 0x4000, 1, 0x2001][..]) } else { select(&[0_u16, 0x4000][..]) };
    (any::<bool>(), chain(most_headers), tags(most_tags), vec(any::<u8>(), 0..=40), fragment)
        .prop_map(|(is_v6, chain, tags, options, fragment)| Nest { is_v6, chain, tags, options, fragment })
}

fn carried(nest: &Nest, sender: &Sender, to: [u8; 4], protocol: u8, segment: &[u8]) -> Vec<u8> {
    let frame = if nest.is_v6 {
        let (next, payload) = extended(&nest.chain, protocol, segment);
        let destination = if to == HOST4 { HOST6 } else { world::OTHER6 };
        ethernet(ETHER_IPV6, &ipv6(sender.v6, destination, next, &payload))
    } else {
        let authentication = vec![AUTHENTICATION; nest.chain.len()];
        let (next, payload) = extended(&authentication, protocol, segment);
        ethernet(ETHER_IPV4, &ipv4(sender.v4, to, next, nest.fragment, &nest.options, &payload))
    };
    nest.tags.iter().fold(frame, |frame, tpid| tagged(*tpid, 7, &frame))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn p2_the_short_way_through_the_parser_says_what_the_long_way_says(
        frame in mutated(),
        payload in vec(any::<u8>(), 0..64),
        sender in sender(),
        flags in any::<u8>(),
    ) {
        let plain = [
            ethernet(ETHER_IPV4, &ipv4(sender.v4, HOST4, TCP, 0, &[], &tcp(WEB_PORT, flags, &payload))),
            ethernet(ETHER_IPV4, &ipv4(sender.v4, HOST4, UDP, 0, &[], &udp(KNOCK_PORT, &payload))),
            // The datagram ends before its packet, and the packet before its frame.
            ethernet(ETHER_IPV4, &ipv4(sender.v4, HOST4, UDP, 0, &[], &[udp(KNOCK_PORT, &payload), vec![0; 3]].concat())),
            [ethernet(ETHER_IPV6, &ipv6(sender.v6, HOST6, UDP, &udp(KNOCK_PORT, &payload))), vec![0; 3]].concat(),
            ethernet(ETHER_IPV6, &ipv6(sender.v6, HOST6, TCP, &tcp(WEB_PORT, flags, &payload))),
            ethernet(ETHER_IPV6, &ipv6(sender.v6, HOST6, UDP, &udp(KNOCK_PORT, &payload))),
        ];
        for frame in plain.iter().chain([&frame]) {
            let (short, long) = (parse(Cursor::over(frame)), parse_any(Cursor::over(frame)));
            let payload = |packet: &Packet<'_>| packet.payload.peek::<1>().map(std::ptr::from_ref);
            prop_assert_eq!(short.addresses, long.addresses);
            prop_assert_eq!(short.carries, long.carries);
            if short.carries == Carries::Segment {
                prop_assert_eq!(short.segment, long.segment);
                if short.segment.protocol == Protocol::Udp && short.segment.fault.is_none() {
                    prop_assert_eq!(short.payload.left(), long.payload.left());
                    prop_assert_eq!(payload(&short), payload(&long));
                }
            }
        }
    }

    #[test]
    fn p2_decide_never_passes_a_protected_port_without_a_live_grant(frame in mutated()) {
        if let Some(delivery) = delivery(&frame).filter(is_protected) {
            let verdict = judge(&frame);
            prop_assert!(!matches!(verdict, Verdict::Pass(_)), "{verdict:?} for {delivery:?} in {frame:02x?}");
        }
    }

    #[test]
    fn p2_no_nesting_hides_a_protected_port(
        nest in nest(9, 4, true),
        sender in sender(),
        port in select(&[WEB_PORT, SSH_PORT][..]),
        flags in any::<u8>(),
        payload in vec(any::<u8>(), 0..64),
    ) {
        let frame = carried(&nest, &sender, HOST4, TCP, &tcp(port, flags, &payload));
        if let Some(delivery) = delivery(&frame).filter(is_protected) {
            let verdict = judge(&frame);
            prop_assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?} for {delivery:?} in {nest:?}");
        } else if nest.is_v6 {
            // Every header of the chain is whole, so only an open door explains it.
            prop_assert!(sender.name == ALLOWED.name || (sender.name == GRANTED.name && port == WEB_PORT));
        }
    }

    #[test]
    fn p2_traffic_to_unprotected_ports_and_destinations_is_not_harmed(
        mut nest in nest(6, 2, false),
        port in any::<u16>(),
        flags in any::<u8>(),
        is_udp in any::<bool>(),
        payload in vec(any::<u8>(), 0..64),
        to in select(&[HOST4, OTHER4][..]),
    ) {
        prop_assume!(to == OTHER4 || ![WEB_PORT, SSH_PORT, KNOCK_PORT].contains(&port));
        // One fragment header is all a packet may have, whatever the destination.
        let mut fragments = 0;
        nest.chain.retain(|kind| *kind != FRAGMENT || { fragments += 1; fragments == 1 });
        let (protocol, segment) = if is_udp { (UDP, udp(port, &payload)) } else { (TCP, tcp(port, flags, &payload)) };
        let verdict = judge(&carried(&nest, &STRANGER, to, protocol, &segment));
        let is_unharmed =
            matches!(verdict, Verdict::Pass(PassReason::UnprotectedPort | PassReason::OtherDestination));
        prop_assert!(is_unharmed, "{verdict:?} for {nest:?} to {to:?} port {port}");
    }

    #[test]
    fn p2_arbitrary_bytes_behind_any_ether_type(
        ether_type in prop_oneof![select(&[ETHER_IPV4, ETHER_IPV6, 0x8100, 0x8847, 0x8864, 60][..]), any::<u16>()],
        bytes in vec(any::<u8>(), 0..200),
    ) {
        let frame = ethernet(ether_type, &bytes);
        let verdict = judge(&frame);
        if let Some(delivery) = delivery(&frame).filter(is_protected) {
            prop_assert!(!matches!(verdict, Verdict::Pass(_)), "{verdict:?} for {delivery:?}");
        }
    }

    #[test]
    fn p3_decide_passes_under_a_grant_exactly_while_it_is_live(
        now_ns in any::<u64>(),
        end_ns in any::<u64>(),
        distance in -3_i64..3,
        near in 0..3_u8,
        generations in (0..3_u32, 0..3_u32),
        max_ttl_ns in prop_oneof![any::<u64>(), 0..4_u64],
    ) {
        // Borders are where mistakes live.
        let end_ns = match near {
            0 => now_ns.saturating_add_signed(distance),
            1 => now_ns.saturating_add(max_ttl_ns).saturating_add_signed(distance),
            _ => end_ns,
        };
        let (generation, live) = generations;
        let mut world = WORLD.clone();
        world.now_ns = now_ns;
        world.settings = Settings { generation: live, max_ttl_ns, ..world.settings };
        let rule = world.rules[&service_index(world.settings.slot, WEB)];
        let key = GrantKey::new(&addr::from_v4(STRANGER.v4), &rule.mask_v4, WEB);
        world.grants.insert(key, GrantValue::new(end_ns, generation));
        let frame = ethernet(ETHER_IPV4, &ipv4(STRANGER.v4, HOST4, TCP, 0, &[], &tcp(WEB_PORT, SYN, &[])));
        let Decision { service, verdict } = decide(&parse(Cursor::over(&frame)), &world.settings, &world);
        let is_live = generation == live
            && u128::from(end_ns) > u128::from(now_ns)
            && u128::from(end_ns) <= u128::from(now_ns) + u128::from(max_ttl_ns);
        prop_assert_eq!(service, WEB);
        prop_assert_eq!(verdict == Verdict::Pass(PassReason::Grant), is_live, "{:?}", verdict);
        if !is_live {
            use DropReason::{GrantEnded, GrantRevoked, GrantTooLong};
            prop_assert!(matches!(verdict, Verdict::Drop(GrantEnded | GrantRevoked | GrantTooLong)));
        }
    }
}

/// The second reading does find what the first must refuse: every vector that is refused for want of a grant.
#[test]
fn the_recogniser_sees_every_refused_segment() {
    for vector in vectors::all() {
        if vector.expected.verdict == Verdict::Drop(DropReason::NoGrant) && vector.flags == 0 {
            let delivery = delivery(&vector.frame);
            let to_unspecified = vector.name.contains("to4/[0, 0, 0, 0]") || vector.name == "to6/[0, 0]-0";
            assert!(to_unspecified || delivery.as_ref().is_some_and(is_protected), "{}: {delivery:?}", vector.name);
        }
    }
    assert_ne!(FREE_PORT, WEB_PORT);
}
