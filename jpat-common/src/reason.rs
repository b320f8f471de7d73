//! Why a packet passed or was dropped. Numbers are ABI: they index the counters, are never reused, and each doc
//! line is the operator's documentation of that reason.

use crate::grant::{MAX_SERVICES, ServiceId};

/// First number of the drop reasons; pass reasons lie below.
pub const FIRST_DROP: u32 = 32;
/// First number after the drop reasons.
pub const END_DROP: u32 = 96;
/// Added to a drop reason's number where audit mode let the packet pass.
pub const AUDIT_OFFSET: u32 = END_DROP - FIRST_DROP;
/// Counters of one service: pass, drop, would-drop.
pub const SLOTS: u32 = END_DROP + AUDIT_OFFSET;
/// Entries of the counters table.
pub const COUNTER_ENTRIES: u32 = SLOTS * MAX_SERVICES;

/// Index into the counters table; `slot` is a reason's number, plus [`AUDIT_OFFSET`] for a would-drop.
#[inline(always)]
#[must_use]
pub const fn counter_index(service: ServiceId, slot: u32) -> u32 {
    service * SLOTS + slot
}

macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $text:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum $name {
            $($(#[doc = $doc])+ $variant = $number,)+
        }

        impl $name {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable code: metric label, audit field and documentation anchor.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// The operator's documentation of this reason.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+),)+
                }
            }

            /// Its number in the counters table.
            #[inline(always)]
            #[must_use]
            pub const fn number(self) -> u32 {
                self as u32
            }
        }
    };
}

reasons! {
    /// Why a packet went on to the stack.
    PassReason {
        /// Neither IPv4 nor IPv6 nor anything that could carry them here (ARP, LLDP, spanning tree).
        NotIp = 1, "not_ip";
        /// Sent to a destination that is not judged: forwarded traffic, or another host's.
        OtherDestination = 2, "other_destination";
        /// TCP or UDP to a port that no service lists.
        UnprotectedPort = 3, "unprotected_port";
        /// ICMP or ICMPv6, neighbour discovery included.
        Icmp = 4, "icmp";
        /// An IP protocol without ports that JPAT protects (SCTP, IGMP, OSPF, …).
        OtherProtocol = 5, "other_protocol";
        /// A tunnel (ESP, GRE, IPIP, 6in4, …) while `tunnels = "pass"`.
        Tunnel = 6, "tunnel";
        /// A fragment that is not the first: it can only complete a datagram whose first fragment passed.
        LaterFragment = 7, "later_fragment";
        /// From a prefix in `always_allow`.
        AlwaysAllow = 8, "always_allow";
        /// Under a live grant.
        Grant = 9, "grant";
        /// On a flow that was opened under a grant.
        Flow = 10, "flow";
    }
}

