//! A named evasion: its frames, and what becomes of them.

use jpat_common::reason::{DropReason, PassReason};
use jpat_ebpf::verdict::Verdict;

use super::shot::{Kind, Shot};

/// How far a case gets into the host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Reach {
    /// The program dropped it.
    Nothing,
    /// A packet socket saw a frame; the stack did not take it.
    Device,
    /// The stack delivered it to TCP or UDP.
    Transport,
    /// A listener got it, or TCP answered.
    Service,
}

type Frames = Box<dyn Fn(&Shot) -> Vec<Vec<u8>> + Send + Sync>;

/// One evasion.
pub(crate) struct Case {
    pub(crate) name: String,
    frames: Frames,
    /// What the program makes of its frames when they are for a protected port.
    pub(crate) judged: Vec<Verdict>,
    /// How far it gets on a host without the program.
    pub(crate) open: Reach,
    /// How far it gets with the program when it is for an unprotected port.
    pub(crate) free: Reach,
    /// Whether it carries UDP, and so can be for the knock port.
    pub(crate) is_udp: bool,
}

impl Case {
    /// A case that is dropped when it is for a protected port, and reaches a service otherwise.
    pub(crate) fn new(
        name: impl Into<String>,
        kind: Kind,
        judged: DropReason,
        frame: impl Fn(&Shot) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self::of_several(name, kind, &[Verdict::Drop(judged)], move |shot| vec![frame(shot)])
    }

    /// As [`Self::new`], with a verdict for each frame.
    pub(crate) fn of_several(
        name: impl Into<String>,
        kind: Kind,
        judged: &[Verdict],
        frames: impl Fn(&Shot) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: format!("{}_{}", kind.name(), name.into()),
            frames: Box::new(frames),
            judged: judged.to_vec(),
            open: Reach::Service,
            free: Reach::Service,
            is_udp: !kind.is_tcp,
        }
    }

    /// It gets only so far, program or not.
    pub(crate) fn reaches(self, open: Reach) -> Self {
        Self { open, free: open, ..self }
    }

    /// The program drops it whatever port it is for.
    pub(crate) fn lost(self) -> Self {
        Self { free: Reach::Nothing, ..self }
    }

    /// With the program, for an unprotected port, it gets only so far.
    pub(crate) fn free(self, free: Reach) -> Self {
        Self { free, ..self }
    }

    /// It would not be a knock at the knock port either.
    pub(crate) fn no_knock(self) -> Self {
        Self { is_udp: false, ..self }
    }

    pub(crate) fn frames(&self, shot: &Shot) -> Vec<Vec<u8>> {
        (self.frames)(shot)
    }

    /// Frames that pass the program though the case is for a protected port.
    pub(crate) fn passing(&self) -> usize {
        self.judged.iter().filter(|verdict| matches!(verdict, Verdict::Pass(_))).count()
    }
}

/// A verdict on one frame.
pub(crate) const fn drop(reason: DropReason) -> Verdict {
    Verdict::Drop(reason)
}

/// A verdict on one frame.
pub(crate) const fn pass(reason: PassReason) -> Verdict {
    Verdict::Pass(reason)
}
