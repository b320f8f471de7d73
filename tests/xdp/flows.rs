//! Flows in the kernel's maps: what opens one, what goes by it, what ends it; and that the host's tables say the same.

use std::{thread::sleep, time::Duration};

use anyhow::{Result, ensure};
use jpat_common::{
    addr,
    flow::{FLAG_ADOPTED, FLAG_CLOSING, FlowKey, FlowValue, STATE_EMBRYONIC, STATE_ESTABLISHED},
    grant::{GrantKey, GrantValue},
    reason::{DropReason, PassReason},
    settings::{RULE_TCP_FLOWS, Settings, service_index},
};
use jpat_ebpf::verdict::{Verdict, XDP_PASS};
use jpat_tests::{
    packet::{ACK, CLIENT_PORT, ETHER_IPV4, ETHER_IPV6, SYN, TCP, UDP, ethernet, ipv4, ipv6, tcp, udp},
    world::{GENERATION, GRANTED, HOST4, HOST6, STRANGER, Sender, WEB, WEB_PORT, World},
};

use crate::{
    Case,
    kernel::{self, Kernel},
};

pub(crate) const CASES: &[Case] = &[
    ("p2_a_flow_admits_no_syn_and_nobody_else", admits_its_own),
    ("p2_a_flow_is_opened_under_a_grant_only", opened_under_a_grant),
    ("p3_a_flow_ends_idle_too_old_and_with_its_generation", ends),
    ("p3_an_embryonic_flow_outlives_no_grant_for_long", embryonic),
    ("p4_a_flow_outlives_its_grant_over_both_families_and_protocols", outlives),
    ("p4_a_second_syn_leaves_a_live_flow_as_it_is", second_syn),
    ("p4_full_tables_refuse_a_connection_and_evict_none", full),
    ("p4_closed_flows_make_room_under_their_grant", counted),
    ("p8_an_adopted_flow_goes_on_where_sessions_are_cut", adopted),
    ("a_fin_marks_a_flow_and_ends_it_not", closing),
];

const SECOND: u64 = 1_000_000_000;
/// The program's time is a timer tick behind at most: 10 ms where it is coarsest.
const TICK: u64 = 10_000_000;
const FIN: u8 = 0x01;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;

struct Stage {
    world: World,
    kernel: Kernel,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Over {
    V4(u8),
    V6(u8),
}

const BOTH: [Over; 2] = [Over::V4(TCP), Over::V6(TCP)];

impl Stage {
    fn new() -> Result<Self> {
        Self::of(kernel::world()?.keeping())
    }

    fn of(world: World) -> Result<Self> {
        Ok(Self { kernel: Kernel::load(&world)?, world })
    }

    /// Sends a segment (`flags`) or a datagram from `sender` to the web service.
    fn send(&self, sender: &Sender, over: Over, flags: u8) -> Result<u32> {
        let segment = |protocol| match protocol {
            UDP => udp(WEB_PORT, b"x"),
            _ => tcp(WEB_PORT, flags, &[]),
        };
        let frame = match over {
            Over::V4(protocol) => ethernet(ETHER_IPV4, &ipv4(sender.v4, HOST4, protocol, 0, &[], &segment(protocol))),
            Over::V6(protocol) => ethernet(ETHER_IPV6, &ipv6(sender.v6, HOST6, protocol, &segment(protocol))),
        };
        self.kernel.run(&frame)
    }

    fn expect(&self, sender: &Sender, over: Over, flags: u8, verdict: Verdict, why: &str) -> Result<()> {
        let exit = verdict.exit(&self.world.settings);
        let index = jpat_common::reason::counter_index(WEB, exit.slot);
        let before = self.kernel.counter(index)?;
        let action = self.send(sender, over, flags)?;
        ensure!(action == exit.action, "{why} ({over:?}): action {action}, not {verdict:?}");
        ensure!(self.kernel.counter(index)? == before + 1, "{why} ({over:?}): not counted as {verdict:?}");
        Ok(())
    }

    fn flow(&self, key: &FlowKey) -> Result<Option<FlowValue>> {
        Ok(self.kernel.flows()?.get(key).copied())
    }

