//! The single exit: whatever leaves is counted here, by (service, reason).

use jpat_common::{grant::ServiceId, reason::counter_index};
use jpat_ebpf::verdict::Exit;

use crate::maps::COUNTERS;

/// Counts the packet and gives its XDP action.
#[inline(always)]
pub(crate) fn leave(service: ServiceId, exit: Exit) -> u32 {
    let Exit { slot, action } = exit;
    if let Some(counter) = COUNTERS.get_ptr_mut(counter_index(service, slot)) {
        // SAFETY: the pointer is to this CPU's own element, and XDP programs do not interrupt each other on a CPU.
        unsafe { *counter += 1 };
    }
    action
}
