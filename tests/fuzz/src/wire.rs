//! A frame through the program's parser, decision and filter, and a sealed knock's header in the controller. The first byte of an
//! input says what the rest is and what the host is like; [`Scene`].

#[path = "../../harness/packet.rs"]
pub mod packet;
#[path = "../../../jpat-ebpf/tests/recogniser/mod.rs"]
mod recogniser;
mod model;
#[path = "../../harness/world.rs"]
pub mod world;

use std::{cell::Cell, net::IpAddr, sync::LazyLock};

use jpat_common::{
    knock::MAX_PAYLOAD,
    reason::PassReason,
    sealed::{BARE_BUDGET, Budget, KnockKey, TAG_AT, WORD},
    settings::{FLAG_DROP_TUNNELS, Protocol, Settings},
};
use jpat_ebpf::{
    decide::decide,
    filter::{Admitted, Filter, filter},
    frame::Cursor,
    parse::{Carries, parse, parse_any},
    verdict::Verdict,
};
use packet::{ETHER_IPV4, ETHER_IPV6, UDP, ethernet, ipv4, ipv6, udp};
use recogniser::{Delivery, delivery};
use world::{ALLOWED, BROADCAST4, GRANTED, HOST4, HOST6, KNOCK_PORT, SSH_PORT, STRANGER, Sender, WEB_PORT, World};

/// Boot time of every input.
pub const NOW_NS: u64 = 1_000_000_000_000;
/// What makes it 2023-11-14T22:13:20Z.
pub const OFFSET_NS: u64 = 1_700_000_000_000_000_000 - NOW_NS;
/// The one knock key of the host, and its group.
pub const KEY_ID: [u8; 2] = [0, 1];
const KEY: KnockKey = KnockKey { k0: 0x0706_0504_0302_0100, k1: 0x0f0e_0d0c_0b0a_0908, group: 1, reserved: 0 };

static WORLD: LazyLock<World> = LazyLock::new(|| World::new(NOW_NS));

/// What the first byte says, bit by bit.
#[derive(Clone, Copy, Debug)]
struct Scene(u8);

impl Scene {
    /// The rest is a knock's payload, and a datagram is put around it; else it is a frame.
    const PAYLOAD: u8 = 1;
    /// That datagram is IPv6.
    const V6: u8 = 2;
    /// `tunnels = "drop"`.
    const DROPS_TUNNELS: u8 = 4;
    /// Nobody accepts bare knocks.
    const NO_BARE: u8 = 8;
    /// The tag was seen before.
    const TAG_SEEN: u8 = 16;
    /// The controller did not say what time it is.
    const NO_TIME: u8 = 32;
    /// Every budget is used up.
    const NO_BUDGET: u8 = 64;

