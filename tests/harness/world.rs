//! One host with two services, and the tables that say so: in memory for the host's tests, and to be copied into the
//! kernel's maps.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jpat_common::{
    addr::{self, Addr, V4_MAPPED_BITS},
    flow::{FLAG_CLOSING, FlowKey, FlowValue, STATE_ESTABLISHED},
    grant::{GrantKey, GrantValue, ServiceId},
    settings::{
        FLAG_ALWAYS_ALLOW, FLAG_PREFIX_DESTINATIONS, MODE_ENFORCE, Protocol, RULE_KEEP_TCP, RULE_KEEP_UDP,
        RULE_TCP_FLOWS, ServiceRule, Settings, port_index, service_index,
    },
};
use jpat_ebpf::{
    decide::{Tables, decide},
    parse::Packet,
    verdict::{Decision, Verdict},
};

use crate::knocks::Gate;

/// An address of the protected host.
pub const HOST4: [u8; 4] = [192, 0, 2, 1];
/// The broadcast address of its network.
pub const BROADCAST4: [u8; 4] = [192, 0, 2, 255];
/// Its IPv6 address.
pub const HOST6: [u8; 16] = v6(0, 1);
/// A host behind it.
pub const OTHER4: [u8; 4] = [198, 51, 100, 9];
/// A host behind it.
pub const OTHER6: [u8; 16] = v6(0xffff, 9);

/// tcp/8443 and udp/8443.
pub const WEB: ServiceId = 1;
/// tcp/22.
pub const SSH: ServiceId = 2;
/// Port of [`WEB`].
pub const WEB_PORT: u16 = 8443;
/// Port of [`SSH`].
pub const SSH_PORT: u16 = 22;
/// Port of knocks.
pub const KNOCK_PORT: u16 = 1337;
/// A port that no service lists.
pub const FREE_PORT: u16 = 80;

/// Live generation.
pub const GENERATION: u32 = 7;
/// Longest time a grant may have.
pub const MAX_TTL_NS: u64 = 7_200 * SECOND;
const SECOND: u64 = 1_000_000_000;

