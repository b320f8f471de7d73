//! Keys that come and go, budgets, and the wall clock.

use std::{thread::sleep, time::Duration};

use anyhow::{Result, ensure};
use jpat_common::{
    map_name,
    reason::DropReason,
    sealed::{BARE_BUDGET, Budget},
};
use jpat_ebpf::verdict::Verdict;
use jpat_tests::knocks::{FOREIGN, GUESTS, STAFF, STAFF_NEXT, Sealed, TagKey, WALL_OFFSET_NS};

use super::{BARE, NONE, Stage, Way, drop, fresh};
use crate::{Case, kernel};

pub(super) const CASES: &[Case] = &[
    ("p5_keys_come_and_go_while_the_program_runs", rotated),
    ("p5_without_a_wall_clock_no_sealed_knock_is_taken", without_clock),
    ("p5_a_wall_clock_that_is_set_moves_the_window", clock_steps),
    ("p5_a_budget_is_its_group_s_own_and_refills", budgets),
    ("p5_what_is_refused_takes_nothing_from_a_budget", refused_is_free),
];

const MILLISECOND: u64 = 1_000_000;

fn rotated() -> Result<()> {
    let mut stage = Stage::new(map_name::PROGRAM)?;
    let unknown = drop(DropReason::KnockUnknownKey);
    stage.send(Way::V4, &fresh(FOREIGN, 160)?.bytes(), unknown, "before it is known")?;
    stage.kernel.write_key(&FOREIGN)?;
    stage.send(Way::V4, &fresh(FOREIGN, 160)?.bytes(), Verdict::Knock, "when it is known")?;
    stage.send(Way::V4, &fresh(STAFF, 160)?.bytes(), Verdict::Knock, "the old one beside it")?;
    let captured = fresh(STAFF, 160)?.bytes();
    stage.kernel.remove_key(&STAFF)?;
    stage.send(Way::V4, &captured, unknown, "the old one, gone")?;
    stage.send(Way::V4, &fresh(STAFF_NEXT, 160)?.bytes(), Verdict::Knock, "another of that group")?;
    // Under its id comes another secret.
    stage.kernel.write_key(&TagKey { secret: GUESTS.secret, ..STAFF })?;
    stage.send(Way::V4, &captured, drop(DropReason::KnockBadTag), "the old secret")?;
    let again = TagKey { secret: GUESTS.secret, ..STAFF };
    stage.send(Way::V4, &fresh(again, 160)?.bytes(), Verdict::Knock, "the new secret")?;
    // A group beyond the table has no budget.
    stage.kernel.write_key(&TagKey { group: 256, ..GUESTS })?;
    stage.send(Way::V4, &fresh(GUESTS, 160)?.bytes(), drop(DropReason::KnockBudget), "a group beyond the table")
}

fn without_clock() -> Result<()> {
    let mut stage = Stage::new(map_name::PROGRAM)?;
    stage.kernel.write_array(map_name::WALL_CLOCK, [(&0, &0_u64)])?;
    let time = drop(DropReason::KnockTime);
    stage.send(Way::V4, &fresh(STAFF, 160)?.bytes(), time, "a time of day")?;
    let by_boot = Sealed { time_ms: kernel::boot_ns()? / MILLISECOND, ..fresh(STAFF, 160)? };
    stage.send(Way::V4, &by_boot.bytes(), time, "the time since boot")?;
    stage.send(Way::V4, BARE, Verdict::Knock, "a bare knock, which has no time")?;
    stage.kernel.write_array(map_name::WALL_CLOCK, [(&0, &WALL_OFFSET_NS)])?;
    stage.send(Way::V4, &fresh(STAFF, 160)?.bytes(), Verdict::Knock, "when the clock is known")
}

fn clock_steps() -> Result<()> {
    let mut stage = Stage::new(map_name::PROGRAM)?;
    let hour = 3_600 * 1_000 * MILLISECOND;
    let captured = fresh(STAFF, 160)?;
    stage.kernel.write_array(map_name::WALL_CLOCK, [(&0, &(WALL_OFFSET_NS + hour))])?;
    stage.send(Way::V4, &captured.bytes(), drop(DropReason::KnockTime), "an hour ahead")?;
    stage.send(Way::V4, &captured.clone().shifted(3_600_000).bytes(), Verdict::Knock, "of that hour")?;
    stage.kernel.write_array(map_name::WALL_CLOCK, [(&0, &(WALL_OFFSET_NS - hour))])?;
    stage.send(Way::V4, &captured.bytes(), drop(DropReason::KnockTime), "an hour behind")?;
    stage.kernel.write_array(map_name::WALL_CLOCK, [(&0, &WALL_OFFSET_NS)])?;
    stage.send(Way::V4, &captured.bytes(), Verdict::Knock, "at its own time")
}

fn budgets() -> Result<()> {
    let mut stage = Stage::new(map_name::PROGRAM)?;
    let three = Budget { interval_ns: 400 * MILLISECOND, burst_ns: 1_200 * MILLISECOND, next_ns: 0 };
    stage.set_budget(STAFF.group, three)?;
    let begin_ns = kernel::boot_ns()?;
    let (mut taken, mut refused) = (0, 0);
    while refused == 0 {
        // The next key of the group has the same budget.
        let knock = fresh(if taken % 2 == 0 { STAFF } else { STAFF_NEXT }, 160)?.bytes();
        stage.kernel.run_program(stage.program, &Way::V4.carry(&knock, stage.program))?;
        let records = stage.kernel.knocks()?.len();
        (taken, refused) = (taken + records, refused + 1 - records);
    }
    let elapsed = usize::try_from((kernel::boot_ns()? - begin_ns) / three.interval_ns)?;
    ensure!((3..=3 + elapsed).contains(&taken), "{taken} were taken at once");
    stage.send(Way::V4, &fresh(GUESTS, 160)?.bytes(), Verdict::Knock, "the other group")?;
    stage.send(Way::V4, BARE, Verdict::Knock, "bare knocks")?;
    let free_ns = stage.kernel.budget(STAFF.group)?.next_ns - three.burst_ns + three.interval_ns;
    sleep(Duration::from_nanos(free_ns.saturating_sub(kernel::boot_ns()?)));
    stage.send(Way::V4, &fresh(STAFF, 160)?.bytes(), Verdict::Knock, "when there is room for one more")?;
    stage.set_budget(STAFF.group, NONE)?;
    stage.send(Way::V4, &fresh(STAFF, 160)?.bytes(), drop(DropReason::KnockBudget), "a group that may not")
}

/// Whoever has no key of a group takes nothing from it, and neither does a repeat.
fn refused_is_free() -> Result<()> {
    let mut stage = Stage::new(map_name::PROGRAM)?;
    let knock = fresh(STAFF, 160)?.bytes();
    stage.send(Way::V4, &knock, Verdict::Knock, "a sound knock")?;
    let before = [BARE_BUDGET, STAFF.group, GUESTS.group].map(|group| stage.kernel.budget(group).ok());
    for _ in 0..10 {
        for (what, payload, verdict) in super::refused()? {
            stage.send(Way::V4, &payload, verdict, what)?;
        }
        stage.send(Way::V4, &knock, drop(DropReason::KnockTagSeen), "the same again")?;
    }
    let after = [BARE_BUDGET, STAFF.group, GUESTS.group].map(|group| stage.kernel.budget(group).ok());
    ensure!(before == after, "budgets moved from {before:?} to {after:?}");
    Ok(())
}
