//! The one clock of the program.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;

/// Nanoseconds of `CLOCK_BOOTTIME`, which goes on through suspend (since kernel 5.8).
#[inline(always)]
pub(crate) fn boot_ns() -> u64 {
    // SAFETY: the helper takes nothing and only reads a clock.
    unsafe { bpf_ktime_get_boot_ns() }
}
