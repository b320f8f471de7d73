//! The bits that say which sources can have a grant, kept in step with the map of grants.
//!
//! A write costs a system call for each row. So a few rows are written at once; where many grants begin together the program
//! is told to do without hints, and all rows are written in one go a moment later: as long as grants come so fast, drops cost
//! a look-up more. What a bit says too much does no harm, and waits for that as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aya::maps::{Array, MapData};
use jpat_common::{grant::GrantKey, hints, map_name, settings::FLAG_GRANT_HINTS};

use super::{DataPathError, Tables};
use crate::{
    clock::BootTime,
    table::{self, Table},
};

const NONE: hints::Row = [0; 128];

/// Rows that are written at once.
const FEW: usize = 8;
/// How long other rows wait.
const PAUSE: Duration = Duration::from_millis(100);

/// The keys in the map, and the rows as they should be: nobody else writes them.
pub(super) struct Hinted {
    keys: Table<GrantKey, ()>,
    /// Bits of several keys: how many more than one.
    more: BTreeMap<u32, u32>,
    rows: Vec<hints::Row>,
    /// Rows that lack a bit in the table.
    lacking: BTreeSet<u32>,
    /// Rows with a bit too many.
    excessive: BTreeSet<u32>,
    /// The program does without hints.
    is_suspended: bool,
    /// When the rows that wait are written.
    due: Option<BootTime>,
}

/// What to do next.
#[derive(PartialEq, Eq, Debug)]
enum Step {
    /// The table is as good as it has to be.
    Nothing,
    /// Have the program do without hints.
    Suspend,
    /// Write these rows.
    Write(Vec<u32>),
    /// Have the program go by hints again.
    Resume,
}

impl Hinted {
    pub(super) fn new() -> Self {
        Self { keys: table::large(), rows: vec![NONE; hints::ROWS as usize], ..Self::none() }
    }

    /// What stands for it while it is at work.
    fn none() -> Self {
        Self {
            keys: table::empty(),
            more: BTreeMap::new(),
            rows: Vec::new(),
            lacking: BTreeSet::new(),
            excessive: BTreeSet::new(),
            is_suspended: false,
            due: None,
        }
    }

    /// A key that comes into the map.
    fn add(&mut self, key: &GrantKey) {
        if self.keys.insert(*key, ()).is_some() {
            return;
        }
        let bit = hints::bit(key);
        let Some(word) = self.word(bit) else { return };
        if *word & hints::mask(bit) != 0 {
            *self.more.entry(bit).or_default() += 1;
        } else {
            *word |= hints::mask(bit);
            self.lacking.insert(hints::row(bit));
        }
    }

    /// A key that is gone from the map.
    fn remove(&mut self, key: &GrantKey) {
        if self.keys.remove(key).is_none() {
            return;
        }
        let bit = hints::bit(key);
        match self.more.get_mut(&bit) {
            Some(1) => {
                self.more.remove(&bit);
            }
            Some(more) => *more -= 1,
            None => {
                let Some(word) = self.word(bit) else { return };
                *word &= !hints::mask(bit);
                self.excessive.insert(hints::row(bit));
            }
        }
    }

    fn word(&mut self, bit: u32) -> Option<&mut u64> {
        self.rows.get_mut(hints::row(bit) as usize)?.get_mut(hints::word(bit))
    }

    fn next_step(&mut self, now: BootTime) -> Step {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due || !self.is_suspended {
            if !is_due && self.lacking.len() > FEW {
                return Step::Suspend;
            }
            let waiting = self.lacking.iter().chain(self.excessive.iter().filter(|_| is_due));
            let rows: BTreeSet<_> = waiting.copied().collect();
            if !rows.is_empty() {
                return Step::Write(rows.into_iter().collect());
            }
            if self.is_suspended {
                return Step::Resume;
            }
        }
        self.due = match self.lacking.is_empty() && self.excessive.is_empty() {
            true => None,
            false => Some(self.due.unwrap_or_else(|| now.after(PAUSE))),
        };
        Step::Nothing
    }

