//! The bits that say which sources can have a grant, kept in step with the map of grants: set before, cleared after.

use std::collections::BTreeMap;

use aya::maps::{Array, MapData};
use jpat_common::{grant::GrantKey, hints, map_name};

use super::{DataPathError, Tables};
use crate::table::{self, Table};

const NONE: hints::Row = [0; 128];

/// The keys in the map, and the rows as they were written: nobody else writes them.
pub(super) struct Hinted {
    keys: Table<GrantKey, ()>,
    /// Bits of several keys: how many more than one.
    more: BTreeMap<u32, u32>,
    rows: Vec<hints::Row>,
}

impl Hinted {
    pub(super) fn new() -> Self {
        Self { keys: table::large(), more: BTreeMap::new(), rows: vec![NONE; hints::ROWS as usize] }
    }

    fn has(&self, bit: u32) -> bool {
        self.rows.get(hints::row(bit) as usize).is_some_and(|row| row[hints::word(bit)] & hints::mask(bit) != 0)
    }

    /// Before a key is in the map.
    fn add<E>(&mut self, key: &GrantKey, write: impl FnOnce(u32, &hints::Row) -> Result<(), E>) -> Result<(), E> {
        if self.keys.contains_key(key) {
            return Ok(());
        }
        let bit = hints::bit(key);
        if self.has(bit) {
            *self.more.entry(bit).or_default() += 1;
        } else {
            self.change(bit, true, write)?;
        }
        self.keys.insert(*key, ());
        Ok(())
    }

    /// After a key is gone from the map. A bit that cannot be cleared says nothing, and stays.
    fn remove<E>(&mut self, key: &GrantKey, write: impl FnOnce(u32, &hints::Row) -> Result<(), E>) -> Result<(), E> {
        if self.keys.remove(key).is_none() {
            return Ok(());
        }
        let bit = hints::bit(key);
        match self.more.get_mut(&bit) {
            None => self.change(bit, false, write),
            Some(1) => {
                self.more.remove(&bit);
                Ok(())
            }
            Some(more) => {
                *more -= 1;
                Ok(())
            }
        }
    }

    /// Changes one bit, if its row can be written.
    fn change<E>(
        &mut self,
        bit: u32,
        is_set: bool,
        write: impl FnOnce(u32, &hints::Row) -> Result<(), E>,
    ) -> Result<(), E> {
        let (index, at, mask) = (hints::row(bit), hints::word(bit), hints::mask(bit));
        let Some(known) = self.rows.get_mut(index as usize) else { return Ok(()) };
        let mut row = *known;
        row[at] = if is_set { row[at] | mask } else { row[at] & !mask };
        write(index, &row)?;
        *known = row;
        Ok(())
    }
}

impl Tables {
    /// Brings the bits in step with what an earlier controller left in the map.
    pub(super) fn restore_hints(&mut self) -> Result<(), DataPathError> {
        let mut hinted = Hinted::new();
        for (key, _) in self.grants()? {
            hinted.add(&key, |_, _| Ok::<_, DataPathError>(()))?;
        }
        let mut table = self.hints_mut()?;
        for (index, row) in (0..).zip(&hinted.rows) {
            if table.get(&index, 0).map_err(failed)? != *row {
                table.set(index, row, 0).map_err(failed)?;
            }
        }
        self.hinted = hinted;
        Ok(())
    }

    /// Before a grant is written.
    pub(super) fn hint(&mut self, key: &GrantKey) -> Result<(), DataPathError> {
        self.with_hints(|hinted, table| hinted.add(key, |index, row| table.set(index, row, 0).map_err(failed)))
    }

    /// After a grant was deleted.
    pub(super) fn forget_hint(&mut self, key: &GrantKey) -> Result<(), DataPathError> {
        self.with_hints(|hinted, table| hinted.remove(key, |index, row| table.set(index, row, 0).map_err(failed)))
    }

    fn with_hints(
        &mut self,
        work: impl FnOnce(&mut Hinted, &mut Array<&mut MapData, hints::Row>) -> Result<(), DataPathError>,
    ) -> Result<(), DataPathError> {
        let map = self.maps.get_mut(map_name::GRANT_HINTS).ok_or(DataPathError::NoMap(map_name::GRANT_HINTS))?;
        work(&mut self.hinted, &mut Array::try_from(map).map_err(failed)?)
    }

    fn hints_mut(&mut self) -> Result<Array<&mut MapData, hints::Row>, DataPathError> {
        Array::try_from(self.map_mut(map_name::GRANT_HINTS)?).map_err(failed)
    }
}

fn failed(error: aya::maps::MapError) -> DataPathError {
    DataPathError::map(map_name::GRANT_HINTS)(error)
}

#[cfg(test)]
mod tests {
    use jpat_common::addr;

    use super::*;

    #[test]
    fn p4_a_row_is_written_with_all_its_bits_and_a_failed_write_changes_none() {
        let (mut hinted, mut map) = (Hinted::new(), BTreeMap::new());
        let bits = [0, 1, 64, (1 << hints::BITS) - 1];
        for bit in bits {
            assert_eq!(hinted.change(bit, true, |_, _| Err("no")), Err("no"));
        }
        for (bit, is_set) in [(0, true), (1, true), (64, true), ((1 << hints::BITS) - 1, true), (1, false)] {
            let write = |index, row: &hints::Row| -> Result<(), &str> {
                map.insert(index, *row);
                Ok(())
            };
            hinted.change(bit, is_set, write).unwrap();
        }
        let is_set = |bit: u32| map[&hints::row(bit)][hints::word(bit)] & hints::mask(bit) != 0;
        assert_eq!(bits.map(is_set), [true, false, true, true]);
        assert_eq!(map.values().flatten().map(|word| word.count_ones()).sum::<u32>(), 3, "and no other");
    }

    #[test]
    fn p4_a_bit_is_kept_until_the_last_key_on_it_is_gone() {
        let mut by_bit = BTreeMap::new();
        let mut keys = (0..).map(|number: u32| {
            GrantKey::new(&addr::from_v4((0x0a00_0000 | number).to_be_bytes()), &addr::mask(128), 1)
        });
        // Three keys that fall on one bit: two of them do after a thousand or so.
        let (first, second) = keys
            .find_map(|key| by_bit.insert(hints::bit(&key), key).map(|other| (other, key)))
            .expect("there are more keys than bits");
        let third = keys.find(|key| hints::bit(key) == hints::bit(&first)).expect("the same");
        let bit = hints::bit(&first);
        let mut hinted = Hinted::new();
        let writes = std::cell::Cell::new(0);
        let mut write = |_: u32, _: &hints::Row| -> Result<(), &str> {
            writes.set(writes.get() + 1);
            Ok(())
        };
        for key in [first, first, second, third, second] {
            hinted.add(&key, &mut write).unwrap();
            assert!(hinted.has(bit));
        }
        for (key, is_set) in [(second, true), (second, true), (first, true), (third, false), (third, false)] {
            hinted.remove(&key, &mut write).unwrap();
            assert_eq!(hinted.has(bit), is_set);
        }
        assert_eq!(writes.get(), 2);
        hinted.add(&first, |_, _| Err("no")).unwrap_err();
        assert!(!hinted.has(bit));
        hinted.add(&first, &mut write).unwrap();
        hinted.remove(&first, |_, _| Err("no")).unwrap_err();
        hinted.add(&first, &mut write).unwrap();
        hinted.remove(&first, &mut write).unwrap();
        assert!(hinted.has(bit), "who knows what the failed write left");
        assert!(hinted.keys.is_empty());
    }
}
