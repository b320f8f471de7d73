//! Single addresses whose packets are judged: a hash table over an array, because an array is looked up without a call.
//! The controller is its only writer.

use crate::addr::Addr;

/// Buckets of the table.
pub const BUCKETS: u32 = 1024;

/// Addresses of one bucket. What finds no room in it goes into the trie of prefixes.
pub const BUCKET_ADDRESSES: usize = 4;

/// One bucket: a cache line. The zero address stands for a free place; packets to it are judged in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C, align(8))]
pub struct Bucket {
    addresses: [Addr; BUCKET_ADDRESSES],
}

/// The bucket of an address.
#[inline(always)]
#[must_use]
pub const fn bucket_index(address: &Addr) -> u32 {
    let address = u128::from_ne_bytes(*address);
    // Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, §6.4).
    let mixed = (address as u64 ^ (address >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (64 - BUCKETS.trailing_zeros())) as u32
}

impl Bucket {
    /// Whether the address is here.
    #[inline(always)]
    #[must_use]
    pub fn contains(&self, address: &Addr) -> bool {
        let address = u128::from_ne_bytes(*address);
        self.addresses.iter().any(|&here| u128::from_ne_bytes(here) == address)
    }

    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = &Addr> {
        self.addresses.iter().filter(|address| **address != [0; 16])
    }

    /// Puts the address here; `false` where there is no room. What else is here stays where it is, so that a reader at
    /// the same time misses nothing.
    #[must_use]
    pub fn insert(&mut self, address: &Addr) -> bool {
        if self.contains(address) {
            return true;
        }
        let free = self.addresses.iter_mut().find(|place| **place == [0; 16]);
        free.map(|place| *place = *address).is_some()
    }

    /// Takes every address away that is not to stay.
    pub fn retain(&mut self, stays: impl Fn(&Addr) -> bool) {
        for place in &mut self.addresses {
            if !stays(place) {
                *place = [0; 16];
            }
        }
    }
}

crate::pod!(Bucket);

const _: () = {
    assert!(size_of::<Bucket>() == 64 && align_of::<Bucket>() == 8);
    assert!(BUCKETS.is_power_of_two());
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::from_v4;

    #[test]
    fn a_bucket_holds_four_addresses_and_moves_none() {
        let mut bucket = Bucket::default();
        let address = |last| from_v4([192, 0, 2, last]);
        assert!((1..=4).all(|last| bucket.insert(&address(last))));
        assert!(!bucket.insert(&address(5)) && bucket.insert(&address(4)));
        let before = bucket;
        bucket.retain(|place| *place != address(2));
        assert!(!bucket.contains(&address(2)) && bucket.addresses().count() == 3);
        assert!(bucket.insert(&address(5)));
        assert!([0, 2, 3].into_iter().all(|place| bucket.addresses[place] == before.addresses[place]));
    }

    #[test]
    fn neighbours_spread_over_the_buckets() {
        let mut counts = [0u8; BUCKETS as usize];
        for last in 0..=255 {
            for third in 0..4 {
                counts[bucket_index(&from_v4([192, 0, third, last])) as usize] += 1;
            }
        }
        assert!(counts.iter().all(|&count| count <= 4), "at most {:?}", counts.iter().max());
    }
}