    /// Takes the steps that there are. Where a row cannot be written, the program does without hints.
    fn follow<E>(
        &mut self,
        now: BootTime,
        mut take: impl FnMut(&Step, &[hints::Row]) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let mut step = self.next_step(now);
            let mut taken = match step {
                Step::Nothing => return Ok(()),
                Step::Suspend | Step::Write(_) | Step::Resume => take(&step, &self.rows),
            };
            if taken.is_err() && !self.is_suspended && step != Step::Suspend {
                step = Step::Suspend;
                taken = take(&step, &self.rows);
            }
            if step == Step::Suspend || taken.is_err() {
                self.due = Some(self.due.filter(|due| *due > now).unwrap_or_else(|| now.after(PAUSE)));
            }
            taken?;
            self.took(&step);
        }
    }

    fn took(&mut self, step: &Step) {
        match step {
            Step::Nothing => {}
            Step::Suspend => self.is_suspended = true,
            Step::Write(rows) => {
                for row in rows {
                    self.lacking.remove(row);
                    self.excessive.remove(row);
                }
            }
            Step::Resume => (self.is_suspended, self.due) = (false, None),
        }
    }
}

impl Tables {
    /// Brings the bits in step with what an earlier controller left in the map.
    pub(super) fn restore_hints(&mut self) -> Result<(), DataPathError> {
        self.hinted = Hinted::new();
        for (key, _) in self.grants()? {
            self.hinted.add(&key);
        }
        let table = self.hints_mut()?;
        let held: Vec<_> =
            (0..hints::ROWS).map(|index| table.get(&index, 0)).collect::<Result<_, _>>().map_err(failed)?;
        let hinted = &mut self.hinted;
        hinted.lacking = (0..)
            .zip(held.iter().zip(&hinted.rows))
            .filter(|(_, (is, to_be))| is != to_be)
            .map(|(index, _)| index)
            .collect();
        self.finish_hints()
    }

    /// A grant comes into the map.
    pub(super) fn hint(&mut self, key: &GrantKey) {
        self.hinted.add(key);
    }

    /// A grant is gone from the map.
    pub(super) fn forget_hint(&mut self, key: &GrantKey) {
        self.hinted.remove(key);
    }

    /// Makes the grants effective that were written since the last call. Others wait until [`Self::hints_due`].
    ///
    /// # Errors
    /// The kernel's refusal: the program may refuse what was granted. A later call tries again.
    pub fn write_hints(&mut self, now: BootTime) -> Result<(), DataPathError> {
        let mut hinted = std::mem::replace(&mut self.hinted, Hinted::none());
        let written = hinted.follow(now, |step, rows| self.take(step, rows));
        self.hinted = hinted;
        written
    }

    /// Brings all rows in step, for whoever comes next.
    ///
    /// # Errors
    /// The kernel's refusal; then the program does without hints.
    pub fn finish_hints(&mut self) -> Result<(), DataPathError> {
        self.hinted.due = Some(BootTime(0));
        self.write_hints(BootTime(0))
    }

    fn take(&mut self, step: &Step, rows: &[hints::Row]) -> Result<(), DataPathError> {
        match step {
            Step::Nothing => Ok(()),
            Step::Suspend => self.use_hints(false),
            Step::Resume => self.use_hints(true),
            Step::Write(indices) => {
                let mut table = self.hints_mut()?;
                let mut rows = indices.iter().filter_map(|index| Some((index, rows.get(*index as usize)?)));
                rows.try_for_each(|(index, row)| table.set(*index, row, 0)).map_err(failed)
            }
        }
    }

    /// When [`Self::write_hints`] has something to do.
    #[must_use]
    pub const fn hints_due(&self) -> Option<BootTime> {
        self.hinted.due
    }

