use aya::{EbpfLoader, VerifierLogLevel, programs::Xdp};
fn main() {
    let mut ebpf = EbpfLoader::new().verifier_log_level(VerifierLogLevel::VERBOSE | VerifierLogLevel::STATS).load(jpat_userspace::datapath::object::OBJECT).unwrap();
    let p: &mut Xdp = ebpf.program_mut("jpat").unwrap().try_into().unwrap();
    match p.load() { Ok(()) => {}, Err(e) => { let s = format!("{e}"); let s=s.replace("\\n","\n"); std::fs::write("/tmp/vlog", &s).unwrap(); println!("...{}", &s[s.len().saturating_sub(6000)..]); panic!() } }
    println!("{:?}", p.info().unwrap().verified_instruction_count());
}
