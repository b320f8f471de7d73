//! The program's counters, read by (service, verdict, reason).

use jpat_common::{
    grant::ServiceId,
    reason::{AUDIT_OFFSET, DropReason, PassReason, counter_index},
};

use super::{error::DataPathError, tables::Tables};

/// Packets that left the program for one reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Count {
    /// The service they were for, 0 for none.
    pub service: ServiceId,
    /// `pass`, `drop`, `audit` (would have been dropped) or `knock`.
    pub verdict: &'static str,
    /// Stable code of the reason.
    pub reason: &'static str,
    /// How many, since the maps were made.
    pub packets: u64,
}

/// All counters of these services (0 is read as well) that are not zero.
///
/// # Errors
/// The kernel's refusal.
pub fn read(tables: &Tables, services: impl Iterator<Item = ServiceId>) -> Result<Vec<Count>, DataPathError> {
    let mut counts = Vec::new();
    for service in std::iter::once(0).chain(services) {
        for (verdict, reason, slot) in slots() {
            let packets = tables.counter(counter_index(service, slot))?;
            if packets > 0 {
                counts.push(Count { service, verdict, reason, packets });
            }
        }
    }
    Ok(counts)
}

fn slots() -> impl Iterator<Item = (&'static str, &'static str, u32)> {
    let pass = PassReason::ALL.iter().map(|reason| ("pass", reason.as_str(), reason.number()));
    let drop = DropReason::ALL.iter().map(|reason| {
        let verdict = if *reason == DropReason::KnockQueued { "knock" } else { "drop" };
        (verdict, reason.as_str(), reason.number())
    });
    let audit = DropReason::ALL
        .iter()
        .filter(|reason| !reason.is_knock())
        .map(|reason| ("audit", reason.as_str(), reason.number() + AUDIT_OFFSET));
    pass.chain(drop).chain(audit)
}