    const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// The rest is what was found.
pub fn fuzz(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let scene = Scene(*first);
    if !scene.has(Scene::PAYLOAD) {
        return frame(scene, rest);
    }
    let datagram = udp(KNOCK_PORT, rest);
    let whole = if scene.has(Scene::V6) {
        ethernet(ETHER_IPV6, &ipv6(STRANGER.v6, HOST6, UDP, &datagram))
    } else {
        ethernet(ETHER_IPV4, &ipv4(STRANGER.v4, HOST4, UDP, 0, &[], &datagram))
    };
    let taken = frame(scene, &whole);
    assert_eq!(taken, rest.len() <= MAX_PAYLOAD, "a whole datagram for the knock port");
}

/// Whether it was a knock.
fn frame(scene: Scene, frame: &[u8]) -> bool {
    let packet = parse(Cursor::over(frame));
    let long = parse_any(Cursor::over(frame));
    assert_eq!((packet.addresses, packet.carries), (long.addresses, long.carries), "the short way is another one");
    if packet.carries == Carries::Segment {
        assert_eq!(packet.segment, long.segment);
        if packet.segment.protocol == Protocol::Udp && packet.segment.fault.is_none() {
            assert_eq!(bytes(packet.payload), bytes(long.payload));
        }
    }

    let flags = if scene.has(Scene::DROPS_TUNNELS) { FLAG_DROP_TUNNELS } else { 0 };
    let settings = Settings { flags: WORLD.settings.flags | flags, ..WORLD.settings };
    let verdict = decide(&packet, &settings, &*WORLD).verdict;
    if let Some(delivery) = delivery(frame).filter(is_protected) {
        assert!(!matches!(verdict, Verdict::Pass(_)), "{verdict:?} for {delivery:?}");
    }
    assert_ne!(verdict, Verdict::Pass(PassReason::Flow), "there are no flows");
    // Where connections are kept: what opened a flow goes on under it or under its grant, nothing else does.
    let keeping = WORLD.keeping();
    let [once, twice] = [(); 2].map(|()| decide(&packet, &settings, &keeping).verdict);
    assert_eq!(once, verdict, "a flow that was not there");
    let goes_on = twice == once || (once == Verdict::Pass(PassReason::Grant) && twice == Verdict::Pass(PassReason::Flow));
    assert!(goes_on, "{once:?}, then {twice:?}");

    let is_knock = verdict == Verdict::Knock;
    if is_knock {
        knock(scene, packet.payload);
    }
    is_knock
}

/// Whether a packet may be refused, by a second opinion on the tables of [`World`].
fn is_protected(delivery: &Delivery) -> bool {
    let Delivery { source, destination, is_udp, port, is_fragment } = *delivery;
    let judged = match destination {
        IpAddr::V4(to) => {
            let own = [HOST4, BROADCAST4].contains(&to.octets());
            own || to.is_multicast() || to.is_broadcast() || to.is_loopback()
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

fn knock(scene: Scene, payload: Cursor<'_>) {
    let mut bytes = bytes(payload);
    judge(scene, &bytes);
    // A search does not find tags: the same with the right one, and with a byte changed after that.
    if let Some(tag) = model::tag(&bytes, &KEY) {
        bytes[TAG_AT..TAG_AT + WORD].copy_from_slice(&tag);
        let admitted = judge(scene, &bytes);
        let at = bytes.iter().fold(0, |at: usize, byte| at * 31 % bytes.len() + usize::from(*byte)) % bytes.len();
        bytes[at] ^= 1 << (at % 8);
        assert!(!(admitted && judge(scene, &bytes)), "byte {at} counts for nothing");
    }
}

/// Whether the filter takes a payload. It does what the specification says, and moves the clock of nobody else.
fn judge(scene: Scene, payload: &[u8]) -> bool {
    let host = Host { scene, moved: Cell::new(None) };
    let admitted = filter(Cursor::over(payload), NOW_NS, &host);
    assert_eq!(admitted, model::judge(payload, NOW_NS, &host));
    assert_eq!(host.moved.get(), admitted.ok().map(|admitted| admitted.group()), "another group pays");
    if let Ok(Admitted::Sealed { tag, .. }) = admitted {
        assert_eq!(tag, payload[TAG_AT..TAG_AT + WORD]);
    }
    admitted.is_ok()
}

/// The tables of the filter.
struct Host {
    scene: Scene,
    moved: Cell<Option<u32>>,
}

impl Filter for Host {
    fn knock_key(&self, id: [u8; 2]) -> Option<KnockKey> {
        (id == KEY_ID).then_some(KEY)
    }

    fn wall_offset_ns(&self) -> Option<u64> {
        (!self.scene.has(Scene::NO_TIME)).then_some(OFFSET_NS)
    }

    fn is_tag_seen(&self, _tag: &[u8; WORD]) -> bool {
        self.scene.has(Scene::TAG_SEEN)
    }

    fn budget(&self, group: u32) -> Option<Budget> {
        let interval_ns = if group == BARE_BUDGET && self.scene.has(Scene::NO_BARE) { 0 } else { 1_000_000 };
        let ahead = if self.scene.has(Scene::NO_BUDGET) { 10_000_000 } else { 0 };
        Some(Budget { interval_ns, burst_ns: 10_000_000, next_ns: NOW_NS + ahead })
    }

    fn set_clock(&self, group: u32, next_ns: u64) {
        assert!(next_ns > NOW_NS, "the clock of group {group} goes back");
        assert_eq!(self.moved.replace(Some(group)), None, "two knocks for one");
    }
}

fn bytes(mut cursor: Cursor<'_>) -> Vec<u8> {
    std::iter::from_fn(|| cursor.take::<1>().map(|[byte]| *byte)).collect()
}