reasons! {
    /// Why a packet did not reach the stack, or in audit mode would not have.
    DropReason {
        /// For a protected port, and the source has no grant.
        NoGrant = 32, "no_grant";
        /// For a protected port, and the source's grant has ended.
        GrantEnded = 33, "grant_ended";
        /// For a protected port, and the source's grant was revoked with its generation.
        GrantRevoked = 34, "grant_revoked";
        /// For a protected port, and the source's grant lasts longer than the program allows any to.
        GrantTooLong = 35, "grant_too_long";
        /// First fragment of a segment or datagram for a protected port.
        FirstFragment = 36, "first_fragment";
        /// First fragment that does not hold its whole transport header.
        TinyFragment = 37, "tiny_fragment";
        /// Frame ends inside the Ethernet header or a VLAN tag.
        TruncatedL2 = 38, "truncated_l2";
        /// Frame ends inside the IP header.
        TruncatedL3 = 39, "truncated_l3";
        /// Frame or IP packet ends inside the transport header.
        TruncatedL4 = 40, "truncated_l4";
        /// IP version differs from the EtherType, or IPv4 header length is below 20 bytes.
        BadIpHeader = 41, "bad_ip_header";
        /// IP length is below its headers' length or above the frame's.
        BadIpLength = 42, "bad_ip_length";
        /// More than two VLAN tags.
        TooManyTags = 43, "too_many_tags";
        /// MPLS, PPPoE, LLC/SNAP or another encapsulation below IP that could carry IP to a protected port.
        L2Encapsulation = 44, "l2_encapsulation";
        /// More than six extension headers (IPv6, or AH in IPv4).
        TooManyExtensions = 45, "too_many_extensions";
        /// Extension header (IPv6, or AH in IPv4) cut off.
        TruncatedExtension = 46, "truncated_extension";
        /// IPv6 routing header of type 0 (RFC 5095).
        RoutingHeader0 = 47, "routing_header_0";
        /// Second IPv6 fragment header.
        SecondFragmentHeader = 48, "second_fragment_header";
        /// Later IPv6 fragment that a stack would answer with a Parameter Problem (RFC 8200 §4.5).
        MalformedFragment = 49, "malformed_fragment";
        /// A tunnel to a judged destination while `tunnels = "drop"`.
        Tunnel = 50, "tunnel";
        /// TCP header length below 20 bytes or beyond the packet, for a protected port.
        BadTcpHeader = 51, "bad_tcp_header";
        /// UDP length below 8 bytes or beyond the packet, for a protected port.
        BadUdpLength = 52, "bad_udp_length";
        /// IPv6 packet with an IPv4-mapped address, which the tables would take for that IPv4 address.
        MappedAddress = 53, "mapped_address";
        /// On a flow that was silent for longer than `flow_idle`, or that its client never confirmed, without a live grant.
        FlowIdle = 54, "flow_idle";
        /// On a flow that lasted longer than `flow_max`, without a live grant.
        FlowMaxAge = 55, "flow_max_age";
        /// On a flow that was revoked with its generation, without a live grant.
        FlowRevoked = 56, "flow_revoked";
        /// Opens a connection under a live grant, and the flow table is full.
        FlowsFull = 57, "flows_full";
        /// Opens a connection under a live grant that has as many flows as `limits.flows_per_grant` allows.
        FlowsPerGrant = 58, "flows_per_grant";
        /// A knock that was handed to the controller. The datagram itself goes no further.
        KnockQueued = 64, "knock_queued";
        /// A sealed knock that found its ring full.
        KnockRingFull = 65, "knock_ring_full";
        /// A knock without a payload.
        KnockEmpty = 66, "knock_empty";
        /// A knock of more than 1232 bytes.
        KnockTooLong = 67, "knock_too_long";
        /// A knock from an address that never gets a grant: unspecified, loopback, link-local, multicast or broadcast.
        KnockBadSource = 68, "knock_bad_source";
        /// First fragment of a datagram for the knock port.
        KnockFragmented = 69, "knock_fragmented";
        /// For the knock port, with a UDP length below 8 bytes or beyond the packet.
        KnockBadLength = 70, "knock_bad_length";
        /// For the knock port, and it begins as neither form of knock does.
        KnockNoForm = 71, "knock_no_form";
        /// A bare knock, and no issuer accepts any.
        KnockBareRefused = 72, "knock_bare_refused";
        /// A bare knock beyond `limits.bare_per_second`.
        KnockBareBudget = 73, "knock_bare_budget";
        /// A bare knock that found its ring full.
        KnockBareRingFull = 74, "knock_bare_ring_full";
        /// A sealed knock of fewer than 128 bytes, or not a multiple of 8.
        KnockSealedLength = 75, "knock_sealed_length";
        /// A sealed knock of another version, or a reply.
        KnockVersion = 76, "knock_version";
        /// A sealed knock under a knock key that this host does not have.
        KnockUnknownKey = 77, "knock_unknown_key";
        /// A sealed knock whose time is more than 300 seconds from this host's.
        KnockTime = 78, "knock_time";
        /// A sealed knock that was here before.
        KnockTagSeen = 79, "knock_tag_seen";
        /// A sealed knock whose tag does not verify.
        KnockBadTag = 80, "knock_bad_tag";
        /// A sealed knock beyond what its knock key's group may send in a second.
        KnockBudget = 81, "knock_budget";
    }
}

impl DropReason {
    /// Whether the packet was for the knock port, and so is taken from the stack in audit mode as well.
    #[must_use]
    pub const fn is_knock(self) -> bool {
        self.number() >= Self::KnockQueued.number()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_distinct_ordered_and_in_their_range() {
        assert!(PassReason::ALL.windows(2).all(|w| w[0].number() < w[1].number()));
        assert!(DropReason::ALL.windows(2).all(|w| w[0].number() < w[1].number()));
        assert!(PassReason::ALL.iter().all(|r| (1..FIRST_DROP).contains(&r.number())));
        assert!(DropReason::ALL.iter().all(|r| (FIRST_DROP..END_DROP).contains(&r.number())));
        assert_eq!(counter_index(MAX_SERVICES - 1, SLOTS - 1), COUNTER_ENTRIES - 1);
    }

    #[test]
    fn codes_are_snake_case_and_documented() {
        for (code, doc) in PassReason::ALL
            .iter()
            .map(|r| (r.as_str(), r.doc()))
            .chain(DropReason::ALL.iter().map(|r| (r.as_str(), r.doc())))
        {
            assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{code}");
            assert!(doc.ends_with('.'), "{code}: {doc}");
        }
    }
}
