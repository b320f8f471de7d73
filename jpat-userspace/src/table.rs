//! Hash tables of what knocks bring with them: a knock asks them a dozen times, and the standard library's hash would take as
//! long as all the rest of it.

use std::{
    array,
    hash::{BuildHasher as _, RandomState},
    sync::LazyLock,
};

/// Entries that a table has room for from the start: one that grows is copied while everybody waits.
const ROOM: usize = 28_672;

/// A table whose hash is keyed anew in each process, so that nobody can choose keys that collide.
pub(crate) type Table<K, V> = std::collections::HashMap<K, V, ahash::RandomState>;

/// A table without room.
pub(crate) fn empty<K, V>() -> Table<K, V> {
    Table::with_hasher(hasher())
}

/// An empty table for many entries.
pub(crate) fn large<K, V>() -> Table<K, V> {
    Table::with_capacity_and_hasher(ROOM, hasher())
}

fn hasher() -> ahash::RandomState {
    static SEEDS: LazyLock<[u64; 4]> = LazyLock::new(|| array::from_fn(|at| RandomState::new().hash_one(at)));
    let [a, b, c, d] = *SEEDS;
    ahash::RandomState::with_seeds(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_keyed_and_the_same_in_all_tables() {
        assert_eq!(hasher().hash_one("jti"), hasher().hash_one("jti"));
        assert_ne!(hasher().hash_one("jti"), ahash::RandomState::with_seeds(0, 0, 0, 0).hash_one("jti"));
        let mut table = large();
        let room = table.capacity();
        table.extend((0..ROOM).map(|number| (number.to_string(), number)));
        assert_eq!(table.capacity(), room);
        assert_eq!(table.get("77"), Some(&77));
    }
}