    /// Whether the program goes by hints.
    pub const fn has_hints(&self) -> bool {
        !self.hinted.is_suspended
    }

    fn use_hints(&mut self, are_used: bool) -> Result<(), DataPathError> {
        let mut settings = self.settings()?;
        settings.flags = match are_used {
            true => settings.flags | FLAG_GRANT_HINTS,
            false => settings.flags & !FLAG_GRANT_HINTS,
        };
        self.write_settings(&settings)
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

    fn keys() -> impl Iterator<Item = GrantKey> {
        (0..)
            .map(|number: u32| GrantKey::new(&addr::from_v4((0x0a00_0000 | number).to_be_bytes()), &addr::mask(128), 1))
    }

    /// Takes the steps on a table, and says which they were.
    fn follow(hinted: &mut Hinted, table: &mut [hints::Row], now: u64) -> Vec<&'static str> {
        let steps = follow_where(hinted, table, now, |_| true);
        steps.0.unwrap();
        steps.1
    }

    /// The same where only some steps succeed.
    fn follow_where(
        hinted: &mut Hinted,
        table: &mut [hints::Row],
        now: u64,
        succeeds: impl Fn(&Step) -> bool,
    ) -> (Result<(), ()>, Vec<&'static str>) {
        let mut steps = Vec::new();
        let followed = hinted.follow(BootTime(now), |step, rows| {
            if !succeeds(step) {
                return Err(());
            }
            steps.push(match step {
                Step::Nothing => "nothing",
                Step::Suspend => "suspend",
                Step::Resume => "resume",
                Step::Write(indices) => {
                    indices.iter().for_each(|index| table[*index as usize] = rows[*index as usize]);
                    "write"
                }
            });
            Ok(())
        });
        (followed, steps)
    }

    fn is_hinted(table: &[hints::Row], key: &GrantKey) -> bool {
        let bit = hints::bit(key);
        table[hints::row(bit) as usize][hints::word(bit)] & hints::mask(bit) != 0
    }

    #[test]
    fn p4_a_bit_is_kept_until_the_last_key_on_it_is_gone() {
        let mut by_bit = BTreeMap::new();
        let mut keys = keys();
        // Two keys that fall on one bit come after a thousand or so.
        let first_two = keys.find_map(|key| by_bit.insert(hints::bit(&key), key).map(|other| (other, key)));
        let (first, second) = first_two.unwrap();
        let third = keys.find(|key| hints::bit(key) == hints::bit(&first)).unwrap();
        let (mut hinted, mut table) = (Hinted::new(), vec![NONE; hints::ROWS as usize]);
        for key in [first, first, second, third, second] {
            hinted.add(&key);
            follow(&mut hinted, &mut table, 0);
            assert!(is_hinted(&table, &key));
        }
        for (key, is_set) in [(second, true), (second, true), (first, true), (third, false), (third, false)] {
            hinted.remove(&key);
            // It may wait, but not for ever.
            follow(&mut hinted, &mut table, 0);
            follow(&mut hinted, &mut table, u64::MAX);
            assert_eq!(is_hinted(&table, &key), is_set);
        }
        assert!(hinted.keys.is_empty() && hinted.more.is_empty() && table.iter().flatten().all(|word| *word == 0));
    }

