//! The XDP program in the kernel.
fn main() {
    let mut ebpf = aya::Ebpf::load(jpat_userspace::datapath::object::OBJECT).unwrap();
    let program: &mut aya::programs::Xdp = ebpf.program_mut("jpat").unwrap().try_into().unwrap();
    program.load().unwrap();
}