    /// Takes the grants of the granted away.
    fn end_grants(&mut self) -> Result<()> {
        for over in BOTH {
            self.kernel.write_grant(&grant(&self.world, &GRANTED, over), &GrantValue::new(1, GENERATION))?;
        }
        Ok(())
    }
}

fn key(sender: &Sender, over: Over) -> FlowKey {
    let (from, to) = (CLIENT_PORT.to_be_bytes(), WEB_PORT.to_be_bytes());
    match over {
        Over::V4(protocol) => FlowKey::new(addr::from_v4(sender.v4), from, addr::from_v4(HOST4), to, protocol),
        Over::V6(protocol) => FlowKey::new(sender.v6, from, HOST6, to, protocol),
    }
}

fn grant(world: &World, sender: &Sender, over: Over) -> GrantKey {
    let rule = world.rules[&service_index(world.settings.slot, WEB)];
    match over {
        Over::V4(_) => GrantKey::new(&addr::from_v4(sender.v4), &rule.mask_v4, WEB),
        Over::V6(_) => GrantKey::new(&sender.v6, &rule.mask_v6, WEB),
    }
}

fn live(now_ns: u64) -> FlowValue {
    FlowValue::new(now_ns, WEB, GENERATION, STATE_ESTABLISHED)
}

const FLOW: Verdict = Verdict::Pass(PassReason::Flow);
const GRANT: Verdict = Verdict::Pass(PassReason::Grant);
const NO_GRANT: Verdict = Verdict::Drop(DropReason::NoGrant);

fn admits_its_own() -> Result<()> {
    let mut stage = Stage::new()?;
    for over in BOTH {
        stage.kernel.write_flow(&key(&STRANGER, over), &live(kernel::boot_ns()?))?;
        for flags in 0..64 {
            let goes_on = flags & SYN == 0 && flags & (ACK | RST) != 0;
            let verdict = if goes_on { FLOW } else { NO_GRANT };
            stage.expect(&STRANGER, over, flags, verdict, &format!("flags {flags:#04x}"))?;
        }
        let mut neighbour = STRANGER;
        neighbour.v4[3] ^= 0x40;
        neighbour.v6[15] ^= 1;
        stage.expect(&neighbour, over, ACK, NO_GRANT, "another address of the same prefix")?;
        let mut elsewhere = live(kernel::boot_ns()?);
        elsewhere.service = WEB + 1;
        stage.kernel.write_flow(&key(&STRANGER, over), &elsewhere)?;
        stage.expect(&STRANGER, over, ACK, NO_GRANT, "a flow of another service")?;
    }
    Ok(())
}

fn opened_under_a_grant() -> Result<()> {
    let mut stage = Stage::new()?;
    for over in [Over::V4(TCP), Over::V6(TCP), Over::V4(UDP), Over::V6(UDP)] {
        for flags in [SYN, ACK] {
            stage.expect(&STRANGER, over, flags, NO_GRANT, "no grant")?;
        }
        ensure!(stage.kernel.flows()?.is_empty(), "{over:?}: a stranger opened a flow");
    }
    for (flags, state) in [
        (SYN, Some(STATE_EMBRYONIC)),
        (ACK, Some(STATE_ESTABLISHED)),
        (ACK | PSH, Some(STATE_ESTABLISHED)),
        (ACK | FIN, None),
        (RST, None),
        (RST | ACK, None),
        (SYN | ACK, None),
        (SYN | FIN, None),
        (0, None),
    ] {
        for over in BOTH {
            stage.kernel.clear_flows()?;
            stage.expect(&GRANTED, over, flags, GRANT, "granted")?;
            let found = stage.flow(&key(&GRANTED, over))?.map(|flow| flow.state);
            ensure!(found == state, "{over:?} flags {flags:#04x}: {found:?}, not {state:?}");
        }
    }
    Ok(())
}

fn outlives() -> Result<()> {
    let mut stage = Stage::new()?;
    let overs = [Over::V4(TCP), Over::V6(TCP), Over::V4(UDP), Over::V6(UDP)];
    for over in overs {
        stage.expect(&GRANTED, over, SYN, GRANT, "the first")?;
        stage.expect(&GRANTED, over, ACK, FLOW, "the client's word")?;
        let flow = stage.flow(&key(&GRANTED, over))?;
        ensure!(flow.is_some_and(|flow| flow.state == STATE_ESTABLISHED), "{over:?}: {flow:?}");
    }
    stage.end_grants()?;
    for over in overs {
        stage.expect(&GRANTED, over, ACK, FLOW, "its grant has ended")?;
    }
    for over in BOTH {
        stage.expect(&GRANTED, over, SYN, Verdict::Drop(DropReason::GrantEnded), "a new connection")?;
    }
    Ok(())
}

fn ends() -> Result<()> {
    let mut world = kernel::world()?.keeping();
    // Ages that are shorter than the time since this machine has started.
    let unit = (kernel::boot_ns()? / 40).min(SECOND);
    for rule in world.rules.values_mut() {
        (rule.flow_idle_ns, rule.flow_max_ns) = (10 * unit, 30 * unit);
    }
    let mut stage = Stage::of(world)?;
    let rule = stage.world.rules[&service_index(stage.world.settings.slot, WEB)];
    for over in BOTH {
        let now = kernel::boot_ns()?;
        let cases = [
            ("idle", DropReason::FlowIdle, FlowValue { seen_ns: now - rule.flow_idle_ns - TICK, ..live(now) }),
            ("old", DropReason::FlowMaxAge, FlowValue { opened_ns: now - rule.flow_max_ns - TICK, ..live(now) }),
            ("revoked", DropReason::FlowRevoked, FlowValue { generation: GENERATION - 1, ..live(now) }),
        ];
        for (what, reason, flow) in cases {
            stage.kernel.write_flow(&key(&STRANGER, over), &flow)?;
            stage.expect(&STRANGER, over, ACK, Verdict::Drop(reason), what)?;
            let after = stage.flow(&key(&STRANGER, over))?;
            ensure!(after == Some(flow), "{what}: a refused packet changed {after:?}");
        }
        // A packet keeps the flow from being idle, nothing keeps it from getting old.
        let close = FlowValue { seen_ns: now - rule.flow_idle_ns + 5 * unit, ..live(now - 20 * unit) };
        stage.kernel.write_flow(&key(&STRANGER, over), &close)?;
        stage.expect(&STRANGER, over, ACK, FLOW, "nearly idle")?;
        let after = stage.flow(&key(&STRANGER, over))?;
        ensure!(after.is_some_and(|flow| flow.seen_ns + TICK >= now && flow.opened_ns == close.opened_ns), "{after:?}");
        stage.kernel.write_settings(&Settings { generation: GENERATION + 1, ..stage.world.settings })?;
        stage.expect(&STRANGER, over, ACK, Verdict::Drop(DropReason::FlowRevoked), "the next generation")?;
        stage.kernel.write_settings(&stage.world.settings)?;
    }
    Ok(())
}

fn embryonic() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.kernel.clear_flows()?;
    for over in BOTH {
        let now = kernel::boot_ns()?;
        let opened = FlowValue { state: STATE_EMBRYONIC, ..live(now - jpat_common::flow::EMBRYONIC_NS + SECOND / 2) };
        stage.kernel.write_flow(&key(&STRANGER, over), &FlowValue { seen_ns: now, ..opened })?;
        stage.expect(&STRANGER, over, RST, FLOW, "within ten seconds")?;
        let flow = stage.flow(&key(&STRANGER, over))?;
        ensure!(flow.is_some_and(|flow| flow.state == STATE_EMBRYONIC), "a bare RST confirms nothing: {flow:?}");
        sleep(Duration::from_millis(520));
        stage.expect(&STRANGER, over, ACK, Verdict::Drop(DropReason::FlowIdle), "after ten seconds")?;
    }
    Ok(())
}

