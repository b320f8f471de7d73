//! What a public key must be to be trusted at all.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};

use super::error::KeyFault;

/// Refuses RSA keys by size, exponent, parity and the ROCA fingerprint. Both numbers are big-endian, without leading zeros.
///
/// # Errors
/// [`KeyFault::RsaSize`], [`KeyFault::RsaExponent`], [`KeyFault::RsaModulus`], [`KeyFault::Roca`].
pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), KeyFault> {
    let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) {
        return Err(KeyFault::RsaSize(bits));
    }
    // FIPS 186-5 §A.1.1 for the lower bound; the library takes 33 bits at most.
    let value =
        if exponent.len() <= 5 { exponent.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)) } else { 0 };
    if value % 2 == 0 || !(65_537..1 << 33).contains(&value) {
        return Err(KeyFault::RsaExponent);
    }
    if modulus.last().is_none_or(|last| last % 2 == 0) {
        return Err(KeyFault::RsaModulus);
    }
    if roca(modulus) {
        return Err(KeyFault::Roca);
    }
    let components = RsaPublicKeyComponents { n: modulus, e: exponent };
    match components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256) {
        Ok(_) => Ok(()),
        Err(_rejected) => Err(KeyFault::RsaModulus),
    }
}

/// Refuses what is not a P-256 point; SEC 1 form or SubjectPublicKeyInfo.
///
/// # Errors
/// [`KeyFault::NotOnCurve`].
pub fn p256(key: &[u8]) -> Result<(), KeyFault> {
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).map_or(Err(KeyFault::NotOnCurve("P-256")), |_| Ok(()))
}

/// Refuses what is not a P-384 point; SEC 1 form or SubjectPublicKeyInfo.
///
/// # Errors
/// [`KeyFault::NotOnCurve`].
pub fn p384(key: &[u8]) -> Result<(), KeyFault> {
    ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key).map_or(Err(KeyFault::NotOnCurve("P-384")), |_| Ok(()))
}

/// Refuses what is not an Ed25519 point, one of low order, and a second spelling of one (RFC 8032 §5.1.3: y is below p); 32 bytes or SubjectPublicKeyInfo, which ends with them.
///
/// # Errors
/// [`KeyFault::NotOnCurve`], [`KeyFault::LowOrder`].
pub fn ed25519(key: &[u8]) -> Result<(), KeyFault> {
    if ParsedPublicKey::new(&ED25519, key).is_err() {
        return Err(KeyFault::NotOnCurve("Ed25519"));
    }
    let mut point = *key.last_chunk::<32>().ok_or(KeyFault::NotOnCurve("Ed25519"))?;
    point[31] &= 0x7f;
    if LOW_ORDER.contains(&point) {
        return Err(KeyFault::LowOrder);
    }
    let is_below_p = point[0] < 0xed || point[1..31] != [0xff; 30] || point[31] != 0x7f;
    if is_below_p { Ok(()) } else { Err(KeyFault::NotOnCurve("Ed25519")) }
}

/// Every encoding of the y coordinates of points of order 1, 2, 4 and 8, without the sign bit (RFC 8032 §5.1.2).
#[rustfmt::skip]
const LOW_ORDER: [[u8; 32]; 7] = [
    y(0x00, 0x00, 0x00),
    y(0x01, 0x00, 0x00),
    y(0xec, 0xff, 0x7f),
    y(0xed, 0xff, 0x7f),
    y(0xee, 0xff, 0x7f),
    [0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
     0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05],
    [0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
     0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a],
];

const fn y(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

/// Primes modulo which the powers of 65537 are few. Keys of the flawed generator are such a power modulo each of them; of other
/// keys one in 2^27 is (Nemec et al., "The Return of Coppersmith's Attack", CCS 2017, §2.2).
const ROCA_PRIMES: [u32; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];

fn roca(modulus: &[u8]) -> bool {
    ROCA_PRIMES.iter().all(|prime| {
        let rest = modulus.iter().fold(0, |rest, byte| (rest << 8 | u32::from(*byte)) % prime);
        let powers = std::iter::successors(Some(1), |power| Some(power * (65_537 % prime) % prime));
        powers.take(*prime as usize).any(|power| power == rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_order_points_are_refused_with_either_sign() {
        for point in LOW_ORDER {
            for sign in [0, 0x80] {
                let mut point = point;
                point[31] |= sign;
                assert_eq!(ed25519(&point), Err(KeyFault::LowOrder), "{point:02x?}");
            }
        }
        assert_eq!(ed25519(&[9; 31]), Err(KeyFault::NotOnCurve("Ed25519")));
    }

    #[test]
    fn a_point_has_one_spelling() {
        for first in 0xef..=0xff {
            for sign in [0x7f, 0xff] {
                let mut point = y(first, 0xff, 0x7f);
                point[31] |= sign;
                assert_eq!(ed25519(&point), Err(KeyFault::NotOnCurve("Ed25519")), "{point:02x?}");
            }
        }
        assert!((0xd0..0xec).any(|first| ed25519(&y(first, 0xff, 0x7f)).is_ok()));
    }

    #[test]
    fn rsa_sizes_and_exponents() {
        let odd = |bytes: usize, first: u8| {
            let mut modulus = vec![0xa5; bytes];
            modulus[0] = first;
            modulus
        };
        let f4 = [1, 0, 1];
        assert_eq!(rsa(&[], &f4), Err(KeyFault::RsaSize(0)));
        assert_eq!(rsa(&odd(128, 0xff), &f4), Err(KeyFault::RsaSize(1024)));
        assert_eq!(rsa(&odd(256, 0x7f), &f4), Err(KeyFault::RsaSize(2047)));
        assert_eq!(rsa(&odd(1025, 0x01), &f4), Err(KeyFault::RsaSize(8193)));
        assert_eq!(rsa(&odd(256, 0x80), &f4), Ok(()));
        let weak: [&[u8]; 7] = [&[], &[1], &[3], &[0x11], &[1, 0, 0], &[2, 0, 0, 0, 1], &[1, 0, 0, 0, 0, 1]];
        for exponent in weak {
            assert_eq!(rsa(&odd(256, 0x80), exponent), Err(KeyFault::RsaExponent), "{exponent:?}");
        }
        let mut even = odd(256, 0x80);
        even[255] = 0xa4;
        assert_eq!(rsa(&even, &f4), Err(KeyFault::RsaModulus));
    }

    #[test]
    fn roca_is_a_power_modulo_every_prime() {
        // 65537^3 has the fingerprint by construction; its successors do not.
        let cube: u64 = 65_537_u64.pow(3);
        assert!(roca(&cube.to_be_bytes()));
        assert!((1..10_000).all(|step| !roca(&(cube + step).to_be_bytes())));
    }
}
