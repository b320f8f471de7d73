//! JPAT's XDP program.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod maps;

#[cfg(target_arch = "bpf")]
mod program {
    use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

    #[xdp]
    fn jpat(_context: XdpContext) -> u32 {
        xdp_action::XDP_PASS
    }

    /// Helpers of the "GPL-only" kind need a compatible licence.
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }
}

/// The program exists on the BPF target alone; elsewhere the package is its library.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
