//! Frames, by the structure of packets: a stride through the matrix, recipes of chance with damage, every truncation
//! of one frame, and conversations. What comes depends on the seed alone.

mod damage;
mod draw;
mod knock;
mod recipe;

use super::{
    dice::Dice,
    model::dissect::Start,
    stage::{Program, Stage},
};

/// The kernel takes no shorter frame for a test run.
const SHORTEST: usize = 14;
/// Nor a longer one for a program that is not made for several buffers.
const LONGEST: usize = 3_400;
/// As long a frame as a device with jumbo frames has.
const JUMBO: usize = 9_014;

/// A prime that divides no axis of the matrix: a stride by which every run is a fair sample and a long one complete.
const STRIDE: u64 = 1_000_003;

/// `count` frames for `stage`, of which the first belong to cell `cell` of the stride through the matrix.
pub(crate) fn frames(dice: &mut Dice, stage: &Stage, cell: u64, count: usize) -> Vec<Vec<u8>> {
    let start = stage.program.start();
    let flood = dice.below(15);
    let now_ns = stage.begin_ns;
    let mut frames = Vec::with_capacity(count + 200);
    while frames.len() < count {
        match dice.below(12) {
            // More than a ring holds, of either form.
            _ if flood == 0 => {
                let payload = knock::bare(dice);
                frames.push(draw::knock(dice, payload).make(start, dice).bytes);
            }
            _ if (1..3).contains(&flood) => {
                let payload = knock::fresh(dice, now_ns, frames.len());
                frames.push(draw::knock(dice, payload).make(start, dice).bytes);
            }
            _ if flood == 3 => {
                let payload = knock::payload(dice, now_ns);
                frames.push(draw::knock(dice, payload).make(start, dice).bytes);
            }
            0..3 => {
                for _ in 0..40 {
                    let number = cell.wrapping_add(frames.len() as u64).wrapping_mul(STRIDE);
                    frames.push(draw::cell(number, dice).make(start, dice).bytes);
                }
            }
            3..6 => {
                for _ in 0..40 {
                    let made = draw::any(dice).make(start, dice);
                    frames.push(damage::damaged(made, dice));
                }
            }
            6 => frames.extend(truncations(dice, start)),
            7 => {
                for _ in 0..30 {
                    let payload = knock::payload(dice, now_ns);
                    let made = draw::any_knock(dice, payload).make(start, dice);
                    frames.push(if dice.percent(80) { made.bytes } else { damage::damaged(made, dice) });
                }
            }
            _ => {
                for _ in 0..6 {
                    for recipe in draw::conversation(dice) {
                        let made = recipe.make(start, dice);
                        frames.push(if dice.percent(95) { made.bytes } else { damage::damaged(made, dice) });
                    }
                }
            }
        }
        if stage.program == Program::Frags && dice.percent(20) {
            frames.push(draw::jumbo(dice, JUMBO).make(start, dice).bytes);
        }
    }
    frames.truncate(count);
    let longest = if stage.program == Program::Frags { JUMBO } else { LONGEST };
    for frame in &mut frames {
        frame.truncate(longest);
        if frame.len() < SHORTEST {
            frame.resize(SHORTEST, 0);
        }
    }
    frames
}

/// One frame cut at each byte of its first hundred.
fn truncations(dice: &mut Dice, start: Start) -> Vec<Vec<u8>> {
    let frame = draw::any(dice).make(start, dice).bytes;
    (SHORTEST..frame.len().min(114)).map(|length| frame[..length].to_vec()).collect()
}
