//! What stands in front of the rings: each question of `docs/protocol.md` §6.3 with its own reason, on every way in.

mod keys;
mod rings;

use anyhow::{Context, Result, ensure};
use jpat_common::{
    knock::MAX_PAYLOAD,
    map_name,
    reason::{DropReason, SLOTS, counter_index},
    sealed::{BARE_BUDGET, Budget, MIN_PAYLOAD, TYPE_REPLY, VERSION},
    settings::MODE_AUDIT,
};
use jpat_ebpf::verdict::{Verdict, XDP_DROP};
use jpat_tests::{
    knocks::{AMPLE, FOREIGN, GUESTS, STAFF, STAFF_NEXT, Sealed, TagKey, WINDOW_MS, tag_of},
    packet::{
        DESTINATION_OPTIONS, ETHER_IPV4, ETHER_IPV6, HOP_BY_HOP, UDP, ethernet, extended, ipv4, ipv6, tagged, udp,
    },
    world::{HOST4, HOST6, KNOCK_PORT, STRANGER, World},
};

use crate::{
    Case,
    kernel::{self, Kernel},
};

pub(crate) fn cases() -> impl Iterator<Item = &'static Case> {
    CASES.iter().chain(keys::CASES).chain(rings::CASES)
}

const CASES: &[Case] = &[
    ("p5_the_filter_gives_each_reason_in_jpat", || reasons(map_name::PROGRAM)),
    ("p5_the_filter_gives_each_reason_in_jpat_frags", || reasons(map_name::PROGRAM_FRAGS)),
    ("p5_the_filter_gives_each_reason_in_jpat_l3", || reasons(map_name::PROGRAM_L3)),
    ("p6_no_byte_of_a_sealed_knock_can_be_changed", every_byte),
    ("p6_no_length_of_a_sealed_knock_can_be_changed", every_length),
    ("p8_audit_mode_drops_what_the_filter_refuses", audited),
    ("p5_what_lies_in_a_second_buffer_is_no_knock", second_buffer),
];

const BARE: &[u8] = b"eyJ.eyJ.sig";
/// From the window's ends, which the host's tests look at: a busy machine is slow.
const MARGIN_MS: i64 = 20_000;
/// Allows none.
const NONE: Budget = Budget { interval_ns: 0, ..AMPLE };
/// Allows one, and the next one in ten minutes.
const ONE: Budget = Budget { interval_ns: 600_000_000_000, burst_ns: 600_000_000_000, next_ns: 0 };

/// How a datagram gets to the host.
#[derive(Clone, Copy, Debug)]
enum Way {
    V4,
    V6,
    V4Options,
    V6Extensions,
    V4Tagged,
    V6Tagged,
}

impl Way {
    const ALL: [Self; 6] = [Self::V4, Self::V6, Self::V4Options, Self::V6Extensions, Self::V4Tagged, Self::V6Tagged];

    const fn is_v6(self) -> bool {
        matches!(self, Self::V6 | Self::V6Extensions | Self::V6Tagged)
    }

    /// The frame, or the packet alone, in which the payload comes from the stranger.
    fn carry(self, payload: &[u8], program: &str) -> Vec<u8> {
        let datagram = udp(KNOCK_PORT, payload);
        let extensions: &[u8] =
            if matches!(self, Self::V6Extensions) { &[HOP_BY_HOP, DESTINATION_OPTIONS] } else { &[] };
        let options: &[u8] = if matches!(self, Self::V4Options) { &[1; 8] } else { &[] };
        let (next, datagram) = extended(extensions, UDP, &datagram);
        let packet = if self.is_v6() {
            ipv6(STRANGER.v6, HOST6, next, &datagram)
        } else {
            ipv4(STRANGER.v4, HOST4, next, 0, options, &datagram)
        };
        if program == map_name::PROGRAM_L3 {
            return packet;
        }
        let frame = ethernet(if self.is_v6() { ETHER_IPV6 } else { ETHER_IPV4 }, &packet);
        if matches!(self, Self::V4Tagged | Self::V6Tagged) {
            tagged(0x88a8, 7, &tagged(0x8100, 9, &frame))
        } else {
            frame
        }
    }
}

/// The program with a host's tables.
struct Stage {
    world: World,
    kernel: Kernel,
    program: &'static str,
}

impl Stage {
    fn new(program: &'static str) -> Result<Self> {
        if program == map_name::PROGRAM_FRAGS {
            kernel::need_frags()?;
        }
        let world = kernel::world()?;
        Ok(Self { kernel: Kernel::load_programs(&[program], &world)?, world, program })
    }