fn second_syn() -> Result<()> {
    let mut stage = Stage::new()?;
    for over in BOTH {
        let old = live(kernel::boot_ns()? - SECOND);
        stage.kernel.write_flow(&key(&GRANTED, over), &old)?;
        stage.expect(&GRANTED, over, SYN, GRANT, "a second SYN")?;
        ensure!(stage.flow(&key(&GRANTED, over))? == Some(old), "it changed the flow");
        let dead = FlowValue { generation: GENERATION - 1, ..old };
        stage.kernel.write_flow(&key(&GRANTED, over), &dead)?;
        stage.expect(&GRANTED, over, SYN, GRANT, "over a dead flow")?;
        let flow = stage.flow(&key(&GRANTED, over))?;
        ensure!(flow.is_some_and(|flow| flow.state == STATE_EMBRYONIC && flow.generation == GENERATION), "{flow:?}");
    }
    Ok(())
}

fn full() -> Result<()> {
    let mut stage = Stage::new()?;
    let capacity = 65_536u32;
    let now = kernel::boot_ns()?;
    let other = |number: u32| {
        let [a, b, c, d] = number.to_be_bytes();
        FlowKey::new(addr::from_v4([10, a, b, c]), [d, 1], addr::from_v4(HOST4), [0, 22], TCP)
    };
    for number in 0..capacity {
        stage.kernel.write_flow(&other(number), &live(now))?;
    }
    for over in BOTH {
        stage.expect(&GRANTED, over, SYN, Verdict::Drop(DropReason::FlowsFull), "a new connection")?;
        // What is under way goes on under its grant, without a flow.
        stage.expect(&GRANTED, over, ACK, GRANT, "under way")?;
    }
    let flows = stage.kernel.flows()?;
    ensure!(flows.len() == capacity as usize, "{} flows", flows.len());
    ensure!((0..capacity).all(|number| flows.contains_key(&other(number))), "one was evicted");
    Ok(())
}

