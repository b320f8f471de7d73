//! Flows on the host, where time is what the test says: every moment at which one begins and ends to count.

#[path = "../../tests/harness/knocks.rs"]
pub mod knocks;
#[path = "../../tests/harness/packet.rs"]
pub mod packet;
#[path = "../../tests/harness/world.rs"]
pub mod world;

use jpat_common::{
    addr,
    flow::{EMBRYONIC_NS, FlowKey, FlowValue, STATE_ESTABLISHED},
    grant::GrantValue,
    reason::{DropReason, PassReason},
    settings::{MODE_AUDIT, RULE_TCP_FLOWS, service_index},
};
use jpat_ebpf::{
    decide::decide,
    frame::Cursor,
    parse::parse,
    verdict::{Decision, Verdict},
};
use packet::{ACK, CLIENT_PORT, ETHER_IPV4, ETHER_IPV6, SYN, TCP, UDP, ethernet, ipv4, ipv6, tcp, udp};
use world::{FLOWS_CAPACITY, GENERATION, GRANTED, HOST4, HOST6, SSH, SSH_PORT, STRANGER, Sender, WEB, WEB_PORT, World};

const NOW_NS: u64 = 1_000_000_000_000;
const SECOND: u64 = 1_000_000_000;
const RST: u8 = 0x04;

const FLOW: Verdict = Verdict::Pass(PassReason::Flow);
const GRANT: Verdict = Verdict::Pass(PassReason::Grant);
const NO_GRANT: Verdict = Verdict::Drop(DropReason::NoGrant);

fn frames(sender: &Sender, port: u16, protocol: u8, flags: u8) -> [Vec<u8>; 2] {
    let segment = if protocol == UDP { udp(port, b"x") } else { tcp(port, flags, &[]) };
    [
        ethernet(ETHER_IPV4, &ipv4(sender.v4, HOST4, protocol, 0, &[], &segment)),
        ethernet(ETHER_IPV6, &ipv6(sender.v6, HOST6, protocol, &segment)),
    ]
}

fn keys(sender: &Sender, protocol: u8) -> [FlowKey; 2] {
    let (from, to) = (CLIENT_PORT.to_be_bytes(), WEB_PORT.to_be_bytes());
    [
        FlowKey::new(addr::from_v4(sender.v4), from, addr::from_v4(HOST4), to, protocol),
        FlowKey::new(sender.v6, from, HOST6, to, protocol),
    ]
}

/// What becomes of a segment over both families.
fn send(world: &World, sender: &Sender, protocol: u8, flags: u8) -> [Verdict; 2] {
    frames(sender, WEB_PORT, protocol, flags).map(|frame| {
        let Decision { service, verdict } = decide(&parse(Cursor::over(&frame)), &world.settings, world);
        assert_eq!(service, WEB);
        verdict
    })
}

fn world() -> World {
    World::new(NOW_NS).keeping()
}

/// The grants of the granted end at `end_ns`.
fn granted_until(world: &mut World, end_ns: u64) {
    for value in world.grants.values_mut().filter(|value| value.is_live(NOW_NS, GENERATION, u64::MAX)) {
        *value = GrantValue::new(end_ns, GENERATION);
    }
}

#[test]
fn p2_a_stranger_opens_no_flow_whatever_it_sends() {
    for mode in [world().settings.mode, MODE_AUDIT] {
        let mut world = world();
        world.settings.mode = mode;
        for protocol in [TCP, UDP] {
            for flags in 0..=255 {
                assert_eq!(send(&world, &STRANGER, protocol, flags), [NO_GRANT; 2], "{protocol} {flags:#04x}");
            }
        }
        assert!(world.flows().is_empty(), "mode {mode}");
    }
}

#[test]
fn p2_a_flow_opens_neither_a_connection_nor_another_port() {
    let world = world();
    let live = FlowValue::new(NOW_NS, WEB, GENERATION, STATE_ESTABLISHED);
    keys(&STRANGER, TCP).into_iter().for_each(|key| world.put_flow(key, live));
    for flags in 0..=255 {
        let goes_on = flags & SYN == 0 && flags & (ACK | RST) != 0;
        let expected = if goes_on { FLOW } else { NO_GRANT };
        assert_eq!(send(&world, &STRANGER, TCP, flags), [expected; 2], "{flags:#04x}");
    }
    assert_eq!(send(&world, &STRANGER, UDP, 0), [NO_GRANT; 2]);
    for frame in frames(&STRANGER, SSH_PORT, TCP, ACK) {
        let decision = decide(&parse(Cursor::over(&frame)), &world.settings, &world);
        assert_eq!(decision, Decision { service: SSH, verdict: NO_GRANT });
    }
}

#[test]
fn p3_an_unconfirmed_connection_outlives_its_grant_by_ten_seconds_at_most() {
    for protocol in [TCP, UDP] {
        let mut world = world();
        assert_eq!(send(&world, &GRANTED, protocol, SYN), [GRANT; 2]);
        granted_until(&mut world, NOW_NS + SECOND);
        world.now_ns = NOW_NS + EMBRYONIC_NS;
        assert_eq!(send(&world, &GRANTED, protocol, ACK), [Verdict::Drop(DropReason::FlowIdle); 2]);
        world.now_ns -= 1;
        assert_eq!(send(&world, &GRANTED, protocol, ACK), [FLOW; 2]);
        world.now_ns = NOW_NS + EMBRYONIC_NS + 60 * SECOND;
        assert_eq!(send(&world, &GRANTED, protocol, ACK), [FLOW; 2], "the client confirmed it");
    }
}