    #[test]
    fn p4_whatever_comes_and_goes_no_key_lacks_its_bit_while_hints_are_in_use() {
        let all: Vec<_> = keys().take(400).collect();
        let (mut hinted, mut table) = (Hinted::new(), vec![NONE; hints::ROWS as usize]);
        let mut seen = BTreeSet::new();
        let mut held = BTreeSet::new();
        for turn in 0..2_000_usize {
            // From one key at a time to forty, and back.
            let count = 1 + (turn % 80).abs_diff(40);
            for at in 0..count {
                let key = all[(turn * 7 + at * 13) % all.len()];
                if held.remove(&key) {
                    hinted.remove(&key);
                } else {
                    held.insert(key);
                    hinted.add(&key);
                }
            }
            let now = turn as u64 * 30_000_000;
            seen.extend(follow(&mut hinted, &mut table, now));
            assert!(hinted.is_suspended || held.iter().all(|key| is_hinted(&table, key)), "turn {turn}");
            assert_eq!(hinted.due.is_some(), !hinted.lacking.is_empty() || !hinted.excessive.is_empty());
        }
        assert_eq!(seen, BTreeSet::from(["resume", "suspend", "write"]));
        follow(&mut hinted, &mut table, u64::MAX);
        assert!(!hinted.is_suspended && hinted.due.is_none() && table == hinted.rows);
    }

    #[test]
    fn few_rows_are_written_at_once_and_many_after_a_pause() {
        let (mut hinted, mut table) = (Hinted::new(), vec![NONE; hints::ROWS as usize]);
        let mut keys = keys();
        hinted.add(&keys.next().unwrap());
        assert_eq!(follow(&mut hinted, &mut table, 0), ["write"]);
        keys.by_ref().take(200).for_each(|key| hinted.add(&key));
        assert_eq!(follow(&mut hinted, &mut table, 0), ["suspend"]);
        hinted.add(&keys.next().unwrap());
        assert_eq!(follow(&mut hinted, &mut table, PAUSE.as_nanos() as u64 - 1), [""; 0]);
        assert_eq!(follow(&mut hinted, &mut table, PAUSE.as_nanos() as u64), ["write", "resume"]);
        assert_eq!(hinted.due, None);
        hinted.remove(&self::keys().next().unwrap());
        assert_eq!(follow(&mut hinted, &mut table, PAUSE.as_nanos() as u64), [""; 0], "it does no harm");
        assert_eq!(follow(&mut hinted, &mut table, 2 * PAUSE.as_nanos() as u64), ["write"]);
        assert_eq!((hinted.due, table), (None, hinted.rows));
    }

    #[test]
    fn p4_where_a_row_cannot_be_written_the_program_does_without_hints() {
        let (mut hinted, mut table) = (Hinted::new(), vec![NONE; hints::ROWS as usize]);
        let pause = PAUSE.as_nanos() as u64;
        let key = keys().next().unwrap();
        let no_row = |step: &Step| !matches!(step, Step::Write(_));
        hinted.add(&key);
        assert_eq!(follow_where(&mut hinted, &mut table, 0, no_row), (Ok(()), vec!["suspend"]));
        assert!(hinted.is_suspended && !is_hinted(&table, &key));
        assert_eq!(hinted.due, Some(BootTime(pause)));
        assert_eq!(follow_where(&mut hinted, &mut table, pause, no_row), (Err(()), vec![]));
        assert_eq!(hinted.due, Some(BootTime(2 * pause)), "not at once");
        assert_eq!(follow(&mut hinted, &mut table, 2 * pause), ["write", "resume"]);
        assert!(is_hinted(&table, &key) && !hinted.is_suspended);
    }

    #[test]
    fn p4_where_the_program_cannot_be_told_rows_are_tried_in_time() {
        let (mut hinted, mut table) = (Hinted::new(), vec![NONE; hints::ROWS as usize]);
        let pause = PAUSE.as_nanos() as u64;
        keys().take(200).for_each(|key| hinted.add(&key));
        let no_settings = |step: &Step| matches!(step, Step::Write(_));
        for now in 0..3 {
            assert_eq!(follow_where(&mut hinted, &mut table, now, no_settings), (Err(()), vec![]));
            assert_eq!(hinted.due, Some(BootTime(pause)), "calls in between put nothing off");
        }
        assert_eq!(follow_where(&mut hinted, &mut table, pause, no_settings), (Ok(()), vec!["write"]));
        assert!(table == hinted.rows && hinted.due.is_none() && !hinted.is_suspended);
    }
}
