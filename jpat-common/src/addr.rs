//! IP addresses as the 16 bytes that every map key uses.

/// An IPv6 address, or an IPv4 address in its IPv4-mapped form `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2), network order.
pub type Addr = [u8; 16];

/// Prefix bits in front of an IPv4 address in its mapped form: an IPv4 prefix of `n` bits is `n + 96` here.
pub const V4_MAPPED_BITS: u32 = 96;

/// Maps an IPv4 address in network order into the common form.
#[inline(always)]
#[must_use]
pub const fn from_v4(v4: [u8; 4]) -> Addr {
    // As one number: twelve bytes filled in one by one become a call of `memset` in the program.
    (0xffff_0000_0000 | u32::from_be_bytes(v4) as u128).to_be_bytes()
}

/// Whether the address is IPv4 in its mapped form.
#[inline(always)]
#[must_use]
pub const fn is_v4(addr: &Addr) -> bool {
    number(addr) >> 32 == 0xffff
}

/// The mask of a prefix of `bits` (at most 128) bits over the 16-byte form.
#[must_use]
pub const fn mask(bits: u8) -> Addr {
    let mut mask = [0; 16];
    let mut at = 0;
    while at < 16 {
        let covered = (bits as usize).saturating_sub(at * 8);
        mask[at] = if covered >= 8 { 0xff } else { !(0xffu8 >> covered) };
        at += 1;
    }
    mask
}

/// Clears the bits of `addr` outside `mask`.
#[inline(always)]
#[must_use]
pub const fn masked(addr: &Addr, mask: &Addr) -> Addr {
    (u128::from_ne_bytes(*addr) & u128::from_ne_bytes(*mask)).to_ne_bytes()
}

/// Whether the address is a group or the limited broadcast address: 224.0.0.0/4, 255.255.255.255, `ff00::/8`.
#[inline(always)]
#[must_use]
pub const fn is_group(addr: &Addr) -> bool {
    if is_v4(addr) { v4_bits(addr) >> 28 == 0xe || v4_bits(addr) == u32::MAX } else { number(addr) >> 120 == 0xff }
}

/// Whether the address means the host that reads it: 0.0.0.0/8, 127.0.0.0/8, `::`, `::1` (RFC 6890 §2.2.2). Linux takes
/// a packet from and to 0.0.0.0 as a broadcast, and with `route_localnet` one to 127.0.0.0/8 from any device.
#[inline(always)]
#[must_use]
pub const fn is_this_host(addr: &Addr) -> bool {
    if is_v4(addr) { matches!(v4_bits(addr) >> 24, 0 | 127) } else { number(addr) <= 1 }
}

/// Whether the address is link-local: 169.254.0.0/16, `fe80::/10`.
#[inline(always)]
#[must_use]
pub const fn is_link_local(addr: &Addr) -> bool {
    if is_v4(addr) { v4_bits(addr) >> 16 == 0xa9fe } else { number(addr) >> 118 == 0xfe80 >> 6 }
}

/// Whether a source may get a grant: a group, the host itself and a link-local address never do.
#[inline(always)]
#[must_use]
pub const fn may_hold_grants(addr: &Addr) -> bool {
    !is_group(addr) && !is_this_host(addr) && !is_link_local(addr)
}

/// The last four bytes, which are the IPv4 address of a mapped one.
#[inline(always)]
const fn v4_bits(addr: &Addr) -> u32 {
    number(addr) as u32
}

/// All bytes in one number: looked at one by one, they lie on the program's stack one by one.
#[inline(always)]
const fn number(addr: &Addr) -> u128 {
    u128::from_be_bytes(*addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_cut_at_the_bit() {
        assert_eq!(mask(0), [0; 16]);
        assert_eq!(mask(128), [0xff; 16]);
        assert_eq!(mask(12)[..3], [0xff, 0xf0, 0]);
        let v4 = from_v4([192, 0, 2, 77]);
        assert_eq!(masked(&v4, &mask(96 + 24)), from_v4([192, 0, 2, 0]));
        assert!(is_v4(&v4) && !is_v4(&[0; 16]));
    }
    #[test]
    fn only_ordinary_sources_may_hold_grants() {
        for v4 in [[192, 0, 2, 1], [223, 255, 255, 255], [240, 0, 0, 1], [169, 253, 0, 1], [10, 0, 0, 1]] {
            assert!(may_hold_grants(&from_v4(v4)), "{v4:?}");
        }
        for v4 in [[0, 0, 0, 0], [127, 0, 0, 1], [169, 254, 1, 1], [224, 0, 0, 1], [239, 9, 9, 9], [255; 4]] {
            assert!(!may_hold_grants(&from_v4(v4)), "{v4:?}");
        }
        for (head, tail, may) in [
            ([0x20, 0x01], 1, true),
            ([0xfd, 0], 1, true),
            ([0xfe, 0xc0], 1, true),
            ([0, 0], 2, true),
            ([0, 0], 1, false),
            ([0, 0], 0, false),
            ([0xfe, 0x80], 1, false),
            ([0xfe, 0xbf], 1, false),
            ([0xff, 0x02], 1, false),
        ] {
            let mut v6 = [0; 16];
            (v6[0], v6[1], v6[15]) = (head[0], head[1], tail);
            assert_eq!(may_hold_grants(&v6), may, "{v6:?}");
        }
    }
}
