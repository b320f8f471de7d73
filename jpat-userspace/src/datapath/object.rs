//! The compiled XDP program, as `build.rs` left it.

/// The eBPF object: every map and program that [`jpat_common::map_name`] names.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/jpat.bpf.o"));
