//! What JPAT's privileged tests and the lab stand on: network namespaces, real services in them, probes that tell
//! silence from refusal, and the programs under test as children that never outlive their owner.
#![forbid(unsafe_code)]

// The stage.
pub mod privileges;
pub mod guest;
pub mod bpffs;
pub mod netns;
pub mod network;
pub mod leftovers;
pub mod signals;
pub mod process;
pub mod binaries;
pub mod cgroup;
pub mod earlier;

// What lives on it.
pub mod services;
pub mod https;
pub mod forge;
pub mod knocker;

// What looks at it.
pub mod probe;
pub mod capture;
pub mod wire;
pub mod tun;
pub mod ears;
pub mod transfer;
pub mod metrics;
pub mod stream;
pub mod stranger;
pub mod wait;

// Frames, and what must become of them.
pub mod packet;
pub mod crafted;
pub mod vectors;
pub mod evasion;
pub mod world;
pub mod knocks;
pub mod rows;
