//! Grants: who may reach which service until when.

use crate::{
    addr::{Addr, masked},
    reason::DropReason,
};

/// Most services one instance can have: ids are `1..MAX_SERVICES`, 0 means "no service".
pub const MAX_SERVICES: u32 = 256;

/// Entries of the grant map that each possible CPU may hold back, and that live grants therefore leave free: a full LRU
/// map evicts live entries (`LOCAL_FREE_TARGET` in kernel/bpf/bpf_lru_list.c).
pub const HEADROOM_PER_CPU: u32 = 128;

/// Number of a service, kept by name through reloads and restarts. 0 stands for "no service".
pub type ServiceId = u32;

/// Key of the grant map: a source prefix and a service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(C)]
pub struct GrantKey {
    source: Addr,
    service: ServiceId,
}

impl GrantKey {
    /// The key of the prefix that `source` falls into under `mask` (see [`crate::settings::ServiceRule`]).
    #[inline(always)]
    #[must_use]
    pub const fn new(source: &Addr, mask: &Addr, service: ServiceId) -> Self {
        Self { source: masked(source, mask), service }
    }

    /// First address of the granted prefix.
    #[must_use]
    pub const fn source(&self) -> &Addr {
        &self.source
    }

    /// The service the grant opens.
    #[must_use]
    pub const fn service(&self) -> ServiceId {
        self.service
    }
}

/// Value of the grant map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct GrantValue {
    end_ns: u64,
    generation: u32,
    flags: u32,
}

impl GrantValue {
    /// A grant that ends at `end_ns` (`CLOCK_BOOTTIME`, nanoseconds), valid in `generation` only.
    #[must_use]
    pub const fn new(end_ns: u64, generation: u32) -> Self {
        Self { end_ns, generation, flags: 0 }
    }

    /// End in nanoseconds of `CLOCK_BOOTTIME`, which goes on through suspend.
    #[inline(always)]
    #[must_use]
    pub const fn end_ns(&self) -> u64 {
        self.end_ns
    }

    /// Generation in which it was written; a raised generation in the settings revokes it.
    #[inline(always)]
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether the grant opens at `now_ns` (`CLOCK_BOOTTIME`): of the live generation, not ended, and not longer
    /// than `max_ttl_ns` from now, so that a wrong write cannot open for ever.
    #[inline(always)]
    #[must_use]
    pub const fn is_live(&self, now_ns: u64, generation: u32, max_ttl_ns: u64) -> bool {
        self.refusal(now_ns, generation, max_ttl_ns).is_none()
    }

    /// Why the grant does not open at `now_ns`, or `None` where it is live (see [`is_live`](Self::is_live)).
    #[inline(always)]
    #[must_use]
    pub const fn refusal(&self, now_ns: u64, generation: u32, max_ttl_ns: u64) -> Option<DropReason> {
        if self.generation != generation {
            return Some(DropReason::GrantRevoked);
        }
        if self.end_ns <= now_ns {
            return Some(DropReason::GrantEnded);
        }
        if self.end_ns - now_ns > max_ttl_ns {
            return Some(DropReason::GrantTooLong);
        }
        None
    }
}

crate::pod!(GrantKey, GrantValue);

const _: () = {
    assert!(size_of::<GrantKey>() == 20 && align_of::<GrantKey>() == 4);
    assert!(core::mem::offset_of!(GrantKey, service) == 16);
    assert!(size_of::<GrantValue>() == 16);
    assert!(core::mem::offset_of!(GrantValue, generation) == 8);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p3_a_grant_is_live_only_before_its_end_in_its_generation_and_under_the_cap() {
        let grant = GrantValue::new(1_000, 7);
        assert!(grant.is_live(999, 7, 1_000));
        assert!(!grant.is_live(1_000, 7, 1_000), "the end itself is over");
        assert!(!grant.is_live(2_000, 7, 1_000));
        assert!(!grant.is_live(999, 8, 1_000), "another generation");
        assert!(!grant.is_live(0, 7, 999), "longer than the cap");
    }
}
