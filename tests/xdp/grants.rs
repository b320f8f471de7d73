//! The program itself ends a grant.

use std::{thread::sleep, time::Duration};

use anyhow::{Result, ensure};
use jpat_common::{
    addr,
    grant::{GrantKey, GrantValue, ServiceId},
    hints, map_name,
    reason::{DropReason, PassReason, counter_index},
    settings::{FLAG_GRANT_HINTS, Settings, service_index},
};
use jpat_ebpf::verdict::Verdict;
use jpat_tests::{
    packet::{ETHER_IPV4, ETHER_IPV6, SYN, TCP, ethernet, ipv4, ipv6, tcp},
    rows,
    world::{GENERATION, GRANTED, HOST4, HOST6, MAX_TTL_NS, SSH, SSH_PORT, STRANGER, Sender, WEB, WEB_PORT, World},
};

use crate::{
    Case,
    kernel::{self, Kernel},
};

pub(crate) const CASES: &[Case] = &[
    ("p3_a_grant_ends_by_time_alone", ends_by_time),
    ("p3_a_raised_generation_ends_every_grant", ends_by_generation),
    ("p3_a_grant_above_the_cap_does_not_open", capped),
    ("p2_a_grant_opens_its_service_and_prefix_only", opens_its_own),
    ("p4_a_grant_opens_by_its_hint_and_only_where_hints_are_kept", hinted),
];

const MILLISECOND: u64 = 1_000_000;

struct Stage {
    world: World,
    kernel: Kernel,
}

impl Stage {
    fn new() -> Result<Self> {
        let world = kernel::world()?;
        Ok(Self { kernel: Kernel::load(&world)?, world })
    }

    fn grant(&mut self, sender: &Sender, service: ServiceId, value: &GrantValue) -> Result<()> {
        let rule = self.world.rules[&service_index(self.world.settings.slot, service)];
        self.kernel.write_grant(&GrantKey::new(&addr::from_v4(sender.v4), &rule.mask_v4, service), value)?;
        self.kernel.write_grant(&GrantKey::new(&sender.v6, &rule.mask_v6, service), value)
    }

    /// Sends a SYN in both families and checks action and counter.
    fn expect(&self, sender: &Sender, service: ServiceId, port: u16, verdict: Verdict, why: &str) -> Result<()> {
        let segment = tcp(port, SYN, &[]);
        let exit = verdict.exit(&self.world.settings);
        let index = counter_index(service, exit.slot);
        for frame in [
            ethernet(ETHER_IPV4, &ipv4(sender.v4, HOST4, TCP, 0, &[], &segment)),
            ethernet(ETHER_IPV6, &ipv6(sender.v6, HOST6, TCP, &segment)),
        ] {
            let before = self.kernel.counter(index)?;
            let action = self.kernel.run(&frame)?;
            ensure!(action == exit.action, "{why}: {} got action {action}, not {verdict:?}", sender.name);
            ensure!(self.kernel.counter(index)? == before + 1, "{why}: not counted as {verdict:?}");
        }
        Ok(())
    }
}

fn ends_by_time() -> Result<()> {
    let mut stage = Stage::new()?;
    let end_ns = kernel::boot_ns()? + 300 * MILLISECOND;
    stage.grant(&STRANGER, WEB, &GrantValue::new(end_ns, GENERATION))?;
    stage.expect(&STRANGER, WEB, WEB_PORT, Verdict::Pass(PassReason::Grant), "before the end")?;
    sleep(Duration::from_nanos(end_ns.saturating_sub(kernel::boot_ns()?)));
    stage.expect(&STRANGER, WEB, WEB_PORT, Verdict::Drop(DropReason::GrantEnded), "at the end")
}

fn ends_by_generation() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.expect(&GRANTED, WEB, WEB_PORT, Verdict::Pass(PassReason::Grant), "in its generation")?;
    stage.kernel.write_settings(&Settings { generation: GENERATION + 1, ..stage.world.settings })?;
    stage.expect(&GRANTED, WEB, WEB_PORT, Verdict::Drop(DropReason::GrantRevoked), "in the next")
}

fn capped() -> Result<()> {
    let mut stage = Stage::new()?;
    let cap = kernel::boot_ns()? + MAX_TTL_NS;
    stage.grant(&STRANGER, WEB, &GrantValue::new(cap + 5_000 * MILLISECOND, GENERATION))?;
    stage.expect(&STRANGER, WEB, WEB_PORT, Verdict::Drop(DropReason::GrantTooLong), "above the cap")?;
    stage.grant(&STRANGER, WEB, &GrantValue::new(u64::MAX, GENERATION))?;
    stage.expect(&STRANGER, WEB, WEB_PORT, Verdict::Drop(DropReason::GrantTooLong), "for ever")?;
    stage.grant(&STRANGER, WEB, &GrantValue::new(cap, GENERATION))?;
    stage.expect(&STRANGER, WEB, WEB_PORT, Verdict::Pass(PassReason::Grant), "at the cap")
}

fn opens_its_own() -> Result<()> {
    let stage = Stage::new()?;
    stage.expect(&GRANTED, WEB, WEB_PORT, Verdict::Pass(PassReason::Grant), "its service")?;
    stage.expect(&GRANTED, SSH, SSH_PORT, Verdict::Drop(DropReason::NoGrant), "another service")?;
    let mut neighbour = GRANTED;
    neighbour.v4[3] ^= 0x80;
    neighbour.v6[7] ^= 1;
    stage.expect(&neighbour, WEB, WEB_PORT, Verdict::Drop(DropReason::NoGrant), "another prefix")?;
    let mut same_prefix = GRANTED;
    same_prefix.v6[15] ^= 0x80;
    stage.expect(&same_prefix, WEB, WEB_PORT, Verdict::Pass(PassReason::Grant), "the same prefix")
}

fn hinted() -> Result<()> {
    let mut stage = Stage::new()?;
    stage.expect(&GRANTED, WEB, WEB_PORT, Verdict::Pass(PassReason::Grant), "nobody keeps hints")?;
    let flags = stage.world.settings.flags | FLAG_GRANT_HINTS;
    stage.kernel.write_settings(&Settings { flags, ..stage.world.settings })?;
    stage.expect(&GRANTED, WEB, WEB_PORT, Verdict::Drop(DropReason::NoGrant), "no hint")?;
    let rule = stage.world.rules[&service_index(stage.world.settings.slot, WEB)];
    let keys = [(addr::from_v4(GRANTED.v4), rule.mask_v4), (GRANTED.v6, rule.mask_v6)];
    let keys = keys.map(|(source, mask)| GrantKey::new(&source, &mask, WEB));
    stage.kernel.write_array(map_name::GRANT_HINTS, &rows::hints(&keys))?;
    stage.expect(&GRANTED, WEB, WEB_PORT, Verdict::Pass(PassReason::Grant), "its hint")?;
    // The whole table set: every look-up is made, and nobody comes in by it.
    for row in 0..hints::ROWS {
        stage.kernel.write_array(map_name::GRANT_HINTS, [(&row, &[u64::MAX; 128])])?;
    }
    stage.expect(&STRANGER, WEB, WEB_PORT, Verdict::Drop(DropReason::NoGrant), "hints alone")?;
    stage.expect(&GRANTED, WEB, WEB_PORT, Verdict::Pass(PassReason::Grant), "every hint")
}
