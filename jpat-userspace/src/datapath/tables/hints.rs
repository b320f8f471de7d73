//! The bits that say which sources can have a grant, kept in step with the map of grants: set before, cleared after.

use std::collections::BTreeSet;

use aya::maps::{Array, MapData};
use jpat_common::{grant::GrantKey, hints, map_name};

use super::{DataPathError, Tables};

const NONE: hints::Row = [0; 128];

/// The keys in the map, by their bit, and the rows as they were written: nobody else writes them.
#[derive(Default)]
pub(super) struct Hinted {
    keys: BTreeSet<(u32, GrantKey)>,
    rows: Vec<hints::Row>,
}

impl Hinted {
    fn has(&self, bit: u32) -> bool {
        self.keys.range((bit, GrantKey::LEAST)..).next().is_some_and(|(next, _)| *next == bit)
    }

    /// Changes one bit, if its row can be written.
    fn change<E>(
        &mut self,
        bit: u32,
        is_set: bool,
        write: impl FnOnce(u32, &hints::Row) -> Result<(), E>,
    ) -> Result<(), E> {
        self.rows.resize(hints::ROWS as usize, NONE);
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
        let grants = self.grants()?;
        let keys: BTreeSet<_> = grants.iter().map(|(key, _)| (hints::bit(key), *key)).collect();
        let mut rows = vec![NONE; hints::ROWS as usize];
        for (bit, _) in &keys {
            if let Some(row) = rows.get_mut(hints::row(*bit) as usize) {
                row[hints::word(*bit)] |= hints::mask(*bit);
            }
        }
        let mut table = self.hints_mut()?;
        for (index, row) in (0..).zip(&rows) {
            if table.get(&index, 0).map_err(failed)? != *row {
                table.set(index, row, 0).map_err(failed)?;
            }
        }
        self.hinted = Hinted { keys, rows };
        Ok(())
    }

    /// Before a grant is written.
    pub(super) fn hint(&mut self, key: &GrantKey) -> Result<(), DataPathError> {
        let bit = hints::bit(key);
        if !self.hinted.has(bit) {
            self.write_hint(bit, true)?;
        }
        self.hinted.keys.insert((bit, *key));
        Ok(())
    }

    /// After a grant was deleted.
    pub(super) fn forget_hint(&mut self, key: &GrantKey) -> Result<(), DataPathError> {
        let bit = hints::bit(key);
        if !self.hinted.keys.remove(&(bit, *key)) || self.hinted.has(bit) {
            return Ok(());
        }
        self.write_hint(bit, false)
    }

    fn write_hint(&mut self, bit: u32, is_set: bool) -> Result<(), DataPathError> {
        let mut hinted = std::mem::take(&mut self.hinted);
        let written = self
            .hints_mut()
            .and_then(|mut table| hinted.change(bit, is_set, |index, row| table.set(index, row, 0).map_err(failed)));
        self.hinted = hinted;
        written
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
    use std::collections::BTreeMap;

    use jpat_common::addr;

    use super::*;

    #[test]
    fn p4_a_row_is_written_with_all_its_bits_and_a_failed_write_changes_none() {
        let (mut hinted, mut map) = (Hinted::default(), BTreeMap::new());
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
        let key = |last| GrantKey::new(&addr::from_v4([192, 0, 2, last]), &addr::mask(128), 1);
        let mut hinted = Hinted::default();
        hinted.keys.extend([(7, key(1)), (7, key(2)), (9, key(3))]);
        assert!(hinted.has(7) && !hinted.has(8) && hinted.has(9) && !hinted.has(10));
        hinted.keys.remove(&(7, key(1)));
        assert!(hinted.has(7));
        hinted.keys.remove(&(7, key(2)));
        assert!(!hinted.has(7) && hinted.has(9));
    }
}