#[test]
fn p3_a_flow_ends_to_the_nanosecond() {
    let mut world = world();
    let rule = world.rules[&service_index(world.settings.slot, WEB)];
    assert_eq!(send(&world, &GRANTED, TCP, SYN), [GRANT; 2]);
    assert_eq!(send(&world, &GRANTED, TCP, ACK), [FLOW; 2]);
    granted_until(&mut world, NOW_NS + SECOND);
    let mut last = NOW_NS;
    while last + rule.flow_idle_ns < NOW_NS + rule.flow_max_ns {
        world.now_ns = last + rule.flow_idle_ns;
        assert_eq!(send(&world, &GRANTED, TCP, ACK), [Verdict::Drop(DropReason::FlowIdle); 2]);
        world.now_ns -= 1;
        assert_eq!(send(&world, &GRANTED, TCP, ACK), [FLOW; 2]);
        last = world.now_ns;
    }
    world.now_ns = NOW_NS + rule.flow_max_ns - 1;
    assert_eq!(send(&world, &GRANTED, TCP, ACK), [FLOW; 2]);
    world.now_ns += 1;
    assert_eq!(send(&world, &GRANTED, TCP, ACK), [Verdict::Drop(DropReason::FlowMaxAge); 2]);
}

/// Neither does the end of a grant disturb a flow, nor its renewal; the next generation ends both.
#[test]
fn p3_only_the_generation_ends_a_flow_before_its_time() {
    let mut world = world();
    assert_eq!(send(&world, &GRANTED, TCP, SYN), [GRANT; 2]);
    assert_eq!(send(&world, &GRANTED, TCP, ACK), [FLOW; 2]);
    let opened: Vec<_> = world.flows().into_values().map(|flow| flow.opened_ns).collect();
    granted_until(&mut world, NOW_NS + 100 * SECOND);
    world.now_ns += 50 * SECOND;
    assert_eq!(send(&world, &GRANTED, TCP, ACK), [FLOW; 2]);
    assert_eq!(send(&world, &GRANTED, TCP, SYN), [GRANT; 2], "a SYN sent again");
    world.now_ns += 200 * SECOND;
    assert_eq!(send(&world, &GRANTED, TCP, ACK), [FLOW; 2]);
    assert_eq!(world.flows().into_values().map(|flow| flow.opened_ns).collect::<Vec<_>>(), opened);
    world.settings.generation += 1;
    assert_eq!(send(&world, &GRANTED, TCP, ACK), [Verdict::Drop(DropReason::FlowRevoked); 2]);
}

#[test]
fn p4_where_there_is_no_room_a_connection_does_not_begin_and_none_ends() {
    let world = world();
    let sender = |number: u8| {
        let mut sender = GRANTED;
        sender.v6[15] = number;
        sender
    };
    let mut opened = 0;
    for number in 1..=FLOWS_CAPACITY as u8 + 1 {
        let [_, v6] = frames(&sender(number), WEB_PORT, TCP, SYN);
        let verdict = decide(&parse(Cursor::over(&v6)), &world.settings, &world).verdict;
        let has_room = u32::from(number) <= world.settings.flows_per_grant;
        assert_eq!(verdict, if has_room { GRANT } else { Verdict::Drop(DropReason::FlowsPerGrant) }, "{number}");
        opened += usize::from(has_room);
    }
    assert_eq!(world.flows().len(), opened);
    for number in 1..=opened as u8 {
        assert_eq!(send(&world, &sender(number), TCP, ACK)[1], FLOW);
    }
    assert_eq!(send(&world, &sender(200), TCP, ACK)[1], GRANT, "under way before the table knew it");
}

#[test]
fn p8_adopted_connections_go_on_where_sessions_are_cut_and_no_others() {
    let mut world = world();
    let index = service_index(world.settings.slot, WEB);
    let adopted = FlowValue::adopted(NOW_NS, WEB, GENERATION);
    for (flags, flow, expected) in [
        (RULE_TCP_FLOWS, adopted, FLOW),
        (RULE_TCP_FLOWS, FlowValue { flags: 0, ..adopted }, NO_GRANT),
        (0, adopted, NO_GRANT),
    ] {
        if let Some(rule) = world.rules.get_mut(&index) {
            rule.flags = flags;
        }
        keys(&STRANGER, TCP).into_iter().for_each(|key| world.put_flow(key, flow));
        assert_eq!(send(&world, &STRANGER, TCP, ACK), [expected; 2]);
        assert_eq!(send(&world, &STRANGER, TCP, SYN), [NO_GRANT; 2]);
        assert_eq!(send(&world, &STRANGER, UDP, 0), [NO_GRANT; 2]);
    }
    let rule = world.rules[&index];
    world.now_ns += rule.flow_idle_ns;
    assert_ne!(send(&world, &STRANGER, TCP, ACK), [FLOW; 2], "they end as others do");
}