    fn set_budget(&mut self, group: u32, budget: Budget) -> Result<()> {
        self.kernel.write_array(map_name::BUDGETS, [(&group, &budget)])
    }

    /// Sends a payload; it must be dropped and counted once, and as this.
    fn send(&mut self, way: Way, payload: &[u8], verdict: Verdict, what: &str) -> Result<()> {
        self.send_frame(&way.carry(payload, self.program), verdict).with_context(|| format!("{what}, {way:?}"))
    }

    /// All that was counted for no service.
    fn counted(&self) -> Result<u64> {
        (0..SLOTS).map(|slot| self.kernel.counter(counter_index(0, slot))).sum()
    }

    fn send_frame(&mut self, frame: &[u8], verdict: Verdict) -> Result<()> {
        let slot = verdict.exit(&self.world.settings).slot;
        let index = counter_index(0, slot);
        let (before, all) = (self.kernel.counter(index)?, self.counted()?);
        let action = self.kernel.run_program(self.program, frame)?;
        ensure!(action == XDP_DROP, "action {action}");
        if self.kernel.counter(index)? != before + 1 {
            let other = DropReason::ALL
                .iter()
                .filter(|reason| self.kernel.counter(counter_index(0, reason.number())).is_ok_and(|count| count > 0));
            let other: Vec<_> = other.map(|reason| reason.as_str()).collect();
            anyhow::bail!("not counted as {verdict:?}; counted so far: {}", other.join(", "));
        }
        ensure!(self.counted()? == all + 1, "counted more than once");
        Ok(())
    }
}

/// A sound knock; no two are the same.
fn fresh(key: TagKey, length: usize) -> Result<Sealed> {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Ok(Sealed::new(key, kernel::boot_ns()?, length, number))
}

const fn drop(reason: DropReason) -> Verdict {
    Verdict::Drop(reason)
}

fn reasons(program: &'static str) -> Result<()> {
    let mut stage = Stage::new(program)?;
    let ways = Way::ALL
        .into_iter()
        .filter(|way| program != map_name::PROGRAM_L3 || !matches!(way, Way::V4Tagged | Way::V6Tagged));
    let mut sent = 0;
    for way in ways {
        for (what, payload, verdict) in refused()? {
            stage.send(way, &payload, verdict, what)?;
            sent += 1;
        }
        for key in [STAFF, STAFF_NEXT, GUESTS] {
            for length in [MIN_PAYLOAD, MIN_PAYLOAD + 8, 136 + 8, 152, 800, MAX_PAYLOAD - 8, MAX_PAYLOAD] {
                let knock = fresh(key, length)?;
                stage.send(way, &knock.bytes(), Verdict::Knock, "a sound knock")?;
                rings::expect_record(&mut stage, way, key.group, &knock.bytes())?;
                stage.send(way, &knock.bytes(), drop(DropReason::KnockTagSeen), "the same again")?;
            }
            for by_ms in [MARGIN_MS - WINDOW_MS, WINDOW_MS - MARGIN_MS] {
                let knock = fresh(key, 160)?.shifted(by_ms).bytes();
                stage.send(way, &knock, Verdict::Knock, "inside the window")?;
                rings::expect_record(&mut stage, way, key.group, &knock)?;
            }
        }
        stage.send(way, BARE, Verdict::Knock, "a bare knock")?;
        rings::expect_record(&mut stage, way, BARE_BUDGET, BARE)?;
        stage.set_budget(BARE_BUDGET, NONE)?;
        stage.send(way, BARE, drop(DropReason::KnockBareRefused), "no bare knock is wanted")?;
        stage.set_budget(BARE_BUDGET, ONE)?;
        stage.send(way, BARE, Verdict::Knock, "the one that may come")?;
        stage.send(way, BARE, drop(DropReason::KnockBareBudget), "the second")?;
        stage.set_budget(BARE_BUDGET, AMPLE)?;
        stage.set_budget(GUESTS.group, ONE)?;
        stage.send(way, &fresh(GUESTS, 200)?.bytes(), Verdict::Knock, "the one that may come")?;
        stage.send(way, &fresh(GUESTS, 200)?.bytes(), drop(DropReason::KnockBudget), "the second")?;
        stage.set_budget(GUESTS.group, NONE)?;
        stage.send(way, &fresh(GUESTS, 200)?.bytes(), drop(DropReason::KnockBudget), "a group that may not")?;
        stage.set_budget(GUESTS.group, AMPLE)?;
        ensure!(stage.kernel.knocks()?.len() == 2, "{way:?}: other records than those that were taken");
        for (group, budget) in [(STAFF.group, AMPLE), (GUESTS.group, AMPLE), (BARE_BUDGET, AMPLE)] {
            stage.set_budget(group, budget)?;
        }
    }
    println!("{program}: {sent} refused, each with its reason");
    Ok(())
}

