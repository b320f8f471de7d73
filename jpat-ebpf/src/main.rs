//! JPAT's XDP program: the library's parser and decision between a frame and the kernel's maps.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod clock;
#[cfg(target_arch = "bpf")]
mod knock;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod stats;

#[cfg(target_arch = "bpf")]
mod program {
    use aya_ebpf::{helpers::generated::bpf_xdp_get_buff_len, macros::xdp, programs::XdpContext};
    use jpat_ebpf::{
        decide::decide,
        frame::Cursor,
        parse::{Packet, parse, parse_l3},
        verdict::{Decision, Verdict, XDP_ABORTED},
    };

    use crate::{
        knock,
        maps::{self, KernelTables},
        stats,
    };

    /// The entry for devices with an Ethernet header.
    #[xdp]
    fn jpat(context: XdpContext) -> u32 {
        judge(&context, &parse(frame(&context, context.data_end() - context.data())))
    }

    /// The same for frames of several buffers, of which the program reads the first.
    #[xdp(frags)]
    fn jpat_frags(context: XdpContext) -> u32 {
        // SAFETY: the context is the one of this run; the helper only adds up lengths (since kernel 5.18).
        let length = unsafe { bpf_xdp_get_buff_len(context.ctx) };
        judge(&context, &parse(frame(&context, length as usize)))
    }

    /// The entry for devices whose frames begin with the IP header.
    #[xdp]
    fn jpat_l3(context: XdpContext) -> u32 {
        judge(&context, &parse_l3(frame(&context, context.data_end() - context.data())))
    }

    #[inline(always)]
    fn frame(context: &XdpContext, length: usize) -> Cursor<'_> {
        // SAFETY: the kernel lends the frame between these two pointers for this run, and nothing here writes to it.
        unsafe { Cursor::from_raw(context.data() as *const u8, context.data_end() as *const u8, length) }
    }

    #[inline(always)]
    fn judge(context: &XdpContext, packet: &Packet<'_>) -> u32 {
        // The kernel never returns null for the one element of an array; the verifier wants the question.
        let Some(settings) = maps::settings() else {
            return XDP_ABORTED;
        };
        let Decision { service, verdict } = decide(packet, &settings, &KernelTables);
        let mut exit = verdict.exit(&settings);
        if matches!(verdict, Verdict::Knock) {
            exit.slot = knock::queue(context, packet, context.ingress_ifindex() as u32);
        }
        #[cfg(feature = "debug-log")]
        aya_log_ebpf::debug!(context, "service {} slot {}", service, exit.slot);
        stats::leave(service, exit)
    }

    /// Some helpers are for programs under a licence compatible with the GPL.
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

/// The program exists on the BPF target alone; elsewhere the package is its library.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
