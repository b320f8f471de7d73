//! Audit mode, and the switch of slots by which a reload takes effect.

use anyhow::{Result, ensure};
use jpat_common::{
    map_name,
    reason::{AUDIT_OFFSET, DropReason, PassReason, counter_index},
    settings::{MODE_AUDIT, Protocol, Settings, port_index},
};
use jpat_ebpf::verdict::{Verdict, XDP_DROP, XDP_PASS};
use jpat_tests::{
    packet::{ETHER_IPV4, SYN, TCP, ethernet, ipv4, tcp},
    rows, vectors,
    world::{FREE_PORT, HOST4, SSH, STRANGER, WEB, WEB_PORT},
};

use crate::{
    Case,
    kernel::{self, Kernel},
};

pub(crate) const CASES: &[Case] =
    &[("p8_audit_mode_drops_nothing_but_knocks", audit_mode), ("one_number_switches_all_rules", slots)];

fn audit_mode() -> Result<()> {
    let mut world = kernel::world()?;
    world.settings.mode = MODE_AUDIT;
    let mut kernel = Kernel::load(&world)?;
    for vector in vectors::all().iter().filter(|vector| vector.flags == 0) {
        let (slot, action) = match vector.expected.verdict {
            Verdict::Pass(reason) => (reason.number(), XDP_PASS),
            Verdict::Drop(reason) if reason.is_knock() => (reason.number(), XDP_DROP),
            Verdict::Drop(reason) => (reason.number() + AUDIT_OFFSET, XDP_PASS),
            Verdict::Knock => (DropReason::KnockQueued.number(), XDP_DROP),
        };
        let index = counter_index(vector.expected.service, slot);
        let before = kernel.counter(index)?;
        let done = kernel.run(&vector.frame)?;
        ensure!(done == action, "{}: action {done}, not {action}", vector.name);
        ensure!(kernel.counter(index)? == before + 1, "{}: not counted in slot {slot}", vector.name);
        kernel.knocks()?;
    }
    Ok(())
}

/// In the other slot the protected port is free, and the free one belongs to another service.
fn slots() -> Result<()> {
    let world = kernel::world()?;
    let mut kernel = Kernel::load(&world)?;
    let other = Settings { slot: world.settings.slot ^ 1, ..world.settings };
    let ports = rows::ports([(port_index(other.slot, Protocol::Tcp, FREE_PORT), SSH)]);
    kernel.write_array(map_name::PORTS, &ports)?;
    let frame = |port| ethernet(ETHER_IPV4, &ipv4(STRANGER.v4, HOST4, TCP, 0, &[], &tcp(port, SYN, &[])));
    let no_grant = Verdict::Drop(DropReason::NoGrant);
    let unprotected = Verdict::Pass(PassReason::UnprotectedPort);
    for (settings, port, service, verdict) in [
        (world.settings, WEB_PORT, WEB, no_grant),
        (world.settings, FREE_PORT, 0, unprotected),
        (other, WEB_PORT, 0, unprotected),
        (other, FREE_PORT, SSH, no_grant),
        (world.settings, WEB_PORT, WEB, no_grant),
    ] {
        kernel.write_settings(&settings)?;
        let exit = verdict.exit(&settings);
        let index = counter_index(service, exit.slot);
        let before = kernel.counter(index)?;
        ensure!(kernel.run(&frame(port))? == exit.action, "slot {}, port {port}: not {verdict:?}", settings.slot);
        ensure!(kernel.counter(index)? == before + 1, "slot {}, port {port}: not counted", settings.slot);
    }
    Ok(())
}