/// What the filter refuses whatever the tables hold, and why.
fn refused() -> Result<Vec<(&'static str, Vec<u8>, Verdict)>> {
    use DropReason::{
        KnockBadTag, KnockNoForm, KnockSealedLength, KnockTime, KnockTooLong, KnockUnknownKey, KnockVersion,
    };
    let forged = TagKey { secret: FOREIGN.secret, ..STAFF };
    let other_id = Sealed { key_id: GUESTS.id, ..fresh(STAFF, 160)? };
    let mut rows = vec![
        ("another form", b"hello".to_vec(), drop(KnockNoForm)),
        ("one byte", vec![0], drop(KnockNoForm)),
        ("capital E", b"EyJ.eyJ.sig".to_vec(), drop(KnockNoForm)),
        ("longer than any", vec![b'J'; MAX_PAYLOAD + 1], drop(KnockTooLong)),
        ("a letter", b"J".to_vec(), drop(KnockSealedLength)),
        ("a word less than the shortest", fresh(STAFF, MIN_PAYLOAD - 8)?.bytes(), drop(KnockSealedLength)),
        ("no whole word more", fresh(STAFF, MIN_PAYLOAD + 1)?.bytes(), drop(KnockSealedLength)),
        ("four bytes more", fresh(STAFF, MIN_PAYLOAD + 4)?.bytes(), drop(KnockSealedLength)),
        ("one less than the most", fresh(STAFF, MAX_PAYLOAD - 1)?.bytes(), drop(KnockSealedLength)),
        ("the version before", Sealed { version: 0, ..fresh(STAFF, 160)? }.bytes(), drop(KnockVersion)),
        ("the next version", Sealed { version: VERSION + 1, ..fresh(STAFF, 160)? }.bytes(), drop(KnockVersion)),
        ("a reply", Sealed { kind: TYPE_REPLY, ..fresh(STAFF, 160)? }.bytes(), drop(KnockVersion)),
        ("another host's key", fresh(FOREIGN, 160)?.bytes(), drop(KnockUnknownKey)),
        ("key 0", Sealed { key_id: 0, ..fresh(STAFF, 160)? }.bytes(), drop(KnockUnknownKey)),
        (
            "an id in the other order",
            fresh(TagKey { id: STAFF.id.swap_bytes() ^ 1, ..STAFF }, 160)?.bytes(),
            drop(KnockUnknownKey),
        ),
        ("behind", fresh(STAFF, 160)?.shifted(-WINDOW_MS - MARGIN_MS).bytes(), drop(KnockTime)),
        ("ahead", fresh(STAFF, 160)?.shifted(WINDOW_MS + MARGIN_MS).bytes(), drop(KnockTime)),
        ("in 1970", Sealed { time_ms: 0, ..fresh(STAFF, 160)? }.bytes(), drop(KnockTime)),
        ("at the end of time", Sealed { time_ms: (1 << 48) - 1, ..fresh(STAFF, 160)? }.bytes(), drop(KnockTime)),
        ("another secret", fresh(forged, 160)?.bytes(), drop(KnockBadTag)),
        ("another secret, short", fresh(forged, MIN_PAYLOAD)?.bytes(), drop(KnockBadTag)),
        ("another secret, long", fresh(forged, MAX_PAYLOAD)?.bytes(), drop(KnockBadTag)),
        ("the id of another key", other_id.bytes(), drop(KnockBadTag)),
    ];
    for (at, what) in [(1, "QPAT"), (2, "JpAT"), (3, "JPaT")] {
        let mut bytes = fresh(STAFF, 160)?.bytes();
        bytes[at] ^= 0x20;
        rows.push((what, bytes, drop(KnockNoForm)));
    }
    Ok(rows)
}