fn counted() -> Result<()> {
    let mut stage = Stage::new()?;
    let limit = stage.world.settings.flows_per_grant;
    let over = Over::V6(TCP);
    let grant = grant(&stage.world, &GRANTED, over);
    // The grant covers a /64: each connection is another address of it.
    let from = |number: u32| {
        let mut sender = GRANTED;
        sender.v6[15] = number as u8;
        sender
    };
    for number in 0..limit {
        stage.expect(&from(number), over, SYN, GRANT, "within the limit")?;
    }
    stage.expect(&from(limit), over, SYN, Verdict::Drop(DropReason::FlowsPerGrant), "above the limit")?;
    stage.expect(&from(limit), over, ACK, GRANT, "under way, above the limit")?;
    stage.expect(&from(0), over, SYN, GRANT, "again, over its own flow")?;
    ensure!(stage.kernel.flows_opened(&grant)? == u64::from(limit), "counted otherwise");
    // The controller says that one is gone.
    stage.kernel.write_flows_closed(&grant, 1)?;
    stage.expect(&from(limit), over, SYN, GRANT, "where there is room again")?;
    stage.expect(&from(limit + 1), over, SYN, Verdict::Drop(DropReason::FlowsPerGrant), "full again")?;
    // More gone than were opened is no room without end.
    stage.kernel.write_flows_closed(&grant, u64::MAX)?;
    for number in limit + 1..limit + 3 {
        stage.expect(&from(number), over, SYN, GRANT, "as if none were there")?;
    }
    Ok(())
}

fn adopted() -> Result<()> {
    let mut stage = Stage::new()?;
    let index = service_index(stage.world.settings.slot, WEB);
    let mut rule = stage.world.rules[&index];
    let flow = FlowValue::adopted(kernel::boot_ns()?, WEB, GENERATION);
    ensure!(flow.flags == FLAG_ADOPTED, "{flow:?}");
    for over in BOTH {
        for (flags, adopted, verdict, why) in [
            (RULE_TCP_FLOWS, true, FLOW, "adopted, and looked for"),
            (RULE_TCP_FLOWS, false, NO_GRANT, "not adopted"),
            (0, true, NO_GRANT, "not looked for"),
        ] {
            rule.flags = flags;
            stage.kernel.write_array(jpat_common::map_name::SERVICES, [(&index, &rule)])?;
            let flow = if adopted { flow } else { live(flow.opened_ns) };
            stage.kernel.write_flow(&key(&STRANGER, over), &flow)?;
            stage.expect(&STRANGER, over, ACK, verdict, why)?;
        }
        stage.expect(&STRANGER, over, SYN, NO_GRANT, "a new connection")?;
        stage.kernel.clear_flows()?;
        rule.flags = RULE_TCP_FLOWS;
        stage.kernel.write_array(jpat_common::map_name::SERVICES, [(&index, &rule)])?;
        ensure!(stage.send(&GRANTED, over, SYN)? == XDP_PASS, "granted");
        ensure!(stage.kernel.flows()?.is_empty(), "sessions are cut, and a flow was opened");
    }
    Ok(())
}

fn closing() -> Result<()> {
    let mut stage = Stage::new()?;
    for over in BOTH {
        for flags in [FIN | ACK, RST, RST | ACK] {
            stage.kernel.write_flow(&key(&STRANGER, over), &live(kernel::boot_ns()?))?;
            stage.expect(&STRANGER, over, flags, FLOW, "the end")?;
            let flow = stage.flow(&key(&STRANGER, over))?;
            ensure!(flow.is_some_and(|flow| flow.flags == FLAG_CLOSING), "{flags:#04x}: {flow:?}");
            stage.expect(&STRANGER, over, ACK, FLOW, "after the end")?;
        }
    }
    Ok(())
}
