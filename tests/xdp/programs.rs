//! The program's other entries: for frames of several buffers, and for devices whose frames begin with the IP header.

use anyhow::{Context, Result, ensure};
use jpat_common::{
    knock::{KnockMeta, MAX_PAYLOAD},
    map_name,
    reason::{DropReason, PassReason, counter_index},
};
use jpat_ebpf::{
    decide::decide,
    frame::Cursor,
    parse::{Packet, parse, parse_l3},
    verdict::{Decision, Exit, Verdict},
};
use jpat_tests::{
    packet::{DESTINATION_OPTIONS, ETHER_IPV4, ETHER_IPV6, HOP_BY_HOP, SYN, TCP, UDP, ethernet, ipv4, ipv6, tcp, udp},
    vectors,
    world::{FREE_PORT, GRANTED, HOST4, HOST6, KNOCK_PORT, STRANGER, Sender, WEB, WEB_PORT, World},
};

use crate::{
    Case,
    kernel::{self, Kernel},
};

pub(crate) const CASES: &[Case] = &[
    ("p2_the_program_for_several_buffers_does_the_same", same_for_frags),
    ("p2_frames_of_several_buffers_are_judged", several_buffers),
    ("p2_the_program_without_a_link_header_does_the_same", same_for_l3),
];

/// The kernel takes no shorter frame for a test run.
const SHORTEST: usize = 14;
/// More than any page holds.
const JUMBO: usize = 8_900;

struct Trial<'a> {
    world: &'a World,
    kernel: Kernel,
    program: &'a str,
    parser: fn(Cursor<'_>) -> Packet<'_>,
    frames: u64,
}

impl Trial<'_> {
    /// Compares action and counter with the host's decision, and that with what is expected, if anything is.
    fn judge(&mut self, name: &str, frame: &[u8], expected: Option<Verdict>) -> Result<()> {
        let settings = &self.world.settings;
        let decision: Decision = self.world.judge(&(self.parser)(Cursor::over(frame)), settings);
        let Exit { slot, action } = expected.unwrap_or(decision.verdict).exit(settings);
        let index = counter_index(decision.service, slot);
        let before = self.kernel.counter(index)?;
        let done = self.kernel.run_program(self.program, frame).with_context(|| name.to_owned())?;
        let counted = self.kernel.counter(index)? - before;
        ensure!(
            done == action && counted == 1,
            "{} on {name}: action {done}, host {decision:?}, expected {expected:?}, counted {counted}",
            self.program
        );
        self.frames += 1;
        if slot == DropReason::KnockQueued.number() && expected.is_none() {
            self.kernel.knocks()?;
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        let counted = self.kernel.all_counters()?;
        ensure!(counted == self.frames, "{} frames, but the counters add up to {counted}", self.frames);
        println!("{}: {} frames", self.program, self.frames);
        Ok(())
    }
}

fn frags(world: &World) -> Result<Trial<'_>> {
    kernel::need_frags()?;
    let kernel = Kernel::load_programs(&[map_name::PROGRAM_FRAGS], world)?;
    Ok(Trial { world, kernel, program: map_name::PROGRAM_FRAGS, parser: parse, frames: 0 })
}

fn same_for_frags() -> Result<()> {
    let world = kernel::world()?;
    let mut trial = frags(&world)?;
    for vector in vectors::all().iter().filter(|vector| vector.frame.len() >= SHORTEST && vector.flags == 0) {
        trial.judge(&vector.name, &vector.frame, None)?;
    }
    ensure!(trial.frames > 1_500, "only {} vectors", trial.frames);
    trial.finish()
}

fn v4(sender: Sender, protocol: u8, segment: &[u8]) -> Vec<u8> {
    ethernet(ETHER_IPV4, &ipv4(sender.v4, HOST4, protocol, 0, &[], segment))
}

fn v6(sender: Sender, next: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(ETHER_IPV6, &ipv6(sender.v6, HOST6, next, payload))
}

