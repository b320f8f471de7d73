//! The two clocks of the program: one that is exact, one that costs nothing.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns};

use crate::maps::CLOCK;

/// Nanoseconds of `CLOCK_BOOTTIME`, which goes on through suspend (since kernel 5.8).
#[inline(always)]
pub(crate) fn boot_ns() -> u64 {
    // SAFETY: the helper takes nothing and only reads a clock.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// As [`boot_ns`], read once per CPU and timer tick: behind by a tick at most, never ahead. After a suspend that takes
/// a tick as well, because jiffies stand still in it.
#[inline(always)]
pub(crate) fn tick_ns() -> u64 {
    let Some(cache) = CLOCK.get_ptr_mut(0) else { return boot_ns() };
    // SAFETY: the pointer is to this CPU's own element; the helper only reads a variable. Where another program of
    // this CPU came in between, the jiffy is written last, so that it never stands beside an older time.
    unsafe {
        let jiffy = bpf_jiffies64();
        let place = cache.cast::<u64>();
        if place.read_volatile() == jiffy {
            return place.add(1).read_volatile();
        }
        let now_ns = boot_ns();
        place.add(1).write_volatile(now_ns);
        place.write_volatile(jiffy);
        now_ns
    }
}