/// `2001:db8:NETWORK::LAST`.
pub const fn v6(network: u16, last: u8) -> [u8; 16] {
    let [a, b] = network.to_be_bytes();
    [0x20, 0x01, 0x0d, 0xb8, a, b, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

/// Who sends: one address of each family.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    /// Name in the vectors.
    pub name: &'static str,
    /// Its IPv4 address.
    pub v4: [u8; 4],
    /// Its IPv6 address; a grant covers its /64.
    pub v6: [u8; 16],
}

macro_rules! senders {
    ($($(#[$doc:meta])* $constant:ident = $name:literal, $number:literal;)+) => {
        $($(#[$doc])* pub const $constant: Sender =
            Sender { name: $name, v4: [203, 0, 113, $number], v6: v6(0xc000 + $number, 5) };)+
    };
}
senders! {
    /// Has a live grant for [`WEB`] only.
    GRANTED = "granted", 5;
    /// Has none.
    STRANGER = "stranger", 6;
    /// Had one for both services.
    ENDED = "ended", 7;
    /// Has one for both services of another generation.
    REVOKED = "revoked", 8;
    /// Has one for both services above the cap.
    TOO_LONG = "too-long", 9;
    /// Is always allowed.
    ALLOWED = "allowed", 10;
}

/// Flows, and how many each grant has.
#[derive(Clone, Debug, Default)]
struct Flows {
    flows: BTreeMap<FlowKey, FlowValue>,
    counts: BTreeMap<GrantKey, u64>,
}

/// Most flows that the tables hold.
pub const FLOWS_CAPACITY: usize = 8;

/// The tables of one host.
#[derive(Clone, Debug)]
pub struct World {
    /// Live settings.
    pub settings: Settings,
    /// By port index.
    pub ports: BTreeMap<u32, ServiceId>,
    /// By service index.
    pub rules: BTreeMap<u32, ServiceRule>,
    /// Single addresses.
    pub hosts: Vec<Addr>,
    /// Prefixes, in bits of the 16-byte form.
    pub destinations: Vec<(Addr, u32)>,
    /// Prefixes, in bits of the 16-byte form.
    pub always_allow: Vec<(Addr, u32)>,
    /// By key.
    pub grants: BTreeMap<GrantKey, GrantValue>,
    /// What knocks are asked.
    pub gate: Gate,
    flows: Arc<Mutex<Flows>>,
    /// The time at which it is asked.
    pub now_ns: u64,
}

impl World {
    /// The world at `now_ns` (at least a second after the clock's start), in enforce mode, in the second slot.
    pub fn new(now_ns: u64) -> Self {
        let slot = 1;
        let rule = ServiceRule {
            mask_v4: addr::mask(128),
            mask_v6: addr::mask(64),
            flow_idle_ns: 600 * SECOND,
            flow_max_ns: 3_600 * SECOND,
            ..ServiceRule::default()
        };
        let mut world = Self {
            settings: Settings {
                max_ttl_ns: MAX_TTL_NS,
                mode: MODE_ENFORCE,
                slot,
                generation: GENERATION,
                flags: FLAG_ALWAYS_ALLOW | FLAG_PREFIX_DESTINATIONS,
                knock_port: KNOCK_PORT.to_be_bytes(),
                reserved: [0; 2],
                flows_per_grant: 4,
            },
            ports: [(Protocol::Tcp, WEB_PORT, WEB), (Protocol::Udp, WEB_PORT, WEB), (Protocol::Tcp, SSH_PORT, SSH)]
                .map(|(protocol, port, service)| (port_index(slot, protocol, port), service))
                .into(),
            rules: [WEB, SSH].map(|service| (service_index(slot, service), rule)).into(),
            hosts: vec![addr::from_v4(HOST4), HOST6],
            destinations: vec![(addr::from_v4(BROADCAST4), V4_MAPPED_BITS + 32)],
            always_allow: vec![(addr::from_v4(ALLOWED.v4), V4_MAPPED_BITS + 32), (ALLOWED.v6, 64)],
            grants: BTreeMap::new(),
            gate: Gate::new(),
            flows: Arc::default(),
            now_ns,
        };
        let live = GrantValue::new(now_ns + 3_600 * SECOND, GENERATION);
        world.write(&GRANTED, WEB, live);
        for service in [WEB, SSH] {
            world.write(&ENDED, service, GrantValue::new(now_ns - SECOND, GENERATION));
            world.write(&REVOKED, service, GrantValue::new(now_ns + 3_600 * SECOND, GENERATION - 1));
            world.write(&TOO_LONG, service, GrantValue::new(now_ns + 2 * MAX_TTL_NS, GENERATION));
        }
        world
    }

    /// The same world, in which [`WEB`] keeps its sessions. It shares no flows with the first.
    #[must_use]
    pub fn keeping(&self) -> Self {
        let mut world = Self { flows: Arc::default(), ..self.clone() };
        if let Some(rule) = world.rules.get_mut(&service_index(world.settings.slot, WEB)) {
            rule.flags = RULE_TCP_FLOWS | RULE_KEEP_TCP | RULE_KEEP_UDP;
        }
        world
    }

    /// What becomes of a packet, by the decision and, if that says it is a knock, by the filter; rings have room.
    pub fn judge(&self, packet: &Packet<'_>, settings: &Settings) -> Decision {
        let decision = decide(packet, settings, self);
        match decision.verdict {
            Verdict::Knock => match self.gate.admit(packet.payload, self.now_ns) {
                Ok(_) => decision,
                Err(reason) => Decision { verdict: Verdict::Drop(reason), ..decision },
            },
            Verdict::Pass(_) | Verdict::Drop(_) => decision,
        }
    }

    /// Every flow.
    #[must_use]
    pub fn flows(&self) -> BTreeMap<FlowKey, FlowValue> {
        self.locked().flows.clone()
    }

    /// Puts a flow there, as an adoption does.
    pub fn put_flow(&self, key: FlowKey, value: FlowValue) {
        self.locked().flows.insert(key, value);
    }

    fn locked(&self) -> MutexGuard<'_, Flows> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&mut self, sender: &Sender, service: ServiceId, value: GrantValue) {
        let rule = self.rules[&service_index(self.settings.slot, service)];
        self.grants.insert(GrantKey::new(&addr::from_v4(sender.v4), &rule.mask_v4, service), value);
        self.grants.insert(GrantKey::new(&sender.v6, &rule.mask_v6, service), value);
    }
}

impl Tables for World {
    type Place = FlowKey;

    fn service(&self, port_index: u32) -> ServiceId {
        self.ports.get(&port_index).copied().unwrap_or(0)
    }

    fn rule(&self, service_index: u32) -> Option<&ServiceRule> {
        self.rules.get(&service_index)
    }

    fn is_host(&self, address: &Addr) -> bool {
        self.hosts.contains(address)
    }

    fn is_in_destinations(&self, address: &Addr) -> bool {
        covers(&self.destinations, address)
    }

    fn is_always_allowed(&self, address: &Addr) -> bool {
        covers(&self.always_allow, address)
    }

    fn grant(&self, key: &GrantKey) -> Option<GrantValue> {
        self.grants.get(key).copied()
    }

    fn flow(&self, key: &FlowKey) -> Option<(FlowKey, FlowValue)> {
        self.locked().flows.get(key).map(|value| (*key, *value))
    }

    fn touch_flow(&self, place: FlowKey, now_ns: u64, establishes: bool, closes: bool) {
        if let Some(value) = self.locked().flows.get_mut(&place) {
            value.seen_ns = now_ns;
            if establishes {
                value.state = STATE_ESTABLISHED;
            }
            if closes {
                value.flags |= FLAG_CLOSING;
            }
        }
    }

    fn flows_of(&self, grant: &GrantKey) -> Option<u64> {
        Some(self.locked().counts.get(grant).copied().unwrap_or(0))
    }

    fn open_flow(&self, key: &FlowKey, value: &FlowValue, grant: &GrantKey) -> bool {
        let mut flows = self.locked();
        if flows.flows.len() >= FLOWS_CAPACITY && !flows.flows.contains_key(key) {
            return false;
        }
        flows.flows.insert(*key, *value);
        *flows.counts.entry(*grant).or_default() += 1;
        true
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }
}

fn covers(prefixes: &[(Addr, u32)], address: &Addr) -> bool {
    prefixes.iter().any(|(prefix, bits)| {
        let mask = addr::mask(u8::try_from(*bits).unwrap_or(128));
        addr::masked(prefix, &mask) == addr::masked(address, &mask)
    })
}
