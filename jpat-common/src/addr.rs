//! IP addresses as the 16 bytes that every map key uses.

/// An IPv6 address, or an IPv4 address in its IPv4-mapped form `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2), network order.
pub type Addr = [u8; 16];

/// Prefix bits in front of an IPv4 address in its mapped form: an IPv4 prefix of `n` bits is `n + 96` here.
pub const V4_MAPPED_BITS: u32 = 96;

/// Maps an IPv4 address in network order into the common form.
#[inline(always)]
#[must_use]
pub const fn from_v4(v4: [u8; 4]) -> Addr {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}

/// Whether the address is IPv4 in its mapped form.
#[inline(always)]
#[must_use]
pub const fn is_v4(addr: &Addr) -> bool {
    let [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ..] = *addr else {
        return false;
    };
    true
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
}