fn several_buffers() -> Result<()> {
    let world = kernel::world()?;
    let mut trial = frags(&world)?;
    let body = vec![0x5a; JUMBO];
    let granted = Verdict::Pass(PassReason::Grant);
    let refused = Verdict::Drop(DropReason::NoGrant);
    let free = Verdict::Pass(PassReason::UnprotectedPort);
    for (name, port, sender, expected) in [
        ("granted", WEB_PORT, GRANTED, granted),
        ("stranger", WEB_PORT, STRANGER, refused),
        ("unprotected", FREE_PORT, STRANGER, free),
    ] {
        for (protocol, segment) in [(TCP, tcp(port, SYN, &body)), (UDP, udp(port, &body))] {
            trial.judge(&format!("{name} v4 {protocol}"), &v4(sender, protocol, &segment), Some(expected))?;
            trial.judge(&format!("{name} v6 {protocol}"), &v6(sender, protocol, &segment), Some(expected))?;
        }
    }
    lying_lengths(&mut trial, &body)?;

    let token = vec![b'e'; MAX_PAYLOAD];
    let padded = [v4(STRANGER, UDP, &udp(KNOCK_PORT, &token)), body.clone()].concat();
    trial.judge("a knock and padding", &padded, Some(Verdict::Knock))?;
    let records = trial.kernel.knocks()?;
    let payload = &records.first().context("no knock in the ring")?[size_of::<KnockMeta>()..];
    ensure!(payload == token, "the knock differs from what was sent");
    let too_long = Verdict::Drop(DropReason::KnockTooLong);
    trial.judge("a long knock", &v4(STRANGER, UDP, &udp(KNOCK_PORT, &body)), Some(too_long))?;

    // Two headers of 2048 bytes move the transport header into the second buffer, where the program reads nothing.
    let far = [[DESTINATION_OPTIONS, 255].as_slice(), &[0; 2046], &[TCP, 255], &[0; 2046]].concat();
    let far = [far, tcp(FREE_PORT, SYN, &body[..1_000])].concat();
    let unseen = Verdict::Drop(DropReason::TruncatedL4);
    let Exit { slot, action } = unseen.exit(&world.settings);
    let index = counter_index(0, slot);
    let before = trial.kernel.counter(index)?;
    let done = trial.kernel.run_program(trial.program, &v6(STRANGER, HOP_BY_HOP, &far))?;
    ensure!(done == action && trial.kernel.counter(index)? == before + 1, "a far transport header: action {done}");
    trial.frames += 1;
    trial.finish()
}

/// Lengths are held against all buffers, and not against the first alone.
fn lying_lengths(trial: &mut Trial<'_>, body: &[u8]) -> Result<()> {
    let beyond = |mut frame: Vec<u8>, at: usize, by: u16| {
        let length = u16::from_be_bytes([frame[at], frame[at + 1]]) + by;
        frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
        frame
    };
    let bad_ip = Verdict::Drop(DropReason::BadIpLength);
    let whole = v4(GRANTED, TCP, &tcp(WEB_PORT, SYN, body));
    trial.judge("v4 length one beyond", &beyond(whole, 16, 1), Some(bad_ip))?;
    let whole = v6(GRANTED, TCP, &tcp(WEB_PORT, SYN, body));
    trial.judge("v6 length one beyond", &beyond(whole, 18, 1), Some(bad_ip))?;
    let whole = v4(GRANTED, UDP, &udp(WEB_PORT, body));
    let bad_udp = Verdict::Drop(DropReason::BadUdpLength);
    let decision = decide(&parse(Cursor::over(&beyond(whole.clone(), 38, 1))), &trial.world.settings, trial.world);
    ensure!(decision.service == WEB, "the datagram is not for the service: {decision:?}");
    trial.judge("udp length one beyond", &beyond(whole, 38, 1), Some(bad_udp))
}

fn same_for_l3() -> Result<()> {
    let world = kernel::world()?;
    let kernel = Kernel::load_programs(&[map_name::PROGRAM_L3], &world)?;
    let mut trial = Trial { world: &world, kernel, program: map_name::PROGRAM_L3, parser: parse_l3, frames: 0 };
    for vector in vectors::all() {
        let Some((_, packet)) = vector.frame.split_at_checked(SHORTEST) else { continue };
        let has_ip = [(ETHER_IPV4, 4), (ETHER_IPV6, 6)].iter().any(|(kind, version)| {
            vector.frame[12..14] == u16::to_be_bytes(*kind) && packet.first().is_some_and(|byte| byte >> 4 == *version)
        });
        if packet.len() < SHORTEST || vector.flags != 0 {
            continue;
        }
        // Behind anything else, and where EtherType and version differ, the first byte says what the packet is taken for; it is never passed as "not IP".
        trial.judge(&vector.name, packet, has_ip.then_some(vector.expected.verdict))?;
        if has_ip && vector.expected.verdict == Verdict::Knock {
            trial.kernel.knocks()?;
        }
    }
    ensure!(trial.frames > 1_000, "only {} vectors", trial.frames);
    for version in (0..16).filter(|version| ![4, 6].contains(version)) {
        let bad = Verdict::Drop(DropReason::BadIpHeader);
        trial.judge(&format!("IP version {version}"), &[version << 4; 60], Some(bad))?;
    }
    trial.finish()
}
