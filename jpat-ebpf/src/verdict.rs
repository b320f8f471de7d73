//! What becomes of a packet, and the only table from that to XDP actions.

use jpat_common::{
    grant::ServiceId,
    reason::{AUDIT_OFFSET, DropReason, PassReason},
    settings::{MODE_AUDIT, Settings},
};

/// `XDP_ABORTED` (`include/uapi/linux/bpf.h`): dropped, with a trace event.
pub const XDP_ABORTED: u32 = 0;
/// `XDP_DROP`.
pub const XDP_DROP: u32 = 1;
/// `XDP_PASS`.
pub const XDP_PASS: u32 = 2;

/// What becomes of a packet, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Verdict {
    /// It goes on to the stack.
    Pass(PassReason),
    /// It ends here; in audit mode it would have.
    Drop(DropReason),
    /// It is handed to the controller and goes no further.
    Knock,
}

/// A verdict, and the service that the packet was for (0: none).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Decision {
    /// The service whose counter it moves.
    pub service: ServiceId,
    /// What becomes of the packet.
    pub verdict: Verdict,
}

/// How a packet leaves: the counter's slot and the XDP action.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exit {
    /// Slot among the service's counters.
    pub slot: u32,
    /// `XDP_PASS` or `XDP_DROP`.
    pub action: u32,
}

impl Verdict {
    /// How a packet with this verdict leaves. Audit mode lets everything go on but what was for the knock port.
    #[inline(always)]
    #[must_use]
    pub const fn exit(self, settings: &Settings) -> Exit {
        match self {
            Self::Pass(reason) => Exit { slot: reason.number(), action: XDP_PASS },
            Self::Drop(reason) if settings.mode == MODE_AUDIT && !reason.is_knock() => {
                Exit { slot: reason.number() + AUDIT_OFFSET, action: XDP_PASS }
            }
            Self::Drop(reason) => Exit { slot: reason.number(), action: XDP_DROP },
            Self::Knock => Exit { slot: DropReason::KnockQueued.number(), action: XDP_DROP },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_audit_mode_lets_a_drop_go_on_and_never_a_knock() {
        for mode in [0, 1, MODE_AUDIT, 3] {
            let settings = Settings { mode, ..Settings::default() };
            for &reason in DropReason::ALL {
                let exit = Verdict::Drop(reason).exit(&settings);
                let audited = mode == MODE_AUDIT && !reason.is_knock();
                assert_eq!(exit.action == XDP_PASS, audited, "{reason:?} in mode {mode}");
                assert_eq!(exit.slot, reason.number() + if audited { AUDIT_OFFSET } else { 0 });
            }
            assert_eq!(Verdict::Knock.exit(&settings).action, XDP_DROP);
        }
    }
}
