//! The bits that say which sources can have a grant, kept in step with the map of grants: set before, cleared after.

use std::collections::BTreeSet;

use aya::maps::{Array, MapData};
use jpat_common::{grant::GrantKey, hints, map_name};

use super::{DataPathError, Tables};

const NONE: hints::Row = [0; 128];

/// The keys in the map, by their bit.
#[derive(Default)]
pub(super) struct Hinted(BTreeSet<(u32, GrantKey)>);

impl Hinted {
    fn has(&self, bit: u32) -> bool {
        self.0.range((bit, GrantKey::LEAST)..).next().is_some_and(|(next, _)| *next == bit)
    }
}

impl Tables {
    /// Brings the bits in step with what an earlier controller left in the map.
    pub(super) fn restore_hints(&mut self) -> Result<(), DataPathError> {
        let grants = self.grants()?;
        self.hinted = Hinted(grants.iter().map(|(key, _)| (hints::bit(key), *key)).collect());
        let mut wanted = vec![NONE; hints::ROWS as usize];
        for (bit, _) in &self.hinted.0 {
            if let Some(row) = wanted.get_mut(hints::row(*bit) as usize) {
                row[hints::word(*bit)] |= hints::mask(*bit);
            }
        }
        let mut table = self.hints_mut()?;
        for (index, row) in (0..).zip(wanted) {
            if table.get(&index, 0).map_err(failed)? != row {
                table.set(index, row, 0).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Before a grant is written.
    pub(super) fn hint(&mut self, key: &GrantKey) -> Result<(), DataPathError> {
        let bit = hints::bit(key);
        if !self.hinted.has(bit) {
            let mut table = self.hints_mut()?;
            let mut row = table.get(&hints::row(bit), 0).map_err(failed)?;
            row[hints::word(bit)] |= hints::mask(bit);
            table.set(hints::row(bit), row, 0).map_err(failed)?;
        }
        self.hinted.0.insert((bit, *key));
        Ok(())
    }

    /// After a grant was deleted.
    pub(super) fn forget_hint(&mut self, key: &GrantKey) -> Result<(), DataPathError> {
        let bit = hints::bit(key);
        if !self.hinted.0.remove(&(bit, *key)) || self.hinted.has(bit) {
            return Ok(());
        }
        let mut table = self.hints_mut()?;
        let mut row = table.get(&hints::row(bit), 0).map_err(failed)?;
        row[hints::word(bit)] &= !hints::mask(bit);
        table.set(hints::row(bit), row, 0).map_err(failed)
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
    fn p4_a_bit_is_kept_until_the_last_key_on_it_is_gone() {
        let key = |last| GrantKey::new(&addr::from_v4([192, 0, 2, last]), &addr::mask(128), 1);
        let mut hinted = Hinted::default();
        hinted.0.extend([(7, key(1)), (7, key(2)), (9, key(3))]);
        assert!(hinted.has(7) && !hinted.has(8) && hinted.has(9) && !hinted.has(10));
        hinted.0.remove(&(7, key(1)));
        assert!(hinted.has(7));
        hinted.0.remove(&(7, key(2)));
        assert!(!hinted.has(7) && hinted.has(9));
    }
}
