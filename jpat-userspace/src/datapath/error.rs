//! What can go wrong between the controller and the kernel, each with what to do about it.

use std::{io, path::PathBuf};

use aya::{EbpfError, maps::MapError, programs::ProgramError};
use jpat_common::{ABI_VERSION, settings::MAX_PREFIXES};

use super::attacher::Refused;

/// A failed request to the kernel.
#[derive(Debug, thiserror::Error)]
pub enum DataPathError {
    /// The pin directory is not on a bpffs.
    #[error("{} is not on a BPF file system\n  remedy: mount -t bpf bpf /sys/fs/bpf, or name a directory on one in `pins`; `ip netns exec` hides it, `nsenter --net=` does not", .0.display())]
    NoBpffs(PathBuf),
    /// The pin directory is the root of a BPF file system, which others use as well.
    #[error("`pins` must be a directory of its own, not the root {}\n  remedy: pins = \"{}/jpat\"", .0.display(), .0.display())]
    MountRoot(PathBuf),
    /// The pin directory cannot be made or read.
    #[error("pin directory {}: {source}", path.display())]
    Pins {
        /// The directory or pin.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Pins that this version cannot take over.
    #[error("the pinned map {} has another layout ({found}) than this version knows ({wanted}); what is attached stays as it was\n  remedy: run the version that made it, or give the protection up with `jpatd detach` and start again", path.display())]
    Layout {
        /// The pin.
        path: PathBuf,
        /// Type, key size, value size.
        found: String,
        /// Type, key size, value size.
        wanted: String,
    },
    /// A newer version's program is at work.
    #[error("the pins in {} are of a newer version of JPAT (layout {number}; this one has {ABI_VERSION}); what is attached stays as it was\n  remedy: run that version; or give the protection up with its `jpatd detach`, and start this one again", path.display())]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its layout.
        number: u32,
    },
    /// An older version's program is at work, and nothing is known of its maps.
    #[error("the pins in {} are of layout {number}, which this version cannot take over; what is attached stays as it was\n  remedy: upgrade by way of a version between; or give the protection up with `jpatd detach`, and start again", path.display())]
    Unknown {
        /// The directory.
        path: PathBuf,
        /// Its layout.
        number: u32,
    },
    /// CAP_BPF and CAP_NET_ADMIN are missing.
    #[error(
        "the kernel does not let this process load BPF programs ({0})\n  remedy: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; before Linux 5.11 also without a limit of locked memory (ulimit -l)"
    )]
    Privilege(io::Error),
    /// The object could not be loaded.
    #[error("loading the XDP program")]
    Load(#[source] EbpfError),
    /// The verifier refused the program.
    #[error("the kernel refused the XDP program")]
    Verifier(#[source] ProgramError),
    /// The object lacks its program.
    #[error("the object holds no program `{0}`")]
    NoProgram(String),
    /// The object lacks a map.
    #[error("the object holds no map `{0}`")]
    NoMap(&'static str),
    /// A map operation failed.
    #[error("map {map}")]
    Map {
        /// Its name.
        map: &'static str,
        /// What the system said.
        source: MapError,
    },
    /// A map that changed faster than it could be read.
    #[error("map {0} changed faster than it could be read")]
    Restless(&'static str),
    /// More than the filter's tables hold.
    #[error("more {what} than the {most} that the program knows")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: u32,
    },
    /// No second descriptor of a map.
    #[error("opening a map a second time")]
    Descriptors(#[source] io::Error),
    /// The host's sockets cannot be read.
    #[error("this host's TCP connections cannot be read: {0}\n  remedy: `modprobe tcp_diag`, or mount /proc")]
    Sockets(io::Error),
    /// The devices cannot be listed.
    #[error("listing the network devices")]
    Devices(#[source] io::Error),
    /// The attacher refused an order.
    #[error(transparent)]
    Attacher(#[from] Refused),
    /// A pin was refused.
    #[error("pinning {}", path.display())]
    Pin {
        /// Where to.
        path: PathBuf,
        /// What the system said.
        source: aya::pin::PinError,
    },
    /// Interface addresses cannot be read.
    #[error("reading this host's addresses")]
    Addresses(#[source] io::Error),
    /// More addresses than the destinations table holds.
    #[error("this host has {0} addresses and local prefixes, and the table holds {MAX_PREFIXES}")]
    TooManyAddresses(usize),
}

impl DataPathError {
    pub(crate) fn load(source: EbpfError) -> Self {
        match permission(&source) {
            Some(error) => Self::Privilege(error),
            None => Self::Load(source),
        }
    }

    pub(crate) fn verifier(source: ProgramError) -> Self {
        match permission(&source) {
            Some(error) => Self::Privilege(error),
            None => Self::Verifier(source),
        }
    }

    pub(crate) const fn map(map: &'static str) -> impl FnOnce(MapError) -> Self {
        move |source| Self::Map { map, source }
    }
}

/// The I/O error behind `error`, where it is one of permission. EACCES is the verifier's.
pub(super) fn permission(error: &(dyn std::error::Error + 'static)) -> Option<io::Error> {
    os_error(error).filter(|code| *code == nix::Error::EPERM as i32).map(io::Error::from_raw_os_error)
}

/// The number of the system's error at the root of `error`.
pub(crate) fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        next = error.source();
    }
    None
}