/// Of a knock that is sound otherwise, each byte with each of its bits turned.
fn every_byte() -> Result<()> {
    let mut stage = Stage::new(map_name::PROGRAM)?;
    for (length, way) in [(MIN_PAYLOAD, Way::V4), (200, Way::V6), (MAX_PAYLOAD, Way::V4Tagged)] {
        let knock = fresh(STAFF, length)?.bytes();
        let taken = counter_index(0, DropReason::KnockQueued.number());
        for at in 0..length {
            for bit in 0..8 {
                let mut changed = knock.clone();
                changed[at] ^= 1 << bit;
                let action = stage.kernel.run_program(stage.program, &way.carry(&changed, stage.program))?;
                ensure!(action == XDP_DROP, "byte {at}, bit {bit} of {length} bytes: action {action}");
                ensure!(stage.kernel.counter(taken)? == 0, "byte {at}, bit {bit} of {length} bytes: taken");
            }
        }
        ensure!(stage.kernel.knocks()?.is_empty() && stage.kernel.tags()?.is_empty(), "something is left of them");
        stage.send(way, &knock, Verdict::Knock, "the knock itself")?;
        stage = Stage::new(map_name::PROGRAM)?;
    }
    Ok(())
}

fn every_length() -> Result<()> {
    let mut stage = Stage::new(map_name::PROGRAM)?;
    let knock = fresh(STAFF, 400)?.bytes();
    let long = [knock.clone(), vec![0; MAX_PAYLOAD]].concat();
    let taken = counter_index(0, DropReason::KnockQueued.number());
    for length in (0..=MAX_PAYLOAD + 8).filter(|length| *length != knock.len()) {
        let action = stage.kernel.run_program(stage.program, &Way::V4.carry(&long[..length], stage.program))?;
        ensure!(action == XDP_DROP, "{length} bytes of it: action {action}");
        ensure!(stage.kernel.counter(taken)? == 0, "{length} bytes of it: taken");
    }
    ensure!(stage.kernel.knocks()?.is_empty() && stage.kernel.tags()?.is_empty(), "something is left of them");
    stage.send(Way::V4, &knock, Verdict::Knock, "the knock itself")
}

/// Nothing that is for the knock port gets to the stack.
fn audited() -> Result<()> {
    let mut stage = Stage::new(map_name::PROGRAM)?;
    stage.world.settings.mode = MODE_AUDIT;
    stage.kernel.write_settings(&stage.world.settings)?;
    for (what, payload, verdict) in refused()? {
        stage.send(Way::V4, &payload, verdict, what)?;
    }
    let knock = fresh(STAFF, 160)?.bytes();
    stage.send(Way::V4, &knock, Verdict::Knock, "a sound knock")?;
    stage.send(Way::V6, &knock, drop(DropReason::KnockTagSeen), "the same again")?;
    stage.set_budget(BARE_BUDGET, NONE)?;
    stage.send(Way::V4, BARE, drop(DropReason::KnockBareRefused), "no bare knock is wanted")?;
    stage.set_budget(STAFF.group, NONE)?;
    stage.send(Way::V4, &fresh(STAFF, 160)?.bytes(), drop(DropReason::KnockBudget), "a group that may not")
}

/// Behind options of many bytes, the end of a payload is where the program does not read.
fn second_buffer() -> Result<()> {
    let mut stage = Stage::new(map_name::PROGRAM_FRAGS)?;
    let knock = fresh(STAFF, 800)?.bytes();
    let far = |words: u8, payload: &[u8]| {
        let first = [[DESTINATION_OPTIONS, 127].as_slice(), &[0; 1022]].concat();
        let second = [[UDP, words].as_slice(), &vec![0; usize::from(words) * 8 + 6]].concat();
        let packet = [first, second, udp(KNOCK_PORT, payload)].concat();
        ethernet(ETHER_IPV6, &ipv6(STRANGER.v6, HOST6, HOP_BY_HOP, &packet))
    };
    stage.send_frame(&far(60, &knock), Verdict::Knock).context("all of it in the first buffer")?;
    ensure!(stage.kernel.records(map_name::KNOCKS)?.len() == 1, "it is not in its ring");
    // A first buffer of a test run has 3,520 bytes or fewer.
    let cut = fresh(STAFF, 1_232)?.bytes();
    stage.send_frame(&far(250, &cut), drop(DropReason::KnockBadTag)).context("the end in the second")?;
    let bare = [b'e'; 1_232];
    stage.send_frame(&far(250, &bare), drop(DropReason::KnockTooLong)).context("the end of a bare one")?;
    ensure!(stage.kernel.knocks()?.is_empty(), "what could not be copied is in a ring");
    let tag = tag_of(&cut).context("a tag")?;
    ensure!(!stage.kernel.tags()?.contains(&tag), "what was not taken is remembered");
    Ok(())
}
