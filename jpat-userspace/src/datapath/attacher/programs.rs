//! The programs of the object, loaded as they are needed.

use aya::{Ebpf, programs::Xdp};
use jpat_common::map_name::{PROGRAM, PROGRAM_FRAGS, PROGRAM_L3};

use super::{
    super::{error::DataPathError, interfaces::LinkLayer},
    refused::{Cause, Refused},
};

/// The loaded object without its maps.
pub(super) struct Programs {
    ebpf: Ebpf,
    /// Why the kernel does not take the program for frames of several buffers.
    no_fragments: Option<Cause>,
}

impl Programs {
    /// Loads the program for Ethernet: the one for frames of several buffers, or before Linux 5.18 the other.
    pub(super) fn load(ebpf: Ebpf) -> Result<Self, DataPathError> {
        let mut programs = Self { ebpf, no_fragments: None };
        if let Err(error) = programs.named(PROGRAM_FRAGS)?.load() {
            programs.no_fragments = Some(Cause::of(&error));
            programs.named(PROGRAM)?.load().map_err(DataPathError::verifier)?;
        }
        Ok(programs)
    }

    /// Names of the programs that can judge such packets, the best first. Not one of them may go on another device.
    pub(super) const fn candidates(&self, link_layer: LinkLayer) -> &'static [&'static str] {
        match (link_layer, &self.no_fragments) {
            (LinkLayer::Ethernet, None) => &[PROGRAM_FRAGS, PROGRAM],
            (LinkLayer::Ethernet, Some(_)) => &[PROGRAM],
            (LinkLayer::Ip, _) => &[PROGRAM_L3],
        }
    }

    /// A loaded program and the kernel's id of it.
    pub(super) fn loaded(&mut self, name: &str) -> Result<(&mut Xdp, u32), Refused> {
        let missing = |error: DataPathError| Refused::Program { program: name.to_owned(), cause: Cause::of(&error) };
        let program = self.named(name).map_err(missing)?;
        if program.fd().is_err() {
            program.load().map_err(|error| Refused::program(name, &error))?;
        }
        let id = program.info().map_err(|error| Refused::program(name, &error))?.id();
        Ok((program, id))
    }

    /// What this kernel does without.
    pub(super) fn degraded(&self) -> Vec<String> {
        let fragments = self.no_fragments.as_ref().map(|cause| {
            format!(
                "this kernel takes no XDP program for frames of several buffers ({cause}): interfaces with a large MTU \
                 are protected in generic mode"
            )
        });
        fragments.into_iter().collect()
    }

    #[cfg(feature = "debug-log")]
    pub(super) const fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    fn named(&mut self, name: &str) -> Result<&mut Xdp, DataPathError> {
        let program = self.ebpf.program_mut(name).ok_or_else(|| DataPathError::NoProgram(name.to_owned()))?;
        program.try_into().map_err(DataPathError::verifier)
    }
}
