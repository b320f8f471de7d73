//! Flows: connections that were opened under a grant and outlive it.
//!
//! One entry is one direction, client to host: the program sees nothing else. It opens entries and keeps their times;
//! the controller removes them.

use crate::{addr::Addr, grant::ServiceId, reason::DropReason, settings::ServiceRule};

/// How long a flow may stay embryonic: opened, and not confirmed by the client. Nanoseconds.
pub const EMBRYONIC_NS: u64 = 10_000_000_000;

/// Opened by a SYN or a first datagram, and not confirmed yet.
pub const STATE_EMBRYONIC: u32 = 1;
/// Confirmed by the client's ACK or second datagram, or adopted.
pub const STATE_ESTABLISHED: u32 = 2;

/// The client sent a FIN or RST. It says nothing certain, because anybody can forge one: the controller asks the
/// host's own sockets.
pub const FLAG_CLOSING: u32 = 1 << 0;
/// The connection stood when enforcement began. It counts also where the service cuts sessions.
pub const FLAG_ADOPTED: u32 = 1 << 1;

/// Key of the flow map: one direction of one connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct FlowKey {
    source: Addr,
    destination: Addr,
    source_port: [u8; 2],
    destination_port: [u8; 2],
    /// And three zero bytes.
    protocol: [u8; 4],
}

impl FlowKey {
    /// The flow from `source` to `destination`; ports in network order, `protocol` an IANA number.
    #[inline(always)]
    #[must_use]
    pub const fn new(
        source: Addr,
        source_port: [u8; 2],
        destination: Addr,
        destination_port: [u8; 2],
        protocol: u8,
    ) -> Self {
        // As one number: bytes filled in one by one become a call of `memset` in the program.
        Self { source, destination, source_port, destination_port, protocol: (protocol as u32).to_le_bytes() }
    }

    /// The client's address.
    #[must_use]
    pub const fn source(&self) -> &Addr {
        &self.source
    }

    /// The host's address.
    #[must_use]
    pub const fn destination(&self) -> &Addr {
        &self.destination
    }

    /// The client's port, host order.
    #[must_use]
    pub const fn source_port(&self) -> u16 {
        u16::from_be_bytes(self.source_port)
    }

    /// The host's port, host order.
    #[must_use]
    pub const fn destination_port(&self) -> u16 {
        u16::from_be_bytes(self.destination_port)
    }

    /// IANA number of the transport protocol.
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        self.protocol[0]
    }
}

/// Value of the flow map. All times are nanoseconds of `CLOCK_BOOTTIME`, as precise as a timer tick.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct FlowValue {
    /// When it was opened.
    pub opened_ns: u64,
    /// When its last packet came.
    pub seen_ns: u64,
    /// The service it was opened for.
    pub service: ServiceId,
    /// Generation in which it was opened; a raised generation in the settings revokes it.
    pub generation: u32,
    /// [`STATE_EMBRYONIC`] or [`STATE_ESTABLISHED`].
    pub state: u32,
    /// `FLAG_*` bits.
    pub flags: u32,
}

impl FlowValue {
    /// A flow of `service` that begins at `now_ns`.
    #[inline(always)]
    #[must_use]
    pub const fn new(now_ns: u64, service: ServiceId, generation: u32, state: u32) -> Self {
        Self { opened_ns: now_ns, seen_ns: now_ns, service, generation, state, flags: 0 }
    }

    /// A connection that stood before enforcement began.
    #[must_use]
    pub const fn adopted(now_ns: u64, service: ServiceId, generation: u32) -> Self {
        Self { flags: FLAG_ADOPTED, ..Self::new(now_ns, service, generation, STATE_ESTABLISHED) }
    }

    /// Why the flow admits nothing at `now_ns` under this rule and generation, or `None` where it is live.
    #[inline(always)]
    #[must_use]
    pub const fn refusal(&self, now_ns: u64, generation: u32, rule: &ServiceRule) -> Option<DropReason> {
        if self.generation != generation {
            return Some(DropReason::FlowRevoked);
        }
        // Another CPU may have stamped a tick that this one has not seen yet.
        let age = now_ns.saturating_sub(self.opened_ns);
        if age >= rule.flow_max_ns {
            return Some(DropReason::FlowMaxAge);
        }
        let (idle, limit) = if self.state == STATE_ESTABLISHED {
            (now_ns.saturating_sub(self.seen_ns), rule.flow_idle_ns)
        } else {
            (age, EMBRYONIC_NS)
        };
        if idle >= limit { Some(DropReason::FlowIdle) } else { None }
    }
}

crate::pod!(FlowKey, FlowValue);

const _: () = {
    assert!(size_of::<FlowKey>() == 40 && align_of::<FlowKey>() == 1);
    assert!(size_of::<FlowValue>() == 32 && align_of::<FlowValue>() == 8);
    assert!(core::mem::offset_of!(FlowValue, seen_ns) == 8);
    assert!(core::mem::offset_of!(FlowValue, service) == 16);
    assert!(core::mem::offset_of!(FlowValue, state) == 24);
};

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rule() -> ServiceRule {
        ServiceRule { flow_idle_ns: 50 * SECOND, flow_max_ns: 100 * SECOND, ..ServiceRule::default() }
    }

    #[test]
    fn p3_an_embryonic_flow_lives_ten_seconds_from_its_opening() {
        let flow = FlowValue { seen_ns: 9 * SECOND, ..FlowValue::new(0, 3, 7, STATE_EMBRYONIC) };
        assert_eq!(flow.refusal(EMBRYONIC_NS - 1, 7, &rule()), None);
        assert_eq!(flow.refusal(EMBRYONIC_NS, 7, &rule()), Some(DropReason::FlowIdle));
    }

    #[test]
    fn p3_an_established_flow_ends_idle_too_old_or_revoked() {
        let flow = FlowValue { seen_ns: 40 * SECOND, ..FlowValue::new(0, 3, 7, STATE_ESTABLISHED) };
        assert_eq!(flow.refusal(89 * SECOND, 7, &rule()), None);
        assert_eq!(flow.refusal(90 * SECOND, 7, &rule()), Some(DropReason::FlowIdle));
        assert_eq!(flow.refusal(50 * SECOND, 8, &rule()), Some(DropReason::FlowRevoked));
        let seen = FlowValue { seen_ns: 99 * SECOND, ..flow };
        assert_eq!(seen.refusal(100 * SECOND - 1, 7, &rule()), None);
        assert_eq!(seen.refusal(100 * SECOND, 7, &rule()), Some(DropReason::FlowMaxAge));
        assert_eq!(seen.refusal(98 * SECOND, 7, &rule()), None, "a clock that is a tick behind");
    }
}
