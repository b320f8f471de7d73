//! The programs that `cargo xtask bench` sets beside JPAT's own. No controller loads them.
//!
//! A test run gives every run the same frame, so what varies from packet to packet is made here; what it needs to
//! know lies in the frame's source MAC address, which nothing else reads.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod program {
    use aya_ebpf::{
        helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_redirect},
        macros::{map, xdp},
        maps::{LruHashMap, PerCpuArray, ProgramArray},
        programs::XdpContext,
    };
    use jpat_common::{
        addr,
        grant::{GrantKey, GrantValue},
    };
    use jpat_ebpf::verdict::{XDP_ABORTED, XDP_DROP, XDP_PASS};

    /// Ethernet and IPv4 header.
    type Headers = [u8; 34];

    /// The grants of the program under test: the loader puts its map here.
    #[map]
    static GRANTS: LruHashMap<GrantKey, GrantValue> = LruHashMap::with_max_entries(65_536, 0);
    /// Where [`vary`] goes on.
    #[map]
    static NEXT: ProgramArray = ProgramArray::with_max_entries(8, 0);
    /// When [`transmit`] sends its next frame.
    #[map]
    static DUE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

    /// The floor of whatever drops.
    #[xdp]
    fn bare_drop(_context: XdpContext) -> u32 {
        XDP_DROP
    }

    /// The floor of whatever passes.
    #[xdp]
    fn bare_pass(_context: XdpContext) -> u32 {
        XDP_PASS
    }

    /// Nothing but one look-up among the grants, by the source of an IPv4 packet, for service 1.
    #[xdp]
    fn bare_lookup(context: XdpContext) -> u32 {
        let Some(headers) = headers(&context) else {
            return XDP_ABORTED;
        };
        // SAFETY: the program that this one is loaded beside owns the frame for this run; it is read only.
        let &[.., a, b, c, d, _, _, _, _] = unsafe { &*headers };
        let key = GrantKey::new(&addr::from_v4([a, b, c, d]), &[0xff; 16], 1);
        // SAFETY: nothing is read through the reference.
        if unsafe { GRANTS.get(key) }.is_some() { XDP_PASS } else { XDP_DROP }
    }

    /// Gives the packet a random source among the first N addresses of 10.0.0.0/8 and goes on to another program. The
    /// source MAC holds N (4 bytes, little-endian) and the place of that program.
    #[xdp]
    fn vary(context: XdpContext) -> u32 {
        let Some(headers) = headers(&context) else {
            return XDP_ABORTED;
        };
        // SAFETY: `headers` are inside the frame, which is this run's alone.
        let &mut [
            _,
            _,
            _,
            _,
            _,
            _,
            n0,
            n1,
            n2,
            n3,
            next,
            ..,
            ref mut s0,
            ref mut s1,
            ref mut s2,
            ref mut s3,
            _,
            _,
            _,
            _,
        ] = unsafe { &mut *headers };
        let number = random(u32::from_le_bytes([n0, n1, n2, n3]));
        [*s0, *s1, *s2, *s3] = (0x0a00_0000 | number).to_be_bytes();
        // SAFETY: the kernel checks index and program; a failed call comes back here.
        unsafe { NEXT.tail_call(&context, u32::from(next)) };
        XDP_ABORTED
    }

    /// Sends the frame out of a device, from a random source in 10.0.0.0/8 and at most once per interval; drops it in
    /// between. The source MAC holds the device (2 bytes, little-endian) and the interval (4, nanoseconds).
    #[xdp]
    fn transmit(context: XdpContext) -> u32 {
        let (Some(headers), Some(due)) = (headers(&context), DUE.get_ptr_mut(0)) else {
            return XDP_ABORTED;
        };
        // SAFETY: `headers` are inside the frame, which is this run's alone.
        let &mut [_, _, _, _, _, _, d0, d1, i0, i1, i2, i3, .., ref mut s1, ref mut s2, ref mut s3, _, _, _, _] =
            unsafe { &mut *headers };
        let interval = u64::from(u32::from_le_bytes([i0, i1, i2, i3]));
        // SAFETY: a clock without arguments.
        let now = unsafe { bpf_ktime_get_ns() };
        // SAFETY: the element is this CPU's own.
        let due = unsafe { &mut *due };
        // A time further ahead is another flood's.
        if now < *due && *due - now <= interval {
            return XDP_DROP;
        }
        // What was not sent in time is not made up for in a burst of more than 32 frames.
        *due = if now.abs_diff(*due) > 32 * interval { now } else { *due + interval };
        [_, *s1, *s2, *s3] = random(1 << 24).to_be_bytes();
        // SAFETY: the helper takes plain numbers.
        unsafe { bpf_redirect(u32::from(u16::from_le_bytes([d0, d1])), 0) as u32 }
    }

    #[inline(always)]
    fn headers(context: &XdpContext) -> Option<*mut Headers> {
        let start = context.data();
        (start + size_of::<Headers>() <= context.data_end()).then_some(start as *mut Headers)
    }

    /// A number below `below`.
    #[inline(always)]
    fn random(below: u32) -> u32 {
        // SAFETY: the helper takes nothing.
        let random = unsafe { bpf_get_prandom_u32() };
        ((u64::from(random) * u64::from(below)) >> 32) as u32
    }

    // SAFETY: the loader reads this section by name; nothing else defines the symbol.
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

    /// No path leads here: a panic that could be reached would fail the verifier.
    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }
}

/// The programs exist on the BPF target alone.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
