//! A frame through the program's parser, decision and filter, and a sealed knock's header in the controller. The first byte of an
//! input says what the rest is and what the host is like; [`Scene`].

mod model;

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
use jpat_userspace::knock::{MAX_PAYLOAD as MAX_KNOCK, header};

use crate::{
    knocks::{STAFF, WALL_OFFSET_NS},
    packet::{ETHER_IPV4, ETHER_IPV6, UDP, ethernet, ipv4, ipv6, udp},
    recogniser::{Delivery, delivery},
    world::{ALLOWED, BROADCAST4, GRANTED, HOST4, HOST6, KNOCK_PORT, SSH_PORT, STRANGER, Sender, WEB_PORT, World},
};

/// Boot time of every input.
pub const NOW_NS: u64 = 1_000_000_000_000;

static WORLD: LazyLock<World> = LazyLock::new(|| World::new(NOW_NS));

/// What the first byte says, bit by bit.
#[derive(Clone, Copy, Debug)]
pub struct Scene(u8);

impl Scene {
    /// The rest is a knock's payload, and a datagram is put around it; else it is a frame.
    pub const PAYLOAD: u8 = 1;
    /// That datagram is IPv6.
    pub const V6: u8 = 2;
    /// `tunnels = "drop"`.
    pub const DROPS_TUNNELS: u8 = 4;
    /// Nobody accepts bare knocks.
    pub const NO_BARE: u8 = 8;
    /// The tag was seen before.
    pub const TAG_SEEN: u8 = 16;
    /// The controller did not say what time it is.
    pub const NO_TIME: u8 = 32;
    /// Every budget is used up.
    pub const NO_BUDGET: u8 = 64;

    const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// The rest is what was found.
pub fn fuzz(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let scene = Scene(*first);
    if !scene.has(Scene::PAYLOAD) {
        frame(scene, rest);
        return;
    }
    let datagram = udp(KNOCK_PORT, rest);
    let whole = if scene.has(Scene::V6) {
        ethernet(ETHER_IPV6, &ipv6(STRANGER.v6, HOST6, UDP, &datagram))
    } else {
        ethernet(ETHER_IPV4, &ipv4(STRANGER.v4, HOST4, UDP, 0, &[], &datagram))
    };
    let taken = frame(scene, &whole);
    assert_eq!(taken, (1..=MAX_PAYLOAD).contains(&rest.len()), "a whole datagram for the knock port");
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
    let goes_on =
        twice == once || (once == Verdict::Pass(PassReason::Grant) && twice == Verdict::Pass(PassReason::Flow));
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
    if let Some(tag) = model::tag(&bytes, &STAFF.entry()) {
        bytes[TAG_AT..TAG_AT + WORD].copy_from_slice(&tag);
        let is_sealed = matches!(judge(scene, &bytes), Some(Admitted::Sealed { .. }));
        let at = bytes.iter().fold(0, |at: usize, byte| at * 31 % bytes.len() + usize::from(*byte)) % bytes.len();
        bytes[at] ^= 1 << (at % 8);
        assert!(!is_sealed || judge(scene, &bytes).is_none(), "byte {at} counts for nothing");
    }
}

/// Whether the filter takes a payload. It does what the specification says, and moves the clock of nobody else.
fn judge(scene: Scene, payload: &[u8]) -> Option<Admitted> {
    let host = Host { scene, moved: Cell::new(None) };
    let admitted = filter(Cursor::over(payload), NOW_NS, &host);
    assert_eq!(admitted, model::judge(payload, NOW_NS, &host));
    assert_eq!(host.moved.get(), admitted.ok().map(|admitted| admitted.group()), "another group pays");
    if let Ok(Admitted::Sealed { tag, .. }) = admitted {
        assert_eq!(tag, payload[TAG_AT..TAG_AT + WORD]);
        assert!(header::parse(payload).is_ok(), "the controller cannot read what the filter takes");
    }
    reads(payload);
    admitted.ok()
}

/// The controller reads a header in which nothing is lost.
fn reads(payload: &[u8]) {
    let Ok(header) = header::parse(payload) else { return };
    let fixed = header::fixed(header.key_id, header.hint, header.time_ms);
    assert_eq!(fixed, *header.fixed);
    assert_eq!([&fixed[..], &header.tag, header.enc, header.ciphertext].concat(), payload);
    assert!(payload.len() <= MAX_KNOCK && header.time_ms <= header::MAX_TIME_MS);
}

/// The tables of the filter.
struct Host {
    scene: Scene,
    moved: Cell<Option<u32>>,
}

impl Filter for Host {
    fn knock_key(&self, id: [u8; 2]) -> Option<KnockKey> {
        (id == STAFF.map_key()).then(|| STAFF.entry())
    }

    fn wall_offset_ns(&self) -> Option<u64> {
        (!self.scene.has(Scene::NO_TIME)).then_some(WALL_OFFSET_NS)
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
